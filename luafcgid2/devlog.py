"""The line that `luafcgid2 serve` prints for each request: pure functions.

In: method, URI, status and milliseconds, and whether the reader sees colours.  Out: one line.  front.py makes the
line, serve.py decides about colours.
"""
from __future__ import annotations

from typing import Mapping

RESET, BOLD, DIM, RED, GREEN, YELLOW, CYAN = ("\x1b[%sm" % code for code in ("0", "1", "2", "31", "32", "33", "36"))
CLASSES = {"2": GREEN, "3": CYAN, "4": YELLOW, "5": RED}
SLOW_MS, VERY_SLOW_MS = 100, 1000


def colours(terminal: bool, environment: Mapping[str, str]) -> bool:
    """Whether to print colours: on a terminal that can, unless NO_COLOR is set (https://no-color.org)."""
    return terminal and not environment.get("NO_COLOR") and environment.get("TERM", "") not in ("", "dumb")


def line(method: str, uri: str, status: str, milliseconds: float, coloured: bool) -> str:
    """`GET /x.lua 200 1.2 ms`; status is "---" where there was no answer."""
    time = "%.1f ms" % milliseconds
    if not coloured:
        return "%s %s %s %s" % (method, uri, status, time)
    pace = RED if milliseconds >= VERY_SLOW_MS else YELLOW if milliseconds >= SLOW_MS else DIM
    return "%s%s%s %s %s%s%s %s%s%s" % (BOLD, method, RESET, uri, CLASSES.get(status[0], RED), status, RESET,
                                        pace, time, RESET)
