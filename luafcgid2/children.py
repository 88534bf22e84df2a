"""The worker processes that the master has forked: begin one, let one go, kill those that do not go, reap.

In: the scoreboard, the signals of the master, and what a worker does.  Out: `Child` objects and the numbers of
dead processes.  Only the master's loop and roster.py use it.  It decides about nothing: who must come and go is
roster.py's.
"""
from __future__ import annotations

import logging
import os
import resource
import signal
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from .scoreboard import READY, Scoreboard
from .signals import SignalQueue

GRACE_SECONDS = 1.0             # the workers count StopTimeout themselves; this is the time for their goodbye


class Child:
    """A worker process.

    number: of its slot; config: what it was forked with; started, idle_since, kill_at: seconds of the monotonic
    clock (kill_at None: not at all); ready: whether it was ever seen to serve; leaving: whether it was told to go;
    worn: why it must be replaced, "" for no reason; most: the requests after which it is worn, 0 for no limit;
    seen: its count of requests when it was last looked at; late: whether it was killed because it took too long;
    killed: whether it was killed for what it runs; stopped: since when a signal such as SIGSTOP holds it, None while
    it runs.
    """

    def __init__(self, pid: int, number: int, slot: Any, config: Any, started: float) -> None:
        self.pid, self.number, self.slot, self.config = pid, number, slot, config
        self.started = self.idle_since = started
        self.ready = self.leaving = self.late = self.killed = False
        self.worn = ""
        self.most = self.seen = 0
        self.kill_at: Optional[float] = None
        self.stopped: Optional[float] = None

    @property
    def name(self) -> str:
        """As the log has it."""
        return f"worker {self.number + 1} (pid {self.pid})"


class Children:
    """All worker processes, those that leave included.

    run(number, config): the life of a worker, called in its process; it does not return.
    """

    def __init__(self, scoreboard: Scoreboard, signals: SignalQueue, logger: logging.Logger,
                 run: Callable[[int, Any], None]) -> None:
        self.scoreboard, self._signals, self._logger, self._run = scoreboard, signals, logger, run
        self._by_pid: Dict[int, Child] = {}

    def __len__(self) -> int:
        return len(self._by_pid)

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._by_pid.values()))

    @property
    def staff(self) -> List[Child]:
        """Those that were not told to leave, the longest running first."""
        return [child for child in self._by_pid.values() if not child.leaving]

    def find(self, number: int, pid: int) -> Optional[Child]:
        """The worker with that slot and pid, if it still lives: a watcher that wants it replaced sets `worn`."""
        child = self._by_pid.get(pid)
        return child if child is not None and child.number == number else None

    @property
    def awake(self) -> bool:
        """Whether any of them is at work, or looks around after work."""
        return any(child.slot.awake for child in self._by_pid.values())

    @property
    def has_room(self) -> bool:
        """Whether there is a free slot."""
        return len(self._by_pid) < self.scoreboard.slots

    def fork(self, config: Any) -> Child:
        """Begin a worker; OSError when the system has no process to give."""
        number = self.scoreboard.take()
        try:
            with self._signals.blocked():
                pid = os.fork()
                if not pid:
                    self._run(number, config)
        except OSError:
            self.scoreboard.give_back(number)
            raise
        now = time.monotonic()
        child = Child(pid, number, self.scoreboard.slot(number), config, now)
        self._by_pid[pid] = child
        return child

    def notice_ready(self) -> None:
        """Mark those that serve by now."""
        for child in self._by_pid.values():
            if not child.ready and child.slot.state == READY:
                child.ready = True
                child.idle_since = time.monotonic()
                if not child.leaving:
                    child.kill_at = None

    def let_go(self, child: Child, number: int = signal.SIGTERM, seconds: Optional[float] = None,
               heirs: bool = False) -> None:
        """Tell a worker to leave, by signal `number`; after `seconds` (its StopTimeout unless told) it is killed.
        heirs: whether others stay, to whom it can leave its connections."""
        child.slot.heirs = int(heirs)
        if seconds is None:
            seconds = child.config.stop_timeout + GRACE_SECONDS
        kill_at = time.monotonic() + seconds
        child.kill_at = min(child.kill_at, kill_at) if child.leaving and child.kill_at else kill_at
        child.leaving = True
        os.kill(child.pid, number)          # not reaped yet, so the pid is still its own

    def tell(self, number: int) -> None:
        """Signal all of them."""
        for pid in self._by_pid:
            os.kill(pid, number)

    def kill_overdue(self, now: float) -> None:
        """Kill those whose time is over."""
        for child in self._by_pid.values():
            if child.kill_at is not None and child.kill_at <= now:
                child.kill_at, child.late = None, True
                self._logger.warning("%s did not %s in time: killed", child.name,
                                     "stop" if child.leaving else "boot")
                os.kill(child.pid, signal.SIGKILL)

    def deadlines(self) -> List[float]:
        """When `kill_overdue` has something to do."""
        return [child.kill_at for child in self._by_pid.values() if child.kill_at is not None]

    def reap(self) -> Iterator[Tuple[int, int, Optional[Child]]]:
        """(pid, wait status, worker) of each dead child of this process; worker is None for another program.

        The worker's slot is still as it left it: who takes this gives it back.  Workers that were stopped or go
        on are marked so.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if not pid:
                return
            if not (os.WIFSTOPPED(status) or os.WIFCONTINUED(status)):
                yield pid, status, self._by_pid.pop(pid, None)
            elif pid in self._by_pid:
                self._by_pid[pid].stopped = time.monotonic() if os.WIFSTOPPED(status) else None


def allow_descriptors(wanted: int) -> None:
    """Raise the soft limit of open files towards `wanted`: with the usual 1,024 a worker would run out of
    descriptors before it has MaxConnections connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
