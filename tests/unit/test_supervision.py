"""How the master words a death, and how long it waits before the next start."""
from __future__ import annotations

import signal

import pytest

from luafcgid2.supervision import FIRST_DELAY, LONGEST_DELAY, RestartBudget, could_not_boot, describe_death, is_innocent


def exited(code):
    return code << 8


@pytest.mark.parametrize("status, words", [
    (exited(0), "exited with code 0"),
    (exited(3), "exited with code 3"),
    (signal.SIGSEGV, "was killed by SIGSEGV"),
    (signal.SIGSEGV | 0x80, "was killed by SIGSEGV, core dumped"),
    (signal.SIGKILL, "was killed by SIGKILL (out of memory?)"),
    (signal.SIGRTMIN + 1, "was killed by signal %d" % (signal.SIGRTMIN + 1)),
])
def test_a_death_is_told_in_words(status, words):
    assert describe_death(status) == words


def test_only_exit_code_3_means_that_it_could_not_boot():
    assert could_not_boot(exited(3))
    assert not could_not_boot(exited(1))
    assert not could_not_boot(3)


def test_only_a_kill_of_a_worker_that_served_says_nothing_about_the_next():
    assert is_innocent(signal.SIGKILL, True)
    assert not is_innocent(signal.SIGKILL, False)
    assert not is_innocent(signal.SIGSEGV, True)
    assert not is_innocent(exited(1), True)


def test_deaths_within_the_limit_cost_nothing():
    budget = RestartBudget(3, 60)
    assert [budget.spend(now) for now in (0, 1, 2)] == [0, 0, 0]
    assert not budget.exhausted


def test_over_the_limit_the_delay_doubles_up_to_a_cap():
    budget = RestartBudget(2, 60)
    delays = [budget.spend(0.1 * now) for now in range(10)]
    assert delays == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert delays[2] == FIRST_DELAY and delays[-1] == LONGEST_DELAY
    assert budget.exhausted


def test_a_worker_that_dies_after_each_delay_stays_backed_off():
    budget = RestartBudget(2, 60)
    now, delay, starts = 0.0, 0.0, 0
    while now < 3600:
        delay = budget.spend(now)
        now += delay + 0.1
        starts += 1
    assert delay == LONGEST_DELAY
    assert starts < 70


def test_deaths_far_apart_never_add_up():
    budget = RestartBudget(2, 60)
    assert all(budget.spend(now * 31.0) == 0 for now in range(100))


def test_an_interval_without_a_death_ends_the_back_off():
    budget = RestartBudget(1, 60)
    assert [budget.spend(now) for now in (0, 1, 2)] == [0, 1, 2]
    assert budget.spend(2 + 2 + 61) == 0
