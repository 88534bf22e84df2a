"""The lines of `luafcgid2 serve`: plain for a program, coloured for a person who has not refused it."""
from __future__ import annotations

import re

import pytest

from luafcgid2 import devlog


def test_a_plain_line_has_no_escape():
    assert devlog.line("GET", "/x.lua?a", "200", 1.25, False) == "GET /x.lua?a 200 1.2 ms"


@pytest.mark.parametrize("status, colour", [
    ("200", devlog.GREEN), ("304", devlog.CYAN), ("404", devlog.YELLOW), ("500", devlog.RED), ("---", devlog.RED)])
def test_a_coloured_line_says_the_same_and_its_status_has_the_colour_of_its_class(status, colour):
    line = devlog.line("GET", "/x.lua", status, 1.25, True)
    assert re.sub("\x1b\\[\\d+m", "", line) == "GET /x.lua %s 1.2 ms" % status
    assert colour + status + devlog.RESET in line and line.endswith(devlog.RESET)


def test_a_slow_request_stands_out():
    lines = [devlog.line("GET", "/", "200", milliseconds, True) for milliseconds in (1, 100, 1000)]
    assert [colour in line for colour, line in zip((devlog.DIM, devlog.YELLOW, devlog.RED), lines)] == [True] * 3


@pytest.mark.parametrize("terminal, environment, expected", [
    (True, {"TERM": "xterm"}, True), (False, {"TERM": "xterm"}, False), (True, {}, False),
    (True, {"TERM": "dumb"}, False), (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
    (True, {"TERM": "xterm", "NO_COLOR": ""}, True)])
def test_colours_are_for_terminals_that_have_them(terminal, environment, expected):
    assert bool(devlog.colours(terminal, environment)) is expected
