"""How many workers there are: SIGTTIN, SIGTTOU, dynamic, ondemand; and workers that are replaced because they have
served or grown enough."""
from __future__ import annotations

import contextlib
import os
import signal

import pytest
from controlled import Daemon
from harness import accepts, is_alive, wait_until

from luafcgid2.scoreboard import EMPTY, READY, Scoreboard

HELLO = "function main() Send('hello') end"
# Waits until the test opens the pipe for writing.
HELD = "function main() local p = io.open(Env.QUERY_STRING) Send(p:read('l')) p:close() end"


@pytest.fixture
def run(site):
    """run(Workers=4): a server in the background with the scripts of this module."""
    site.write("hello.lua", HELLO)
    site.write("held.lua", HELD)
    with contextlib.ExitStack() as running:
        yield lambda **settings: running.enter_context(Daemon(site, **settings))


@contextlib.contextmanager
def busy(server, number):
    """So many requests under way at once, each in its own worker or thread."""
    pipes = [os.path.join(server.site.run, "pipe%d" % each) for each in range(number)]
    with contextlib.ExitStack() as held:
        ends = []
        for pipe in pipes:
            os.mkfifo(pipe)
            held.enter_context(server.in_flight("held.lua", pipe))
        # Opening returns when a script has the other end.
        for pipe in pipes:
            ends.append(held.enter_context(open(pipe, "w")))
        yield
        for end in ends:
            end.write("it\n")
            end.close()


def count(server, number):
    """Wait until so many workers serve, and no other process of this master's lives."""
    wait_until(lambda: len(server.serving()) == number == len(server.workers()), "%d workers" % number)


def waits(pid):
    """How often the process went to sleep: each wake-up leads to one more."""
    with open("/proc/%d/status" % pid) as file:
        return next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches"))


def cpu_seconds(pid):
    """Processor time that the process has used."""
    with open("/proc/%d/stat" % pid) as file:
        words = file.read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def asleep(server):
    """Whether no worker is at work or looking around after it."""
    return not any(slot.awake for _, slot in Scoreboard.of(server.master).workers())


class TestSignals:
    def test_sigttin_is_one_worker_more_and_sigttou_one_fewer(self, run):
        server = run(Workers=2)
        before = server.serving()
        os.kill(server.master, signal.SIGTTIN)
        count(server, 3)
        assert server.header.target == 3
        for expected in (2, 1, 1):
            os.kill(server.master, signal.SIGTTOU)
            count(server, expected)
        assert server.header.target == 1
        assert set(server.serving()) <= {*before, *server.serving()}
        assert server.ask("hello.lua") == "hello"

    def test_the_number_survives_a_reload_that_does_not_change_workers(self, run):
        server = run(Workers=2)
        os.kill(server.master, signal.SIGTTIN)
        count(server, 3)
        server.change(Config={"a": 1})
        assert server.ctl("reload").returncode == 0
        count(server, 3)


class TestDynamic:
    def test_it_starts_between_the_two_limits(self, run):
        server = run(ProcessManager="dynamic", Workers=8, MinSpareWorkers=1, MaxSpareWorkers=5)
        count(server, 3)

    def test_busy_workers_are_joined_by_spare_ones_which_leave_after_the_rush(self, run):
        server = run(ProcessManager="dynamic", Workers=4, StartWorkers=1, MinSpareWorkers=1, MaxSpareWorkers=1,
                     WorkerThreads=1, IdleTimeout=86400)
        count(server, 1)
        with busy(server, 3):
            wait_until(lambda: len(server.serving()) == 4, "four workers")
            assert server.ask("hello.lua") == "hello"
        count(server, 1)
        assert server.ask("hello.lua") == "hello"

    def test_there_are_never_more_than_workers(self, run):
        server = run(ProcessManager="dynamic", Workers=2, StartWorkers=1, MinSpareWorkers=1, WorkerThreads=1)
        with busy(server, 2):
            count(server, 2)
            assert len(server.workers()) == 2

    def test_idle_workers_above_the_minimum_leave_after_idle_timeout(self, run):
        server = run(ProcessManager="dynamic", Workers=4, StartWorkers=3, MinSpareWorkers=1, MaxSpareWorkers=4,
                     IdleTimeout=86400)
        # However long the third takes until it serves, none leaves before.
        count(server, 3)
        server.change(IdleTimeout=1)
        assert server.ctl("reload").returncode == 0
        count(server, 1)


class TestOndemand:
    def test_an_idle_server_is_one_process(self, run):
        server = run(ProcessManager="ondemand", IdleTimeout=1)
        count(server, 0)
        assert accepts(server.address)

    def test_a_connection_brings_a_worker_which_leaves_when_idle(self, run):
        server = run(ProcessManager="ondemand", IdleTimeout=1)
        for _ in range(2):
            count(server, 0)
            assert server.ask("hello.lua") == "hello"
            assert len(server.workers()) == 1

    def test_saturated_workers_are_joined_by_others(self, run):
        server = run(ProcessManager="ondemand", Workers=3, WorkerThreads=1, IdleTimeout=1)
        count(server, 0)
        with busy(server, 3):
            count(server, 3)
        count(server, 0)

    def test_the_master_does_not_spin_while_the_worker_boots(self, run):
        server = run(ProcessManager="ondemand", IdleTimeout=1, copied=True)
        server.edit("worker.py", "    def _boot(self) -> None:", "    def _boot(self) -> None:\n        time.sleep(3)")
        assert server.ctl("upgrade").returncode == 0
        count(server, 0)
        before = cpu_seconds(server.master)
        with server.in_flight("hello.lua", "") as outcome:
            wait_until(lambda: outcome, "the answer")
        assert outcome == ["hello"]
        # It would take all of the three seconds.
        assert cpu_seconds(server.master) - before < 1.5

    def test_a_worker_that_crashes_is_replaced_only_when_it_is_wanted(self, run):
        server = run(ProcessManager="ondemand", IdleTimeout=1)
        server.expect_errors("was killed by SIGSEGV")
        server.ask("hello.lua")
        os.kill(server.workers()[0], signal.SIGSEGV)
        wait_until(lambda: "was killed by SIGSEGV" in server.log_text(), "its death")
        assert server.ask("hello.lua") == "hello"
        count(server, 0)

    def test_a_new_configuration_is_tried_although_nobody_works(self, run):
        server = run(ProcessManager="ondemand", IdleTimeout=1)
        server.site.write("show.lua", "function main() Send(Config.word) end")
        count(server, 0)
        server.change(Config={"word": "second"})
        assert server.ctl("reload").returncode == 0
        assert server.ask("show.lua") == "second"
        count(server, 0)

    def test_a_reload_changes_the_manager(self, run):
        server = run(ProcessManager="static", Workers=3, IdleTimeout=1)
        for manager, expected in (("ondemand", 0), ("static", 3)):
            server.change(ProcessManager=manager)
            assert server.ctl("reload").returncode == 0
            count(server, expected)


@pytest.mark.parametrize("manager", ["static", "dynamic", "ondemand"])
def test_an_idle_master_does_not_wake(run, manager):
    server = run(ProcessManager=manager, Workers=2, IdleTimeout=2)
    server.ask("hello.lua")
    count(server, {"static": 2, "dynamic": 1, "ondemand": 0}[manager])
    wait_until(lambda: asleep(server), "the workers sleep")
    seen = [-1]

    def stays():
        # Twice the same after longer than a tick: nothing ticks any more.
        before = waits(server.master)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: waits(server.master) != before, "a wake-up", seconds=1.5)
            return False
        return seen
    wait_until(stays, "a master that sleeps")


class TestWear:
    def test_a_worker_that_served_enough_is_replaced_and_no_request_fails(self, run):
        server = run(Workers=2, MaxRequests=50, MaxRequestsJitter=10)
        before = server.serving()
        answers = []

        def replaced():
            answers.extend(server.ask("hello.lua") for _ in range(20))
            return not set(before) & set(server.serving()) and len(server.serving()) == 2
        wait_until(replaced, "two new workers")
        assert set(answers) == {"hello"}
        assert "is replaced: " in server.log_text() and "(MaxRequests)" in server.log_text()
        assert server.header.retired >= 2

    def test_a_worker_that_grew_too_much_is_replaced(self, run):
        server = run(Workers=1, MaxWorkerMemory="60M")
        server.site.write("grow.lua", "heap = heap or {}\n"
                          "function main() heap[#heap + 1] = ('x'):rep(10 << 20) .. #heap Send('ok') end")
        before = server.serving()
        for _ in range(10):
            server.ask("grow.lua")

        def replaced():
            server.ask("hello.lua")
            return not set(before) & set(server.serving())
        wait_until(replaced, "a new worker")
        assert "MiB of memory (MaxWorkerMemory)" in server.log_text()
        wait_until(lambda: not is_alive(before[0]), "the old one leaves")


def test_slots_are_given_back(run):
    server = run(Workers=2)
    for number in range(5):
        server.change(Config={"number": number})
        assert server.ctl("reload").returncode == 0
    count(server, 2)
    board = Scoreboard.of(server.master)

    def given_back():
        states = [board.slot(number).state for number in range(board.slots)]
        return states.count(READY) == 2 and states.count(EMPTY) == board.slots - 2
    # A worker is dead a moment before the master knows.
    wait_until(given_back, "the slots are free")
