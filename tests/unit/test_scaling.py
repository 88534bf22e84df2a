"""How many workers there should be, from what they do."""
from __future__ import annotations

from types import SimpleNamespace

import pytest

from luafcgid2.scaling import Load, first, wanted


def rules(manager, low=1, high=3, start=0):
    return SimpleNamespace(process_manager=manager, min_spare_workers=low, max_spare_workers=high, start_workers=start)


def load(total, spare=None, starting=0, saturated=0, expired=0):
    ready = total - starting
    return Load(total, starting, ready, ready if spare is None else spare, saturated, expired)


@pytest.mark.parametrize("config, count", [
    (rules("static"), 10), (rules("dynamic"), 2), (rules("dynamic", 2, 8), 5), (rules("dynamic", start=7), 7),
    (rules("dynamic", start=70), 10), (rules("ondemand"), 1),
])
def test_so_many_workers_begin(config, count):
    assert first(config, 10) == count


@pytest.mark.parametrize("now", [load(4), load(4, spare=0, saturated=4), load(4, expired=4)])
def test_static_is_the_same_whatever_happens(now):
    assert wanted(rules("static"), now, 4) == 4


@pytest.mark.parametrize("low, now, most, count", [
    (1, load(2, spare=0), 10, 3),
    (3, load(2, spare=0), 10, 5),
    (3, load(2, spare=1), 10, 4),
    (3, load(4, spare=1, starting=2), 10, 4),       # those that start will be spare
    (3, load(2, spare=0), 4, 4),
    (1, load(2, spare=1), 10, 2),
])
def test_dynamic_keeps_a_minimum_of_spare_workers(low, now, most, count):
    assert wanted(rules("dynamic", low, 5), now, most) == count


@pytest.mark.parametrize("low, high, now, count", [
    (1, 3, load(6, spare=6), 5),                    # one at a time
    (1, 3, load(6, spare=3), 6),
    (1, 3, load(6, spare=3, expired=2), 5),
    (1, 3, load(2, spare=1, expired=1), 2),         # the least spare one stays, however idle
    (2, 3, load(2, spare=2, expired=2), 2),
    (2, 3, load(9, spare=4, expired=0), 8),
])
def test_dynamic_lets_go_those_above_the_maximum_or_idle_for_long(low, high, now, count):
    assert wanted(rules("dynamic", low, high), now, 10) == count


@pytest.mark.parametrize("now, most, count", [
    (load(1, spare=0, saturated=1), 10, 2),
    (load(2, spare=0, saturated=1), 10, 2),
    (load(2, spare=0, starting=1, saturated=1), 10, 2),
    (load(3, spare=0, saturated=3), 3, 3),
    (load(3, spare=2, expired=2), 10, 1),
    (load(1, expired=1), 10, 0),                    # the last one, too
    (load(0), 10, 0),
])
def test_ondemand_starts_one_when_all_are_saturated_and_lets_the_idle_go(now, most, count):
    assert wanted(rules("ondemand"), now, most) == count


@pytest.mark.parametrize("manager", ["static", "dynamic", "ondemand"])
def test_fewer_are_allowed_from_now_on(manager):
    assert wanted(rules(manager), load(8, spare=0, saturated=8), 5) == 5
