"""What reads the code finds nothing: ruff, mypy (strict, on floors 0 to 2), bandit, luacheck, shellcheck."""
from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests"))

import checks  # noqa: E402  (the path comes first)


@pytest.mark.parametrize("name", sorted(checks.COMMANDS))
def test_a_check_finds_nothing(name):
    problem = checks.missing(name)
    if problem and not os.environ.get("CI"):
        pytest.skip(problem + ": make lint installs it")
    assert not problem
    found = checks.run(name)
    assert not found, found


def test_the_lower_floors_are_all_of_the_typed_modules():
    from test_floors import FLOORS
    names = [name for floor in (0, 1, 2) for name in FLOORS[floor].split()]
    assert checks.typed_modules() == ["luafcgid2" + ("" if name == "__init__" else "." + name) for name in names]


def test_a_function_without_types_is_found(tmp_path):
    if checks.missing("mypy"):
        pytest.skip("mypy is not installed: make lint installs it")
    (tmp_path / "untyped.py").write_text("def untyped(value):\n    return value\n")
    words = [sys.executable, "-m", "mypy", "--config-file", os.path.join(ROOT, "setup.cfg"), "untyped.py"]
    done = subprocess.run(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "no-untyped-def" in done.stdout


def test_an_exception_from_bandit_has_a_number_and_a_reason():
    """The reason stands behind the number, or in a comment of the twelve lines above."""
    bare = []
    for folder, _, files in os.walk(os.path.join(ROOT, "luafcgid2")):
        for name in (name for name in files if name.endswith(".py")):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                lines = file.read().splitlines()
            for number, line in enumerate(lines):
                found = re.search(r"#\s*nosec\b(?: (B\d{3}))?(?:\s+# \S+)?", line)
                if found and not (found[1] and (found[0].count("#") == 2 or any(
                        "# %s:" % found[1] in above for above in lines[max(0, number - 12):number]))):
                    bare.append("%s:%d: %s" % (name, number + 1, line.strip()))
    assert not bare
