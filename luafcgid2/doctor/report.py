"""The text of `luafcgid2ctl doctor`: one line for each finding, and below it what to change.

In: the path of config.lua and the command line's options.  Out: text or JSON on standard output, and an exit
code: 0 when nothing is wrong (warnings included), 1 when something is.  ctl.py calls `run`.
"""
from __future__ import annotations

import json
import shutil
import textwrap
from typing import Any, List

import click

from . import ERROR, OK, WARNING, Finding
from .checks import examine
from .facts import Asked, Facts, gather

STYLES = {OK: dict(fg="green"), WARNING: dict(fg="yellow", bold=True), ERROR: dict(fg="red", bold=True)}
LEVEL_WIDTH, TOPIC_WIDTH, MAX_WIDTH, MIN_WIDTH = 9, 9, 120, 60


def run(path: str, as_json: bool = False, **options: Any) -> int:
    """Examine the server of `path` and print what was found.  Options are the fields of facts.Asked.

    ConfigError when the user of --user does not exist.
    """
    facts = gather(path, Asked(**options))
    findings = examine(facts)
    click.echo(as_data(findings) if as_json else as_text(findings, facts, shutil.get_terminal_size((MAX_WIDTH, 0))[0]))
    return int(any(found.level == ERROR for found in findings))


def as_data(findings: List[Finding]) -> str:
    """The findings as JSON."""
    return json.dumps({"ok": not any(found.level == ERROR for found in findings),
                       "findings": [found._asdict() for found in findings]}, indent=2)


def as_text(findings: List[Finding], facts: Facts, width: int) -> str:
    """The findings for a terminal of `width` columns."""
    width = max(MIN_WIDTH, min(width, MAX_WIDTH)) - LEVEL_WIDTH - TOPIC_WIDTH
    lines: List[str] = []
    for found in findings:
        label = click.style(found.level.ljust(LEVEL_WIDTH), **STYLES[found.level])
        lines += _paragraph(label + found.topic.ljust(TOPIC_WIDTH), found.text, width)
        if found.change:
            lines += _paragraph(" " * (LEVEL_WIDTH + TOPIC_WIDTH), "change: " + found.change, width, "cyan")
    return "\n".join(lines + ["", _summary(findings)])


def _paragraph(label: str, text: str, width: int, color: str = "") -> List[str]:
    # Names of files and directives must stay whole, so that they can be copied.
    parts = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
    hang = " " * (LEVEL_WIDTH + TOPIC_WIDTH)
    parts = [click.style(part, fg=color) if color else part for part in parts]
    return [label + parts[0], *(hang + part for part in parts[1:])]


def _summary(findings: List[Finding]) -> str:
    errors, warnings = (sum(found.level == level for found in findings) for level in (ERROR, WARNING))
    if not errors and not warnings:
        return click.style("All is well.", fg="green")
    counts = ["%d %s%s" % (number, word, "s" * (number != 1)) for number, word in
              ((errors, "error"), (warnings, "warning")) if number]
    return click.style(", ".join(counts), **STYLES[ERROR if errors else WARNING])
