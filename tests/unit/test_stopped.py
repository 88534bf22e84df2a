"""Workers that a signal has stopped: decisions over made-up workers, with times that the tests make up."""
from __future__ import annotations

import logging

from luafcgid2.decisions import Kill, Log
from luafcgid2.stopped import PATIENCE, SLEPT, StoppedWatch

SECOND = 10 ** 9


class Worker:
    def __init__(self, number):
        self.number, self.pid, self.stopped = number, 100 + number, None
        self.name = "worker %d (pid %d)" % (number + 1, self.pid)


class Server:
    """Two workers, a watch over them, and a clock."""

    def __init__(self):
        self.workers, self.traced = [Worker(0), Worker(1)], set()
        self.watch = StoppedWatch(self.workers, traced=self.traced.__contains__)
        self.now = 1000 * SECOND

    def stop(self, number):
        self.workers[number].stopped = self.now / SECOND

    def pass_seconds(self, seconds):
        """Tick when a tick is due, as the master does; the decisions."""
        decisions = []
        for _ in range(int(seconds)):
            if self.watch.next_tick(self.now) == 0:
                decisions += self.watch.tick(self.now)
            self.now += SECOND
        return decisions


def kinds(decisions):
    return [type(decision) for decision in decisions]


def test_while_nobody_is_stopped_no_tick_is_wanted():
    server = Server()
    assert server.watch.next_tick(server.now) is None
    assert server.watch.tick(server.now) == []


def test_a_stopped_worker_is_told_at_once_and_killed_when_patience_is_over():
    server = Server()
    server.stop(0)
    [told] = server.pass_seconds(PATIENCE)
    assert told.level == logging.WARNING and "worker 1 (pid 100) is stopped by a signal" in told.text
    assert server.watch.next_tick(server.now) == 0
    [kill] = server.pass_seconds(1)
    assert kill[:2] == (0, 100) and "stopped" in kill.reason


def test_the_next_tick_is_when_patience_is_over():
    server = Server()
    server.stop(0)
    server.watch.tick(server.now)
    assert server.watch.next_tick(server.now) == PATIENCE
    server.now += 10 * SECOND
    server.stop(1)
    assert server.watch.next_tick(server.now) == 0
    server.watch.tick(server.now)
    assert server.watch.next_tick(server.now) == PATIENCE - 10


def test_a_worker_that_goes_on_in_time_is_left_alone():
    server = Server()
    server.stop(0)
    server.pass_seconds(PATIENCE - 1)
    server.workers[0].stopped = None
    assert server.pass_seconds(100) == []


def test_each_stop_has_a_patience_of_its_own():
    server = Server()
    for _ in range(5):
        server.stop(0)
        assert kinds(server.pass_seconds(PATIENCE - 5)) == [Log]


def test_a_worker_that_a_debugger_holds_is_left_alone_until_it_lets_go():
    server = Server()
    server.stop(0)
    server.traced.add(100)
    assert kinds(server.pass_seconds(10 * PATIENCE)) == [Log]
    server.traced.clear()
    assert Kill in kinds(server.pass_seconds(PATIENCE))


def test_a_master_that_stood_still_itself_gives_a_stopped_worker_its_time_again():
    server = Server()
    server.stop(0)
    server.pass_seconds(1)
    server.now += int((PATIENCE + SLEPT + 1) * SECOND)
    assert server.pass_seconds(PATIENCE) == []
    assert kinds(server.pass_seconds(1)) == [Kill]


def test_a_successor_with_the_same_number_starts_anew():
    server = Server()
    server.stop(0)
    server.pass_seconds(PATIENCE + 1)
    server.workers[0].pid, server.workers[0].stopped = 200, None
    assert server.pass_seconds(100) == []
