"""What the master knows about dead workers: how one died, and how soon the next may start.

In: wait statuses and times in seconds of a monotonic clock.  Out: words for the log, and delays.  Only the
master calls it.  Pure: no process, no clock, no log of its own.
"""

from __future__ import annotations

import collections
import os
import signal
from typing import Deque

from .errors import BootError

FIRST_DELAY = 1.0               # seconds
LONGEST_DELAY = 60.0            # seconds
LONG_LIFE = 1.0                 # seconds: a worker that leaves by itself earlier is not on time, it is broken


def describe_death(status: int, ours: bool = False) -> str:
    """How a process ended, from its wait status: "exited with code 1", "was killed by SIGSEGV"."""
    if os.WIFEXITED(status):
        return f"exited with code {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = " (out of memory?)" if number == signal.SIGKILL and not ours else ""
    core = ", core dumped" if os.WCOREDUMP(status) else ""
    return f"was killed by {name}{hint}{core}"


def could_not_boot(status: int) -> bool:
    """Whether the wait status is that of a worker that could not boot."""
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == BootError.exit_code


def is_innocent(status: int, was_ready: bool) -> bool:
    """Whether this death says nothing about the next worker: SIGKILL of one that served came from outside."""
    return was_ready and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


class RestartBudget:
    """How many workers may die before the next has to wait.

    limit deaths within interval seconds cost nothing; from then on each start waits, 1 second at first, twice
    as long with each further death, 60 seconds at most, until an interval passes without a death.  It stands for
    php-fpm's emergency_restart_threshold and emergency_restart_interval, which restart the master because its
    workers share memory that one of them may have spoilt; ours share nothing that a script could reach.
    """

    def __init__(self, limit: int, interval: float) -> None:
        self.limit = limit
        self.interval = interval
        self._deaths: Deque[float] = collections.deque()
        self._delay = 0.0

    def spend(self, now: float) -> float:
        """Note a death at `now`; the seconds to wait before its successor starts."""
        calm = not self._deaths or now - self._deaths[-1] > self.interval + self._delay
        while self._deaths and self._deaths[0] <= now - self.interval:
            self._deaths.popleft()
        self._deaths.append(now)
        if self._delay and not calm:
            self._delay = min(LONGEST_DELAY, self._delay * 2)
        else:
            self._delay = FIRST_DELAY if len(self._deaths) > self.limit else 0.0
        return self._delay

    @property
    def exhausted(self) -> bool:
        """Whether the last death was over the limit."""
        return self._delay > 0
