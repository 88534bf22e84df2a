"""docs/tutorial.rst, done by the book: each file is written, each command is run, each answer is as it says there."""
from __future__ import annotations

import fnmatch
import os
import re
import textwrap
from typing import Iterator, List, NamedTuple, Tuple

import pytest
import sandbox
from harness import ROOT

BLOCK = re.compile(r"\.\. code-block:: (\w+)\n(?:   :caption: (\S+)\n)?\n((?:   .*\n|\n)+)")
# These fetch packages.
NETWORK = ("sudo apt-get", "sudo make")
# What the server said: a page tells nobody why a script failed.
LOG = "tail -n 30 /var/log/luafcgid2/*.log"


class Step(NamedTuple):
    """A file to write (`path` and `text`) or a command to run (`text`), and what it says."""

    path: str
    text: str
    answer: str


def tutorial() -> str:
    with open(os.path.join(ROOT, "docs", "tutorial.rst"), encoding="utf-8") as file:
        return file.read()


def commands(text: str) -> Iterator[Tuple[str, str]]:
    """Command and answer of each prompt of a console block."""
    assert text.startswith("$ ")
    for part in text[2:].split("\n$ "):
        command, _, answer = part.partition("\n")
        yield command, answer.strip("\n")


def steps() -> List[Step]:
    """Everything that the tutorial tells to do, in its order."""
    found = []
    for language, path, text in BLOCK.findall(tutorial()):
        text = textwrap.dedent(text).strip("\n") + "\n"
        if path:
            found.append(Step(path, text, ""))
        else:
            assert language == "console"
            found += [Step("", command, answer) for command, answer in commands(text)]
    return found


def agrees(actual: str, expected: str) -> bool:
    """`...` stands for anything; no expected answer at all means that there is none."""
    pattern = "".join("*" if part == "..." else re.sub(r"([\[*?])", r"[\1]", part)
                      for part in re.split(r"(\.\.\.)", expected))
    return fnmatch.fnmatchcase(actual.strip("\n"), pattern) or fnmatch.fnmatchcase(actual, pattern)


def test_no_block_of_the_tutorial_is_left_out():
    assert tutorial().count(".. code-block::") == len(BLOCK.findall(tutorial())) > 8
    assert "literalinclude" not in tutorial() and "::\n\n    " not in tutorial()


def test_an_answer_that_is_not_as_promised_is_noticed():
    assert agrees("a [b] c\n", "a [b]...") and agrees("", "") and agrees("x\ny\n", "...\ny")
    assert not agrees("a [b] c\n", "a b...") and not agrees("x\n", "") and not agrees("x\ny\n", "...\nz")


@pytest.mark.skipif(bool(sandbox.unavailable()), reason=sandbox.unavailable() or "-")
def test_who_does_what_the_tutorial_says_gets_what_it_promises():
    with sandbox.Sandbox(ROOT) as machine:
        for step in steps():
            if step.path:
                machine.write(step.path, step.text)
                continue
            done = machine.run(step.text, network=step.text.startswith(NETWORK))
            said = done.stdout.decode("utf-8", "replace")
            assert done.returncode == 0 and agrees(said, step.answer), "$ %s\n%s\n(%d) should have said\n%s\n%s" % (
                step.text, said, done.returncode, step.answer, machine.run(LOG).stdout.decode("utf-8", "replace"))
