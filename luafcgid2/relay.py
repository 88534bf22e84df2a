"""Which thread of a worker leads, that is, polls and serves; it is handed on when a request runs long.

In: what worker.py's main thread sees at its ticks, and threads that have nothing to do.  Out: the epoch in which a
thread leads: it stops when `epoch` has moved on, at the next request's end.  Two leaders for an instant do no harm.
Only worker.py uses it; it starts no thread and knows no requests.
"""
from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import Optional, Tuple

from .seat import Seat

# Seconds that a script may run before another thread should lead, where long ones are common.
LONG = 0.0015


class Relay:
    """See the module's contract.  `leader`: the seat of the thread that leads; None while an appointed one has not sat
    down yet.  `sleeping`: the main thread does, and wants to be woken by who leads, once there is something."""

    __slots__ = ("leader", "epoch", "sleeping", "_baton", "_lock", "_parked", "_looked", "_cpu")

    def __init__(self) -> None:
        self.leader: Optional[Seat] = None
        self.epoch = 0
        self.sleeping = False
        self._baton: SimpleQueue = SimpleQueue()
        self._lock = threading.Lock()
        self._parked = 0
        # Which request was looked at last, and the thread's processor time when it was first.
        self._looked: Tuple[Optional[Seat], int] = None, 0
        self._cpu = 0.0

    def park(self) -> int:
        """Wait to be appointed; the epoch in which to lead."""
        with self._lock:
            self._parked += 1
        epoch: int = self._baton.get()
        return epoch

    def appoint(self) -> bool:
        """Make a parked thread the leader; False if there is none."""
        with self._lock:
            if not self._parked:
                return False
            self._parked -= 1
            self.epoch += 1
            self.leader = None
        self._baton.put(self.epoch)
        return True

    def is_stuck(self, seat: Seat) -> bool:
        """Whether the thread, which has been in one request for a while, waits in it, or has computed since the first
        look.  Not where it only waits for a processor: another thread would wait as well.  For the main thread."""
        try:
            cpu = time.clock_gettime(time.pthread_getcpuclockid(seat.ident))
        except (OSError, AttributeError):
            return True
        if self._looked != (seat, seat.serial):
            self._looked, self._cpu = (seat, seat.serial), cpu
        return cpu - self._cpu > LONG or not _is_runnable(seat.native)

    def succeed(self) -> int:
        """For a thread whose long request has ended: lead again, at once, if who leads meanwhile is in one, too.  The
        epoch, or 0."""
        with self._lock:
            if self.leader is None or not is_long(self.leader):
                return 0
            self.epoch += 1
            self.leader = None
            return self.epoch


def is_long(seat: Seat) -> bool:
    """Whether its thread runs a script, and not only since a moment."""
    return seat.state is not None and time.monotonic() - seat.started > LONG


def _is_runnable(task: int) -> bool:
    """Whether a thread runs, or could if there were a processor; False where the system does not tell."""
    try:
        with open("/proc/self/task/%d/stat" % task, "rb") as file:
            return file.read().rpartition(b")")[2][1:2] == b"R"
    except OSError:
        return False
