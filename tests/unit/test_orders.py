"""Reloads and upgrades one after the other, and what is told of them."""
from __future__ import annotations

import os

import pytest

from luafcgid2.errors import ControlError
from luafcgid2.orders import NOTE, RELOAD, UPGRADE, Orders, await_outcome
from luafcgid2.scoreboard import Scoreboard


def test_one_thing_at_a_time_in_the_order_asked_for():
    orders = Orders(Scoreboard(1, 1).header)
    orders.ask(RELOAD)
    orders.ask(UPGRADE)
    assert orders.next() == RELOAD
    assert orders.next() is None
    orders.finish()
    assert orders.next() == UPGRADE
    orders.finish()
    assert orders.next() is None


def test_the_same_wish_twice_before_it_begins_is_one_and_both_are_answered():
    header = Scoreboard(1, 1).header
    orders = Orders(header)
    for _ in range(3):
        orders.ask(RELOAD)
    assert orders.next() == RELOAD
    orders.finish()
    assert orders.next() is None
    assert (header.asked, header.answered, header.reloads) == (3, 3, 1)


def test_a_wish_while_the_same_is_under_way_is_done_after_it():
    header = Scoreboard(1, 1).header
    orders = Orders(header)
    orders.ask(RELOAD)
    orders.next()
    orders.ask(RELOAD)
    orders.finish()
    assert (header.asked, header.answered) == (2, 1)
    assert orders.next() == RELOAD


def test_a_failure_is_told_and_does_not_count_as_a_reload():
    header = Scoreboard(1, 1).header
    orders = Orders(header)
    orders.ask(RELOAD)
    orders.next()
    orders.finish("config.lua:3: no")
    assert (header.outcome, header.answered, header.reloads) == (b"config.lua:3: no", 1, 0)


def test_a_remark_is_a_success():
    header = Scoreboard(1, 1).header
    orders = Orders(header)
    orders.ask(RELOAD)
    orders.next()
    orders.finish(NOTE + "Listen stays")
    assert header.reloads == 1


def test_a_successor_is_told_of_the_reloads_that_wait():
    orders = Orders(Scoreboard(1, 1).header)
    for kind in (RELOAD, UPGRADE, RELOAD):
        orders.ask(kind)
    assert orders.give_up() == 2
    assert orders.next() is None


def test_ctl_hears_the_outcome_of_its_own_wish():
    header = Scoreboard(1, 1).header
    orders = Orders(header)
    orders.ask(RELOAD)
    orders.next()
    orders.finish("no luck")
    assert await_outcome(header, 0, os.getpid(), 10) == "no luck"
    with pytest.raises(ControlError, match="has not finished after 0 seconds"):
        await_outcome(header, 1, os.getpid(), 0)


def test_ctl_does_not_wait_for_a_master_that_is_gone():
    with pytest.raises(ControlError, match="has ended meanwhile"):
        await_outcome(Scoreboard(1, 1).header, 0, 2 ** 22 + 1, 60)
