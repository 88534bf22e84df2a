"""The memory budget: what is given up, in which order; sizes that the tests make up."""
from __future__ import annotations

import logging

import pytest

from luafcgid2.decisions import EvictStates, Kill, Log, Retire, Strike
from luafcgid2.memory import FRESH_KB, IDLE_TICKS, MemoryBudget
from luafcgid2.scoreboard import DRAINING, READY, RUNNING, Scoreboard

SECOND = 10 ** 9
MASTER = 1
MB = 1024                       # KB


class Machine:
    """A scoreboard with workers, their sizes in KB, a budget over them, and a clock."""

    def __init__(self, budget_mb=100, workers=2, room=None):
        self.board = Scoreboard(workers + 4, 2)
        self.sizes = {MASTER: 4 * MB}
        self.room = room
        self.budget = MemoryBudget(self.board, budget_mb << 20, MASTER, kernel=self)
        self.now = 1000 * SECOND
        self.pid = 100
        for _ in range(workers):
            self.start()
        self.busy()

    # What procfs would say.
    def own_kb(self, pid, reported=0):
        if pid not in self.sizes:
            raise FileNotFoundError(pid)
        return self.sizes[pid]

    rss_kb = own_kb

    def room_kb(self):
        return self.room

    def start(self, size=5 * MB):
        number = self.board.take()
        slot = self.board.slot(number)
        slot.pid, slot.state = self.pid, READY
        self.sizes[self.pid] = size
        self.pid += 1
        return number

    def busy(self, number=0, script=b"/www/a.lua"):
        line = self.board.slot(number).lines[0]
        line.script, line.started, line.state = script, self.now, RUNNING

    def idle(self):
        for _, slot in self.board.workers():
            slot.lines[0].state = 0

    def die(self, number):
        del self.sizes[self.board.slot(number).pid]
        self.board.give_back(number)

    def total(self, megabytes):
        """Let worker 0 be so large that all together have so much."""
        pid = self.board.slot(0).pid
        self.sizes[pid] = megabytes * MB - (sum(self.sizes.values()) - self.sizes[pid])

    def pass_seconds(self, seconds=1):
        decisions = []
        for _ in range(seconds):
            self.now += SECOND
            decisions += self.budget.tick(self.now)
        return decisions

    @property
    def shedding(self):
        return self.board.header.shedding


def kinds(decisions):
    return [type(decision) for decision in decisions if not isinstance(decision, Log)]


def texts(decisions):
    return [decision.text for decision in decisions if isinstance(decision, Log)]


def test_without_a_budget_nothing_is_measured_and_no_tick_wanted():
    machine = Machine(budget_mb=0)
    del machine.sizes[MASTER]
    assert machine.budget.next_tick(machine.now) is None
    assert machine.pass_seconds(10) == []


def test_below_80_percent_nothing_is_given_up():
    machine = Machine()
    machine.total(79)
    assert machine.pass_seconds(100) == []
    assert machine.board.header.pss_kb == 79 * MB and machine.board.header.budget_kb == 100 * MB


def test_sizes_of_workers_are_in_their_slots():
    machine = Machine()
    machine.sizes[101] = 7 * MB
    machine.pass_seconds()
    assert [slot.own_kb for _, slot in machine.board.workers()] == [5 * MB, 7 * MB]


def test_from_80_percent_all_workers_evict_again_and_again():
    machine = Machine()
    machine.total(81)
    decisions = machine.pass_seconds()
    assert kinds(decisions) == [EvictStates, EvictStates]
    assert [(decision.slot, decision.pid) for decision in decisions[1:]] == [(0, 100), (1, 101)]
    assert decisions[0].level == logging.INFO and "81.0 MB of 100.0 MB" in decisions[0].text
    assert machine.pass_seconds(4) == []
    assert kinds(machine.pass_seconds()) == [EvictStates, EvictStates]
    assert [slot.evict for _, slot in machine.board.workers()] == [2, 2]


def test_swinging_around_a_step_is_told_once():
    machine = Machine()
    told = []
    for _ in range(20):
        machine.total(81)
        told += texts(machine.pass_seconds())
        machine.total(78)
        told += texts(machine.pass_seconds())
    assert len(told) == 1


def test_from_90_percent_the_largest_worker_is_replaced_one_at_a_time():
    machine = Machine(workers=3)
    machine.sizes.update({100: 20 * MB, 101: 40 * MB, 102: 28 * MB})
    machine.pass_seconds()
    decisions = machine.pass_seconds()
    assert kinds(decisions) == [Retire] and decisions[-1][:2] == (1, 101)
    assert Retire not in kinds(machine.pass_seconds(20))
    machine.die(1)
    machine.start(20 * MB)
    machine.sizes[102] = 50 * MB
    assert [one[:2] for one in machine.pass_seconds() if isinstance(one, Retire)] == [(2, 102)]


def test_after_a_replacement_the_next_one_waits_a_moment():
    machine = Machine(workers=3)
    machine.sizes.update({100: 30 * MB, 101: 40 * MB, 102: 20 * MB})
    assert Retire in kinds(machine.pass_seconds(2))
    machine.die(1)
    machine.start(40 * MB)
    assert Retire not in kinds(machine.pass_seconds(4))
    assert Retire in kinds(machine.pass_seconds(1))


def test_growth_at_any_speed_evicts_then_replaces_then_sheds():
    for speed in (1, 3, 10, 100):
        machine = Machine()
        order = []
        for step in range(200):
            machine.total(min(50 + speed * step, 120))
            order += kinds(machine.pass_seconds())
            order += ["shed"] if machine.shedding else []
        first = [order.index(what) for what in (EvictStates, Retire, "shed")]
        assert first == sorted(first), speed
        assert Kill not in order


def test_a_jump_over_all_steps_takes_one_step_a_tick():
    machine = Machine()
    machine.total(200)
    steps = []
    for _ in range(4):
        decisions = kinds(machine.pass_seconds())
        steps.append((EvictStates in decisions, Retire in decisions, machine.shedding, Kill in decisions))
    assert steps == [(True, False, 0, False), (False, True, 0, False), (False, False, 1, False),
                     (False, False, 1, True)]


def test_shedding_ends_well_below_where_it_began():
    machine = Machine()
    machine.total(101)
    decisions = machine.pass_seconds(3)
    assert machine.shedding == 1 and "503" in texts(decisions)[-1]
    machine.total(95)
    machine.pass_seconds(10)
    assert machine.shedding == 1
    machine.total(89)
    decisions = machine.pass_seconds()
    assert machine.shedding == 0 and "again" in texts(decisions)[-1]


def test_shedding_is_told_once_while_it_lasts():
    machine = Machine()
    machine.total(101)
    assert len([text for text in texts(machine.pass_seconds(50)) if "503" in text]) == 1


def test_the_last_resort_kills_the_worker_that_was_told_to_leave_and_blames_its_script():
    machine = Machine()
    machine.busy(0, b"/www/hog.lua")
    started = machine.now
    machine.total(130)
    decisions = machine.pass_seconds(20)
    assert [one for one in decisions if isinstance(one, (Strike, Kill))] == [
        Strike(b"/www/hog.lua", "memory", started), Kill(0, 100, "memory is short")]
    assert any("/www/hog.lua" in text for text in texts(decisions))


def test_no_worker_is_killed_that_was_not_told_to_leave_first():
    machine = Machine()
    machine.total(500)
    seen = []
    for _ in range(10):
        seen += [one for one in machine.pass_seconds() if isinstance(one, (Retire, Kill))]
    assert [type(one) for one in seen] == [Retire, Kill] and seen[0].pid == seen[1].pid


def test_workers_that_are_as_small_as_fresh_ones_are_neither_replaced_nor_shed():
    machine = Machine(budget_mb=16, workers=3)
    decisions = machine.pass_seconds(200)
    assert Retire not in kinds(decisions) and machine.shedding == 0
    [text] = [text for text in texts(decisions) if "MemoryBudget" in text]
    assert "as small as a fresh one" in text


def test_a_worker_first_seen_when_it_is_large_is_replaced_all_the_same():
    machine = Machine(workers=1)
    machine.sizes[100] = 95 * MB
    assert FRESH_KB < 95 * MB
    assert Retire in kinds(machine.pass_seconds(3))


def test_a_worker_that_leaves_already_is_not_told_again():
    machine = Machine()
    machine.total(95)
    machine.board.slot(0).state = DRAINING
    assert Retire not in kinds(machine.pass_seconds(10))


def test_a_successor_in_the_slot_of_a_retired_worker_is_not_taken_for_it():
    machine = Machine()
    machine.total(130)
    machine.pass_seconds(2)
    machine.die(0)
    assert machine.start(126 * MB) == 0
    killed = [one.pid for one in machine.pass_seconds(20) if isinstance(one, Kill)]
    retired = [one.pid for one in machine.pass_seconds(1) if isinstance(one, Retire)]
    assert killed in ([], [102]) and retired in ([], [102])


def test_what_the_machine_can_still_give_bounds_the_budget():
    machine = Machine(budget_mb=1000)
    machine.total(40)
    machine.room = 20 * MB
    assert machine.pass_seconds(10) == []
    machine.room = 7 * MB
    decisions = machine.pass_seconds()
    assert kinds(decisions) == [EvictStates, EvictStates] and "no more to give" in texts(decisions)[0]
    machine.room = 4 * MB
    assert Retire in kinds(machine.pass_seconds())
    machine.room = 0
    machine.pass_seconds()
    assert machine.shedding == 1


def test_a_machine_that_has_less_than_nothing_to_give_is_no_error():
    machine = Machine(budget_mb=1000)
    machine.total(40)
    machine.room = -50 * MB
    assert kinds(machine.pass_seconds(4))[-1] is Kill and machine.shedding == 1


def test_a_machine_with_plenty_does_not_raise_the_budget():
    machine = Machine(room=10 ** 7)
    machine.total(81)
    assert EvictStates in kinds(machine.pass_seconds())


def test_a_worker_that_ends_while_it_is_measured_is_left_out():
    machine = Machine()
    del machine.sizes[101]
    assert machine.pass_seconds() == []
    assert machine.board.header.pss_kb == 9 * MB


def test_ticks_come_every_other_second_while_requests_run_and_each_second_when_it_is_tight():
    machine = Machine()
    machine.pass_seconds()
    assert machine.budget.next_tick(machine.now) == 2
    assert machine.budget.next_tick(machine.now + 5 * SECOND) == 0
    machine.total(81)
    machine.pass_seconds()
    assert machine.budget.next_tick(machine.now) == 1


def test_an_idle_server_is_not_measured():
    machine = Machine()
    machine.idle()
    assert machine.budget.next_tick(machine.now) is None


def test_an_idle_server_that_was_tight_is_looked_after_for_a_while_and_then_left_alone():
    machine = Machine()
    machine.total(85)
    machine.pass_seconds()
    machine.idle()
    ticks = 0
    while machine.budget.next_tick(machine.now) is not None:
        machine.pass_seconds()
        ticks += 1
        assert ticks <= IDLE_TICKS
    assert ticks == IDLE_TICKS
    machine.busy()
    assert machine.budget.next_tick(machine.now + 60 * SECOND) == 0


def test_shedding_never_outlives_its_reason_on_an_idle_server():
    machine = Machine()
    machine.total(110)
    machine.pass_seconds(3)
    assert machine.shedding == 1
    machine.idle()
    ticks = 0
    while machine.budget.next_tick(machine.now) is not None:
        if ticks == 50:
            machine.total(30)
        machine.pass_seconds()
        ticks += 1
        assert ticks < 100
    assert machine.shedding == 0


def test_when_successors_are_as_large_as_those_they_replace_it_stops_replacing():
    machine = Machine(budget_mb=20, workers=1)
    machine.sizes[100] = 18 * MB
    replaced = 0
    for _ in range(100):
        if Retire in kinds(machine.pass_seconds()):
            replaced += 1
            machine.die(0)
            machine.start(18 * MB)
    assert replaced == 1 and machine.shedding == 0


@pytest.mark.parametrize("workers", [1, 4])
def test_a_server_whose_idle_workers_exceed_the_budget_still_serves(workers):
    machine = Machine(budget_mb=16, workers=workers)
    for pid in range(100, 100 + workers):
        machine.sizes[pid] = 14 * MB
    machine.pass_seconds(30)
    assert machine.shedding == 0
