"""Quarantine: a script that does harm again and again is refused for a while, and the rest of the site lives.

In: strikes, that is, scripts that timed out, overran their memory or brought a worker down.  Out: the scoreboard's
lines of quarantine, and what to log.  The master makes one Quarantine, the only writer of the lines; gate.py reads
them in the workers.  This module starts and ends nothing.

So many strikes within an interval, and requests of the script are answered 503 for a time.  Then it is on trial:
each worker lets one request through, and all once that one went well.  A strike on trial doubles the time.  Every
calm spell (as long as the last back-off, an interval at least) halves it, until the script is forgotten.  The
quarantine ends at once when the script's file changes, and with a flush, which is the way to tell that a module
which the script requires was mended.

Names: a script goes by `scoreboard.script_key(path)`, in the scoreboard's thread lines, too.
Times: nanoseconds of the monotonic clock, seconds for settings.
"""
from __future__ import annotations

import collections
import logging
import os
import signal
import time
from typing import Any, Callable, Deque, Dict, FrozenSet, List, Optional, Tuple

from .decisions import Decision, Log
from .errors import BootError
from .scoreboard import script_key

SECOND = 10 ** 9
MAX_SCRIPTS = 1000              # with strikes: a site may have any number of scripts
REASONS = {"timeout": "it ran too long", "memory": "it took too much memory", "death": "it brought a worker down"}
# Exit codes and signals that are no script's doing.  Lua 5.1 and LuaJIT end a process with code 1 when they panic.
OWN_CODES = (0, BootError.exit_code)
SENT_BY_PEOPLE = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class _Case:
    """One script with strikes; `level` 0 = not in quarantine, each level doubles the time."""

    def __init__(self) -> None:
        self.strikes: Deque[int] = collections.deque()
        self.level = self.total = self.past = 0
        # `begun` is `since` in nanoseconds since 1970.
        self.since = self.until = self.calm_at = self.begun = 0
        self.line: Any = None


class Quarantine:
    """The master's part; see the module's contract.

    strikes: how many bring quarantine, 0 = never; interval: seconds over which they count; first, longest: seconds
    of the first and of the longest back-off.
    """

    def __init__(self, board: Any, strikes: int, interval: float, first: float, longest: float,
                 wall: Callable[[], int] = time.time_ns) -> None:
        self._board, self._limit, self._wall = board, strikes, wall
        self._interval, self._first = int(interval * SECOND), int(first * SECOND)
        self._longest = max(self._first, int(longest * SECOND))
        self._cases: Dict[bytes, _Case] = {}
        self._deaths: Deque[Tuple[int, FrozenSet[bytes]]] = collections.deque(maxlen=max(1, strikes))

    def next_tick(self, now: int) -> Optional[float]:
        """Seconds until the next tick is due, 0 = now; None = none while nothing is in quarantine."""
        times = [case.calm_at for case in self._cases.values() if case.level]
        return max(0, min(times) - now) / SECOND if times else None

    def tick(self, now: int) -> List[Decision]:
        """Calm spells that are over: halve the time, or forget the script."""
        decisions: List[Decision] = []
        for path, case in list(self._cases.items()):
            while case.level and case.calm_at <= now:
                case.level -= 1
                case.calm_at += self._calm(case.level)
                if case.level:
                    self._write(path, case)
                else:
                    decisions += self._end(path, "no harm was done for a while")
        return decisions

    def strike(self, path: bytes, reason: str, now: int, started: int = 0) -> List[Decision]:
        """A script did harm in a request that began at `started` (0 = not known); see decisions.Strike."""
        if not self._limit or not path:
            return []
        path = script_key(path)
        case = self._case(path, now)
        if case.level and (now < case.until or 0 < started < case.since):
            # It ran when the quarantine began, and says nothing new.
            return []
        case.total += 1
        case.strikes.append(now)
        if not case.level and len(case.strikes) < self._limit:
            return []
        return self._begin(path, case, reason, now)

    def death(self, slot: Any, status: int, now: int, oom: bool = False) -> List[Decision]:
        """A worker died with this wait status, before its slot is given back; oom: the kernel was short of memory
        (procfs.oom_kills went up).  Not for workers that the master killed on purpose.

        One script in all running threads has a strike.  Of several it is the one on trial; otherwise nobody knows
        which it was, until one of them is the only one that was there each time.
        """
        scripts = frozenset(script_key(line.script) for line in slot.running)
        if not self._limit or not scripts or not blames_script(status, oom):
            return []
        self._deaths.append((now, scripts))
        on_trial = [path for path in scripts if path in self._cases and self._cases[path].level]
        if len(scripts) == 1 or len(on_trial) == 1:
            return self.strike(min(on_trial or scripts), "death", now)
        recent = [names for moment, names in self._deaths if moment > now - self._interval]
        always = frozenset.intersection(*recent) - {b""}
        if len(recent) < self._limit or len(always) != 1:
            return []
        path = min(always)
        case = self._case(path, now)
        case.total += 1
        return self._begin(path, case, "death", now) if now >= case.until else []

    def changed(self, path: bytes) -> List[Decision]:
        """A worker says that the file is another one now."""
        path = script_key(path)
        return self._end(path, "its file has changed") if path in self._cases else []

    def flush(self) -> List[Decision]:
        """Forget everything: all scripts are loaded anew."""
        ended = [self._end(path, "flush") for path in list(self._cases)]
        self._deaths.clear()
        return [decision for decisions in ended for decision in decisions]

    def _case(self, path: bytes, now: int) -> _Case:
        """The script's case, without strikes that count no longer."""
        case = self._cases.pop(path, None) or _Case()
        while case.strikes and case.strikes[0] <= now - self._interval:
            case.strikes.popleft()
        self._cases[path] = case
        if len(self._cases) > MAX_SCRIPTS:
            # The one that was struck longest ago, of those in quarantine only if there are no others.
            least = next((one for one, other in self._cases.items() if not other.level and other is not case), None)
            self._end(least or next(iter(self._cases)), "too many others have strikes")
        return case

    def _begin(self, path: bytes, case: _Case, reason: str, now: int) -> List[Decision]:
        how = "again, while on trial" if case.level else "%d times within %g s" % (
            self._limit, self._interval / SECOND)
        case.strikes.clear()
        if not case.level or self._back_off(case.level) < self._longest:
            case.level += 1
        case.past += 1
        pause = self._back_off(case.level)
        case.since, case.until, case.begun = now, now + pause, self._wall()
        case.calm_at = case.until + self._calm(case.level)
        self._write(path, case)
        return [Log(logging.ERROR, "script %s is in quarantine: %s, %s; its requests are answered 503 for %g s" % (
            _shown(path), REASONS.get(reason, reason), how, pause / SECOND))]

    def _end(self, path: bytes, why: str) -> List[Decision]:
        case = self._cases.pop(path)
        if case.line is not None:
            self._vacate(case)
        if not case.past:
            return []
        return [Log(logging.INFO, "script %s is out of quarantine: %s" % (_shown(path), why))]

    def _back_off(self, level: int) -> int:
        return min(self._longest, self._first << (level - 1))

    def _calm(self, level: int) -> int:
        return max(self._interval, self._back_off(level)) if level else 0

    def _write(self, path: bytes, case: _Case) -> None:
        if case.line is None:
            case.line = self._free_line()
        line = case.line
        if line is None:
            return
        line.path = b""
        line.until, line.level, line.strikes, line.past = case.until, case.level, case.total, case.past
        line.since = case.begun
        line.path = path
        self._board.header.quarantine_serial += 1

    def _free_line(self) -> Any:
        """A line that is not in use, or that of the script whose time is over first."""
        for line in self._board.quarantine:
            if not line.path:
                return line
        case = min((case for case in self._cases.values() if case.line is not None),
                   key=lambda one: one.until, default=None)
        if case is None:
            return None
        line = case.line
        self._vacate(case)
        return line

    def _vacate(self, case: _Case) -> None:
        case.line.path = b""
        case.line.clear()
        case.line = None
        self._board.header.quarantine_serial += 1


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def blames_script(status: int, oom: bool) -> bool:
    """Whether the wait status is one that a script can cause: a crash, an exit that is not ours, or the kernel's
    SIGKILL for want of memory; not signals that people send."""
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status) not in OWN_CODES
    number = os.WTERMSIG(status)
    return oom if number == signal.SIGKILL else number not in SENT_BY_PEOPLE
