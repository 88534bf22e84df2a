"""Which workers hang: decisions over a scoreboard, with times that the tests make up."""
from __future__ import annotations

import logging

import pytest

from luafcgid2.decisions import Kill, Log, Retire, Strike
from luafcgid2.hung import GRACE, STALE, HungWatch, hard_limit
from luafcgid2.scoreboard import DRAINING, READY, RUNNING, Scoreboard

SECOND = 10 ** 9
START = 1000 * SECOND
HARD, DRAIN = 20.0, 30.0


class Server:
    """A scoreboard with workers, a watch over it, and a clock."""

    def __init__(self, workers=2, threads=3, hard=HARD, drain=DRAIN):
        self.board = Scoreboard(workers + 1, threads)
        self.stopped = set()
        self.watch = HungWatch(self.board, hard, drain, stopped=self.stopped.__contains__)
        self.now = START
        for number in range(workers):
            self.start(self.board.take(), 100 + number)

    def start(self, number, pid):
        slot = self.board.slot(number)
        slot.pid, slot.since_start, slot.state, slot.heartbeat = pid, self.now // SECOND, READY, self.now

    def run(self, number, thread, script=b"/www/a.lua", uri=b"/a.lua?x"):
        line = self.board.slot(number).lines[thread]
        line.method, line.uri, line.script = b"GET", uri, script
        line.started, line.state = self.now, RUNNING
        return line

    def pass_seconds(self, seconds, silent=()):
        """Tick each second; all workers but `silent` ones beat.  The decisions, in order."""
        decisions = []
        for _ in range(seconds):
            self.now += SECOND
            for number, slot in self.board.workers():
                if number not in silent:
                    slot.heartbeat = self.now
            decisions += self.watch.tick(self.now)
        return decisions


def kinds(decisions):
    return [type(decision) for decision in decisions]


def texts(decisions):
    return [decision.text for decision in decisions if isinstance(decision, Log)]


@pytest.mark.parametrize("soft, hard, limit", [(0, 0, 0), (30, 0, 30 + GRACE), (30, 60, 60), (30, 10, 30), (0, 10, 10)])
def test_the_hard_limit_follows_the_soft_one_unless_it_is_given(soft, hard, limit):
    assert hard_limit(soft, hard) == limit


def test_nothing_is_decided_and_no_tick_wanted_while_nothing_runs():
    server = Server()
    assert server.watch.next_tick(server.now) is None
    assert server.pass_seconds(100, silent=(0, 1)) == []


def test_a_tick_is_due_at_once_when_requests_began_and_then_each_second():
    server = Server()
    server.watch.tick(server.now)
    server.now += 3600 * SECOND
    server.run(0, 0)
    assert server.watch.next_tick(server.now) == 0
    server.watch.tick(server.now)
    assert server.watch.next_tick(server.now) == 1
    assert server.watch.next_tick(server.now + SECOND // 4) == 0.75
    assert server.watch.next_tick(server.now + 5 * SECOND) == 0


def test_a_short_limit_is_looked_at_more_often():
    server = Server(hard=0.4)
    server.run(0, 0)
    server.watch.tick(server.now)
    assert server.watch.next_tick(server.now) == pytest.approx(0.1)


def test_a_request_below_the_limit_lives():
    server = Server()
    server.run(0, 0)
    assert server.pass_seconds(int(HARD)) == []


def test_a_lone_request_over_the_limit_costs_its_worker_and_is_told_once():
    server = Server()
    started = server.now
    server.run(1, 0)
    decisions = server.pass_seconds(int(HARD) + 20)
    assert kinds(decisions) == [Strike, Log, Retire, Kill]
    strike, log, retire, kill = decisions
    assert strike == (b"/www/a.lua", "timeout", started)
    assert log.level == logging.ERROR
    assert log.text == ("worker 2 (pid 101): /www/a.lua (GET /a.lua?x) for 21 s: over the hard limit of 20 s; "
                        "the worker is replaced")
    assert retire[:2] == kill[:2] == (1, 101)


def test_other_requests_of_the_worker_finish_first():
    server = Server()
    server.run(0, 0)
    server.pass_seconds(15)
    other = server.run(0, 1, b"/www/b.lua")
    assert kinds(server.pass_seconds(10)) == [Strike, Log, Retire]
    other.state = 0
    assert kinds(server.pass_seconds(1)) == [Kill]
    assert server.pass_seconds(10) == []


def test_other_requests_get_no_more_than_the_drain_time():
    server = Server(hard=20, drain=5)
    server.run(0, 0)
    server.pass_seconds(18)
    server.run(0, 1, b"/www/b.lua")
    assert kinds(server.pass_seconds(7)) == [Strike, Log, Retire]
    assert kinds(server.pass_seconds(1)) == [Kill]


def test_a_request_that_ends_after_its_worker_was_retired_saves_it_from_the_kill():
    server = Server()
    line = server.run(0, 0)
    server.pass_seconds(10)
    server.run(0, 1)
    assert kinds(server.pass_seconds(11)) == [Strike, Log, Retire]
    line.state = 0
    assert server.pass_seconds(5) == []


def test_two_hung_requests_of_one_worker_are_told_one_by_one_and_retire_it_once():
    server = Server()
    server.run(0, 0)
    server.pass_seconds(5)
    server.run(0, 1, b"/www/b.lua", b"/b.lua")
    decisions = server.pass_seconds(30)
    assert kinds(decisions) == [Strike, Log, Retire, Strike, Log, Kill]
    assert ["/www/b.lua" in text for text in texts(decisions)] == [False, True]


def test_a_worker_that_drains_already_is_not_retired_again():
    server = Server()
    server.run(0, 0)
    server.board.slot(0).state = DRAINING
    assert kinds(server.pass_seconds(30)) == [Strike, Log, Kill]


def test_a_request_whose_script_is_not_known_yet_blames_nobody():
    server = Server()
    server.run(0, 0, b"", b"")
    decisions = server.pass_seconds(30)
    assert kinds(decisions) == [Log, Retire, Kill]


def test_a_successor_in_the_slot_does_not_inherit_the_death_sentence():
    server = Server()
    server.run(0, 0)
    server.pass_seconds(10)
    server.run(0, 1)
    assert kinds(server.pass_seconds(11)) == [Strike, Log, Retire]
    server.board.give_back(0)
    server.start(server.board.take(), 777)
    server.run(0, 0)
    assert server.pass_seconds(int(HARD)) == []
    assert Kill(0, 777, "a request ran too long") in server.pass_seconds(1)


def test_the_next_request_of_a_thread_counts_from_its_own_start():
    server = Server()
    server.run(0, 0)
    server.pass_seconds(19)
    server.run(0, 0)
    assert server.pass_seconds(19) == []


def test_a_line_without_a_start_has_only_just_begun():
    server = Server()
    server.run(0, 0).started = 0
    assert server.pass_seconds(60) == []


def test_without_a_limit_no_request_is_too_long():
    server = Server(hard=0)
    server.run(0, 0)
    assert server.pass_seconds(1000) == []


def test_a_main_thread_that_is_silent_while_requests_run_is_killed_at_once():
    server = Server(hard=0)
    server.run(0, 0)
    assert server.pass_seconds(int(STALE), silent=(0,)) == []
    decisions = server.pass_seconds(20, silent=(0,))
    assert kinds(decisions) == [Strike, Log, Kill]
    assert decisions[0].path == b"/www/a.lua"
    assert "nothing was heard" in decisions[1].text and "/www/a.lua (GET /a.lua?x)" in decisions[1].text


def test_a_silent_worker_that_runs_several_scripts_blames_none():
    server = Server(hard=0)
    server.run(0, 0)
    server.run(0, 1, b"/www/b.lua")
    decisions = server.pass_seconds(20, silent=(0,))
    assert kinds(decisions) == [Log, Kill]
    assert "/www/a.lua" in decisions[0].text and "/www/b.lua" in decisions[0].text


def test_an_old_beat_of_an_idle_worker_does_not_kill_it_when_a_request_comes():
    server = Server()
    server.now += 3600 * SECOND
    server.run(0, 0)
    assert server.watch.tick(server.now) == []
    assert server.pass_seconds(int(STALE), silent=(0,)) == []


def test_a_worker_that_is_idle_in_between_need_not_beat():
    server = Server()
    for _ in range(5):
        line = server.run(0, 0)
        server.run(1, 0)
        assert server.pass_seconds(8, silent=(0,)) == []
        line.state = 0
        assert server.pass_seconds(1, silent=(0,)) == []


def test_a_master_that_stood_still_kills_nobody_for_it():
    server = Server()
    server.run(0, 0)
    server.run(1, 0)
    server.pass_seconds(15)
    # The machine was suspended, or the master stopped: a minute without a tick, and without beats.
    server.now += 60 * SECOND
    assert server.watch.tick(server.now) == []
    assert server.pass_seconds(4) == []


def test_after_a_standstill_limits_go_on_where_they_were():
    server = Server()
    server.run(0, 0)
    server.pass_seconds(15)
    server.now += 60 * SECOND
    server.watch.tick(server.now)
    assert kinds(server.pass_seconds(10)) == [Strike, Log, Retire, Kill]


def test_a_request_that_began_after_a_standstill_has_no_bonus():
    server = Server()
    server.run(0, 0)
    server.pass_seconds(5)
    server.now += 60 * SECOND
    server.watch.tick(server.now)
    server.board.slot(0).lines[0].state = 0
    server.run(1, 0)
    assert server.pass_seconds(int(HARD)) == []
    assert Kill(1, 101, "a request ran too long") in server.pass_seconds(1)


def test_a_stopped_worker_is_left_alone_and_told_once():
    server = Server()
    server.run(0, 0)
    server.stopped.add(100)
    decisions = server.pass_seconds(100, silent=(0,))
    assert kinds(decisions) == [Log] and "stopped" in decisions[0].text
    assert decisions[0].level == logging.WARNING


def test_a_worker_that_goes_on_after_it_was_stopped_has_its_limits_back():
    server = Server()
    server.run(0, 0)
    server.stopped.add(100)
    server.pass_seconds(100, silent=(0,))
    server.stopped.clear()
    assert server.pass_seconds(int(HARD)) == []
    assert Kill(0, 100, "a request ran too long") in server.pass_seconds(1)


def test_one_hung_worker_does_not_hide_another():
    server = Server()
    server.run(0, 0)
    server.run(1, 0)
    killed = [decision.pid for decision in server.pass_seconds(30) if isinstance(decision, Kill)]
    assert killed == [100, 101]


def test_a_slot_whose_worker_has_not_started_is_not_looked_at():
    server = Server()
    number = server.board.take()
    server.board.slot(number).lines[0].state = RUNNING
    server.board.slot(number).lines[0].started = 1
    assert server.pass_seconds(30) == []
