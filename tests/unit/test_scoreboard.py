"""The scoreboard's cells: attributes in memory, one slot a worker, a generation, texts, latency buckets."""
from __future__ import annotations

import os

import pytest

from luafcgid2 import scoreboard
from luafcgid2.scoreboard import BUCKETS, EMPTY, GENERATION, Scoreboard, bucket, bucket_top


def test_a_flush_increments_the_generation_by_one():
    board = Scoreboard(2, 4)
    assert board.generation == 0
    assert board.flush() == 1
    assert board.flush() == 2
    assert board.generation == board.header.generation == board.cells[GENERATION] == 2


def every_cell(board):
    """(what it belongs to, name) of every cell and text."""
    places = [board.header, *board.quarantine]
    for number in range(board.slots):
        slot = board.slot(number)
        places += [slot, *slot.lines, *slot.scripts]
    for place in places:
        for name in place.FIELDS:
            yield place, name


def test_no_two_cells_are_the_same_memory():
    board = Scoreboard(3, 4)
    for value, (place, name) in enumerate(every_cell(board)):
        setattr(place, name, value)
    for value, (place, name) in enumerate(every_cell(board)):
        assert getattr(place, name) == value, (place, name)


def test_texts_and_latencies_do_not_touch_their_neighbours():
    board = Scoreboard(2, 2)
    for value, (place, name) in enumerate(every_cell(board)):
        setattr(place, name, value)
    board.header.past_latencies = range(BUCKETS)
    for number in range(2):
        slot = board.slot(number)
        slot.latencies = range(BUCKETS)
        for line in slot.lines:
            line.method = line.uri = line.script = b"x" * 1000
        for script in slot.scripts:
            script.path = b"y" * 1000
    for line in board.quarantine:
        line.path = b"z" * 1000
    for value, (place, name) in enumerate(every_cell(board)):
        assert getattr(place, name) == value, (place, name)
    assert board.slot(1).latencies == list(range(BUCKETS))


def test_a_text_that_is_too_long_loses_its_end():
    line = Scoreboard(1, 1).slot(0).lines[0]
    line.uri = b"/" + b"a" * 500
    assert line.uri == b"/" + b"a" * 231
    line.uri = b"/b"
    assert line.uri == b"/b"


def test_two_views_of_one_slot_are_one_memory():
    board = Scoreboard(1, 1)
    board.slot(0).requests += 5
    assert board.slot(0).requests == 5


def test_a_slot_given_back_is_empty_and_its_counts_are_in_the_totals():
    board = Scoreboard(2, 1)
    first, second = board.take(), board.take()
    board.slot(first).requests, board.slot(second).requests = 7, 1
    board.slot(first).lines[0].uri = b"/left"
    board.slot(first).latencies = range(BUCKETS)
    board.give_back(first)
    assert board.header.past_requests == 7
    assert board.header.past_latencies == list(range(BUCKETS))
    assert [number for number, _ in board.workers()] == [second]
    assert board.slot(first).state == EMPTY and board.slot(first).lines[0].uri == b""
    assert board.take() == first


def test_taking_more_slots_than_there_are_is_an_error():
    board = Scoreboard(1, 1)
    board.take()
    with pytest.raises(IndexError):
        board.take()


@pytest.mark.parametrize("index", [-1, 2])
def test_a_slot_that_does_not_exist_is_an_error_that_names_it(index):
    with pytest.raises(IndexError, match=str(index)):
        Scoreboard(2, 1).slot(index)


def test_a_cell_holds_the_largest_64_bit_number():
    board = Scoreboard(1, 1)
    board.slot(0).requests = 2 ** 64 - 1
    assert board.slot(0).requests == 2 ** 64 - 1


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd_create (Linux)")
def test_the_scoreboard_of_a_process_is_found_by_its_pid(monkeypatch):
    monkeypatch.setattr(scoreboard, "NAME", "luafcgid2-of-this-test")
    board = Scoreboard(3, 2)
    board.slot(2).requests = 42
    found = Scoreboard.of(os.getpid())
    assert (found.slots, found.threads, found.slot(2).requests) == (3, 2, 42)
    with pytest.raises(TypeError):
        found.slot(2).requests = 1


def test_a_process_without_a_scoreboard_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setattr(scoreboard, "NAME", "luafcgid2-nobody-has-this")
    with pytest.raises(LookupError, match=str(os.getpid())):
        Scoreboard.of(os.getpid())


def test_latency_buckets_cover_every_duration_and_never_overlap():
    last = 0
    for microseconds in (*range(5000), *(base + extra for power in range(13, 40) for base in (1 << power,)
                                         for extra in (-1, 0, 1, base >> 1))):
        index = bucket(microseconds)
        assert 0 <= index < BUCKETS
        if index < BUCKETS - 1:
            assert microseconds < bucket_top(index)
        assert index == 0 or microseconds >= bucket_top(index - 1)
        last = max(last, index)
    assert last == BUCKETS - 1
