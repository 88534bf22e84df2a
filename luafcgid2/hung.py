"""Which workers hang: the hard limit of a request, and a main thread that is not heard any more.

In: the scoreboard, limits in seconds, and the time in nanoseconds of the monotonic clock.  Out: decisions.  The
master makes one HungWatch, asks `next_tick` how long it may sleep and calls `tick` when that is over.  The soft
limit, RequestTimeout, is kept by the worker itself.  This module signals nobody and writes to no cell.

A request over the hard limit cannot be interrupted: its worker is retired, so that its other requests finish and a
successor serves, and killed once nothing else runs in it, or after `drain` seconds.  A worker whose main thread
does not beat while requests run can neither drain nor hear a signal (a thread that waits for the GIL and never
gets it), and is killed at once.  Time in which the master itself did not run, or a worker was stopped by a signal
or a debugger, does not count.
"""
from __future__ import annotations

import logging
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from .decisions import Decision, Kill, Log, Retire, Strike
from .procfs import is_stopped
from .scoreboard import READY, RUNNING

SECOND = 10 ** 9
TICK = 1.0                      # seconds between two ticks while requests run
STALE = 10.0                    # seconds without a beat of the main thread
SLEPT = 5.0                     # seconds that a tick may be late before the master counts as stopped
GRACE = 5.0                     # seconds that RequestTerminateTimeout is over RequestTimeout by default


def hard_limit(soft: float, hard: float) -> float:
    """The limit in force, in seconds, 0 = none: RequestTerminateTimeout `hard`, or RequestTimeout `soft` and GRACE."""
    if hard:
        return max(hard, soft)
    return soft + GRACE if soft else 0.0


class _Watched:
    """What is known of the worker in one slot."""

    def __init__(self, identity: Tuple[int, int], now: int) -> None:
        self.identity = identity
        self.heartbeat, self.beat_at = -1, now
        # Requests that began earlier count from here.
        self.floor = 0
        self.stopped = False
        self.retired_at: Optional[int] = None
        self.killed = False
        self.named: Set[Tuple[int, int]] = set()


class HungWatch:
    """See the module's contract.

    hard: seconds that a request may run, 0 = no limit; drain: seconds that the other requests of a retired worker
    get (StopTimeout); stopped: whether a process is stopped, asked only before something would happen to it.
    """

    def __init__(self, board: Any, hard: float, drain: float, stopped: Callable[[int], bool] = is_stopped) -> None:
        self._board, self._hard, self._drain, self._stopped = board, hard, int(drain * SECOND), stopped
        self._interval = int(min(TICK, max(0.05, hard / 4) if hard else TICK) * SECOND)
        self._last = 0
        self._busy = False
        self._watched: Dict[int, _Watched] = {}
        # (when the master came back, how long it was away), nanoseconds.
        self._away: List[Tuple[int, int]] = []

    def next_tick(self, now: int) -> Optional[float]:
        """Seconds until the next tick is due, 0 = now; None = none while no request runs."""
        if not self._board.busy:
            return None
        return max(0, self._last + self._interval - now) / SECOND

    def tick(self, now: int) -> List[Decision]:
        """Look at all workers."""
        late = now - self._last - self._interval
        slept = self._busy and late > SLEPT * SECOND
        self._last, self._busy = now, self._board.busy
        if not self._busy:
            self._watched.clear()
            self._away.clear()
            return []
        if slept:
            # Everybody may have stood still as long as we did: let the workers show that they live.
            self._away.append((now, late))
            for watched in self._watched.values():
                watched.beat_at = now
            return []
        decisions: List[Decision] = []
        slots = {number: slot for number, slot in self._board.workers() if slot.pid}
        self._watched = {number: self._known(number, slot, now) for number, slot in slots.items()}
        for number, slot in slots.items():
            if not self._watched[number].killed:
                decisions += self._look(number, slot, self._watched[number], now)
        return decisions

    def _known(self, number: int, slot: Any, now: int) -> _Watched:
        identity = (slot.pid, slot.since_start)
        watched = self._watched.get(number)
        # A successor may have the slot since, with requests of its own.
        return watched if watched and watched.identity == identity else _Watched(identity, now)

    def _look(self, number: int, slot: Any, watched: _Watched, now: int) -> List[Decision]:
        running = [(index, line.started, line) for index, line in enumerate(slot.lines) if line.state == RUNNING]
        if not running or slot.heartbeat != watched.heartbeat:
            watched.heartbeat, watched.beat_at, watched.stopped = slot.heartbeat, now, False
        overdue = [entry for entry in running if self._ran(entry[1], watched, now) > self._hard] if self._hard else []
        silent = (now - watched.beat_at) / SECOND
        if not overdue and silent <= STALE:
            return []
        name = "worker %d (pid %d)" % (number + 1, slot.pid)
        if self._stopped(slot.pid):
            return self._wait_for(watched, name, now)
        if silent > STALE:
            return self._deaf(number, slot, running, watched, silent, name, now)
        return self._overdue(number, slot, running, overdue, watched, name, now)

    def _ran(self, started: int, watched: _Watched, now: int) -> float:
        """Seconds that count; a request without a start has only just begun."""
        if not started:
            return 0.0
        begun = max(started, watched.floor)
        away = sum(length for moment, length in self._away if begun < moment)
        return (now - begun - away) / SECOND

    def _wait_for(self, watched: _Watched, name: str, now: int) -> List[Decision]:
        watched.floor = watched.beat_at = now
        if watched.stopped:
            return []
        watched.stopped = True
        return [Log(logging.WARNING, "%s is stopped by a signal or a debugger: its limits wait for it" % name)]

    def _deaf(self, number: int, slot: Any, running: list, watched: _Watched, silent: float, name: str,
              now: int) -> List[Decision]:
        watched.killed = True
        decisions: List[Decision] = []
        scripts = {line.script for _, _, line in running}
        if len(scripts) == 1 and all(scripts):
            decisions.append(Strike(scripts.pop(), "timeout", min(started for _, started, _ in running)))
        what = "; ".join(_describe(line, self._ran(started, watched, now)) for _, started, line in running)
        text = "%s hangs: nothing was heard of its main thread for %.0f s; it is killed. It runs %s" % (
            name, silent, what)
        return [*decisions, Log(logging.ERROR, text), Kill(number, slot.pid, "it hangs")]

    def _overdue(self, number: int, slot: Any, running: list, overdue: list, watched: _Watched, name: str,
                 now: int) -> List[Decision]:
        decisions: List[Decision] = []
        for index, started, line in overdue:
            if (index, started) not in watched.named:
                watched.named.add((index, started))
                if line.script:
                    decisions.append(Strike(line.script, "timeout", started))
                decisions.append(Log(logging.ERROR, "%s: %s: over the hard limit of %g s; the worker is replaced" % (
                    name, _describe(line, self._ran(started, watched, now)), self._hard)))
        if watched.retired_at is None:
            watched.retired_at = now
            if slot.state == READY:
                decisions.append(Retire(number, slot.pid, "a request ran too long"))
        if len(overdue) == len(running) or now - watched.retired_at >= self._drain:
            watched.killed = True
            decisions.append(Kill(number, slot.pid, "a request ran too long"))
        return decisions


def _describe(line: Any, seconds: float) -> str:
    script, method, uri = (text.decode("utf-8", "backslashreplace") for text in (line.script, line.method, line.uri))
    return "%s (%s) for %.0f s" % (script or "a script", " ".join((method, uri)).strip() or "request unknown", seconds)
