"""What luafcgid2ctl says of a running server: a short summary, and the table of `top`."""
from __future__ import annotations

import io
import os

import pytest
from boards import config, filled, hostile, snapshot
from rich.console import Console

from luafcgid2 import scoreboard, top, watch
from luafcgid2.errors import ControlError
from luafcgid2.scoreboard import Scoreboard


def printed(found, before=None, width=120, height=0) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(top.screen(found, before, height))
    return file.getvalue()


def test_the_summary_is_aligned_and_short():
    lines = watch.summary(snapshot()).splitlines()
    assert lines[0] == "  uptime      1 h, generation 7"
    assert "  requests    1,080, 14 errors (1.3 %), 0 timed out" in lines
    assert "  threads     2 of 3 busy, 4 at most so far" in lines
    assert "  memory      20.0 MB, 31 % of 64.0 MB" in lines
    assert "  quarantine  /srv/www/bad.lua for another 1 min 30 s" in lines


def test_the_summary_tells_trouble_only_when_there_is_some():
    board = filled()
    assert "shedding" not in watch.summary(snapshot(board))
    board.header.shedding, board.slot(0).hung = 1, 2
    assert "refused" in watch.summary(snapshot(board))
    assert "2 threads" in watch.summary(snapshot(board))


def test_memory_that_nobody_measures_is_not_told_as_none():
    assert "not measured" in watch.summary(snapshot(Scoreboard(1, 1)))


def test_a_process_without_a_scoreboard_is_a_control_error_that_names_it(monkeypatch):
    monkeypatch.setattr(scoreboard, "NAME", "luafcgid2-nobody-has-this")
    with pytest.raises(ControlError, match=str(os.getpid())):
        watch.look(os.getpid(), config())


def test_the_table_shows_workers_requests_and_scripts():
    text = printed(snapshot())
    for words in ("4000", "Draining", "□■", "/slow.lua?n=2", "2.0 s", "SCRIPT in /srv/www", "quick.lua", "700 ms",
                  "/srv/www/bad.lua for another 1 min 30 s"):
        assert words in text, words


def test_the_table_of_a_server_that_has_just_started_is_shown():
    assert "Every thread is idle." in printed(snapshot(Scoreboard(1, 1)))


def test_the_table_fits_the_terminal():
    lines = printed(snapshot(), width=80, height=24).rstrip("\n").split("\n")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_markup_and_control_characters_of_a_client_are_shown_as_they_are():
    board = filled()
    board.slot(0).lines[1].uri = b"/[bold red]x[/]\x1b[2J"
    assert "/[bold red]x[/]\\x1b[2J" in printed(snapshot(board))
    assert "<script>" in printed(hostile(), width=200)


def test_a_rate_is_told_between_two_looks_of_one_master():
    before, found = snapshot(), dict(snapshot(), requests=1100, now=snapshot()["now"] + 4)
    assert top.rate(found, before, "requests") == "5.0"
    assert top.rate(found, None, "requests") == "-"
    assert top.rate(dict(found, **{"start time": 1}), before, "requests") == "-"
