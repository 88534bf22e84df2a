"""The master's policies over real processes: memory that is really taken, real deaths, a scoreboard across a fork."""
from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from luafcgid2 import procfs
from luafcgid2.decisions import EvictStates, Kill, Retire
from luafcgid2.gate import Gate
from luafcgid2.hung import HungWatch
from luafcgid2.memory import MemoryBudget
from luafcgid2.quarantine import Quarantine
from luafcgid2.ready import BootPipe, Reporter
from luafcgid2.scoreboard import READY, RUNNING, Scoreboard

SECOND = 10 ** 9
PATH = b"/srv/www/bad.lua"
# Takes so many megabytes as each line says, and answers when it has them; ends with its input.
EATER = """
import sys
have = []
print("ready", flush=True)
for line in sys.stdin:
    have.append(bytearray(b"x") * (int(line) << 20))
    print("done", flush=True)
"""


class Eater:
    """A process in a slot of the scoreboard that takes memory when it is told to."""

    def __init__(self, board):
        self.process = subprocess.Popen([sys.executable, "-S", "-c", EATER], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.process.stdout.readline()
        self.number = board.take()
        self.slot = board.slot(self.number)
        self.slot.pid, self.slot.state = self.process.pid, READY
        line = self.slot.lines[0]
        line.script, line.started, line.state = PATH, time.monotonic_ns(), RUNNING

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        with self.process:
            self.process.kill()

    def take(self, megabytes):
        self.process.stdin.write(b"%d\n" % megabytes)
        self.process.stdin.flush()
        self.process.stdout.readline()


def forked(work):
    """The pid of a child that runs `work` and exits."""
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def test_real_growth_evicts_then_replaces_then_sheds_and_ends_with_the_worker():
    board = Scoreboard(4, 1)
    now, order = time.monotonic_ns(), []
    with Eater(board) as small, Eater(board) as large:
        at_rest = sum(procfs.own_kb(pid) for pid in (os.getpid(), small.process.pid, large.process.pid))
        budget = MemoryBudget(board, int(at_rest * 1024 / 0.7), os.getpid())
        while not board.header.shedding:
            now += SECOND
            for decision in budget.tick(now):
                if isinstance(decision, (EvictStates, Retire)):
                    order.append(decision)
            assert len(order) < 200
            large.take(max(1, at_rest // 1024 // 20))
        first = [type(decision) for decision in order]
        assert first.index(EvictStates) < first.index(Retire)
        assert [decision[:2] for decision in order if isinstance(decision, Retire)] == [
            (large.number, large.process.pid)]
        large.process.stdin.close()
        large.process.wait()
        board.give_back(large.number)
        budget.tick(now + SECOND)
        assert board.header.shedding == 0
        assert board.header.pss_kb == pytest.approx(at_rest - procfs.own_kb(small.process.pid), rel=0.5)


def test_memory_taken_by_another_process_shows_in_its_size():
    with Eater(Scoreboard(1, 1)) as eater:
        before = procfs.own_kb(eater.process.pid), procfs.rss_kb(eater.process.pid)
        eater.take(20)
        assert procfs.own_kb(eater.process.pid) - before[0] > 19 << 10
        assert procfs.rss_kb(eater.process.pid) - before[1] > 19 << 10


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give it up")
def test_a_master_that_gave_up_root_still_measures_its_workers():
    readable, writable = os.pipe()

    def master():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        worker = forked(signal.pause)
        try:
            with contextlib.suppress(PermissionError):
                procfs.pss_kb(worker)
                os.write(writable, b"may look, ")
            os.write(writable, b"%d %d %d" % (procfs.pss_kb("self"), procfs.own_kb(worker), procfs.own_kb(worker, 7)))
        finally:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)

    pid = forked(master)
    os.waitpid(pid, 0)
    os.close(writable)
    with open(readable) as file:
        own, estimated, reported = map(int, file.read().split())
    assert own > 0 and estimated > 0 and reported == 7


def test_a_stopped_worker_is_told_from_a_hung_one():
    board = Scoreboard(1, 1)
    with Eater(board) as eater:
        eater.slot.lines[0].started = 1
        watch = HungWatch(board, hard=1, drain=0)
        os.kill(eater.process.pid, signal.SIGSTOP)
        wait_until(lambda: procfs.is_stopped(eater.process.pid))
        now = 100 * SECOND
        assert not [one for one in watch.tick(now) if isinstance(one, Kill)]
        os.kill(eater.process.pid, signal.SIGCONT)
        wait_until(lambda: not procfs.is_stopped(eater.process.pid))
        # The limit counts from when it was last seen stopped.
        ticks = [watch.tick(now + number * SECOND) for number in (1, 2, 3)]
        assert [one.pid for one in ticks[0] if isinstance(one, Kill)] == []
        assert [one.pid for tick in ticks for one in tick if isinstance(one, Kill)] == [eater.process.pid]


def test_a_script_that_crashes_real_workers_is_refused_in_the_others():
    board = Scoreboard(4, 1)
    quarantine = Quarantine(board, 3, 60, 10, 3600)
    asked, answered = os.pipe(), os.pipe()

    def worker():
        gate = Gate(board, changed=lambda path: None)
        while os.read(asked[0], 1):
            os.write(answered[1], b"1" if gate.check(PATH) > 0 else b"0")

    def refused():
        os.write(asked[1], b"?")
        return os.read(answered[0], 1) == b"1"

    def crash():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)

    survivor = forked(worker)
    try:
        for _ in range(3):
            assert not refused()
            number = board.take()
            line = board.slot(number).lines[0]
            line.script, line.state = PATH, RUNNING
            _pid, status = os.waitpid(forked(crash), 0)
            quarantine.death(board.slot(number), status, time.monotonic_ns())
            board.give_back(number)
        assert refused()
        quarantine.flush()
        assert not refused()
    finally:
        os.kill(survivor, signal.SIGKILL)
        os.waitpid(survivor, 0)
        for fd in (*asked, *answered):
            os.close(fd)


def test_a_mended_file_is_told_to_the_master_by_the_worker_that_noticed(tmp_path):
    path = os.fsencode(tmp_path / "bad.lua")
    (tmp_path / "bad.lua").write_text("-- bad")
    board = Scoreboard(1, 1)
    quarantine = Quarantine(board, 1, 60, 600, 3600)
    quarantine.strike(path, "timeout", time.monotonic_ns())
    [line] = [line for line in board.quarantine if line.path]
    with BootPipe() as pipe:
        def worker():
            gate = Gate(board, Reporter(pipe.write_fd).changed)
            while gate.check(path):
                time.sleep(0.01)

        pid = forked(worker)
        try:
            # A file system's clock may lag behind by a tick.
            while os.stat(path).st_ctime_ns <= line.since:
                (tmp_path / "bad.lua").write_text("-- mended")
            wait_until(lambda: pipe.hear() and pipe.changed)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        assert pipe.changed == [path]
        quarantine.changed(path)
    assert not [line for line in board.quarantine if line.path]
