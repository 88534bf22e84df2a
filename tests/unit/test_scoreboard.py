"""The scoreboard's cells: attributes in memory, one slot a worker, a generation."""
from __future__ import annotations

import pytest

from luafcgid2.scoreboard import FIELDS, GENERATION, Scoreboard


def test_a_flush_increments_the_generation_by_one():
    board = Scoreboard(2, 4)
    assert board.generation == 0
    assert board.flush() == 1
    assert board.flush() == 2
    assert board.generation == 2
    assert board.cells[GENERATION] == 2


def test_slots_do_not_touch_each_other_nor_the_generation():
    board = Scoreboard(3, 4)
    for index in range(3):
        for place, name in enumerate(FIELDS):
            setattr(board.slot(index), name, 1000 * (index + 1) + place)
    assert board.generation == 0
    for index, line in enumerate(board.snapshot()):
        first = 1000 * (index + 1)
        assert line == {"worker": index, "threads": 4, "pid": first, "ready": first + 1,
                        "requests": first + 2, "busy": first + 3}


def test_two_views_of_one_slot_are_one_memory():
    board = Scoreboard(1, 1)
    board.slot(0).requests += 5
    assert board.slot(0).requests == 5


def test_a_cleared_slot_is_all_zero_and_the_others_stay():
    board = Scoreboard(2, 1)
    board.slot(0).pid = board.slot(1).pid = 7
    board.slot(0).clear()
    assert [line["pid"] for line in board.snapshot()] == [0, 7]


@pytest.mark.parametrize("index", [-1, 2])
def test_a_slot_that_does_not_exist_is_an_error_that_names_it(index):
    with pytest.raises(IndexError, match=str(index)):
        Scoreboard(2, 1).slot(index)


def test_a_cell_holds_the_largest_64_bit_number():
    board = Scoreboard(1, 1)
    board.slot(0).requests = 2 ** 64 - 1
    assert board.slot(0).requests == 2 ** 64 - 1
