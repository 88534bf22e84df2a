"""The memory budget of the whole server: what is given up, and in which order, before the kernel kills.

In: the scoreboard, the budget, and what procfs.py measures.  Out: decisions, and the master's cells `shedding`,
`pss_kb`, `budget_kb`, `own_kb`, `rss_kb` and `evict`.  The master makes one MemoryBudget, asks `next_tick` how
long it may sleep and calls `tick` when that is over.

The master and its workers may have the budget, or what they have now and the machine (or the cgroup) still has to
give, if that is less.  From 80 % of it workers evict idle Lua states; from 90 % the largest worker is replaced, one
after the other; from 100 % new requests are answered 503 until it is below 90 % again; at 125 % a worker that was
told to leave and still works is killed.  Each tick goes up one step at most, so a step has had a chance
before the next is taken.  Nothing is asked for that cannot help: a worker that is as small as a fresh one is not
replaced, and when all are, no request is refused.
"""
from __future__ import annotations

import logging
from typing import Any, Dict, List, Optional, Tuple

from . import procfs
from .decisions import Decision, EvictStates, Kill, Log, Retire, Strike
from .scoreboard import READY

SECOND = 10 ** 9
CALM, EVICT, REPLACE, SHED, KILL = range(5)
STEPS = (0.8, 0.9, 1.0, 1.25)   # of the limit, where each step begins
ENDS = (0.75, 0.85, 0.9, 1.2)   # and below which it ends
TICK, ALERT_TICK = 2.0, 1.0     # seconds between two ticks while requests run; the second from 80 % on
EVICT_PAUSE = 5.0               # seconds until the next eviction, and
RETIRE_PAUSE = 5.0              # until the next worker is replaced
IDLE_TICKS = 10                 # goes on for so many ticks after the last request
FRESH_KB = 12 << 10             # the most that a fresh worker is taken to need before one was seen
GROWN = 1.25                    # so many times the size of a fresh worker is worth replacing


class Kernel:
    """What the policy asks of the kernel; tests put numbers in its place."""

    own_kb = staticmethod(procfs.own_kb)
    rss_kb = staticmethod(procfs.rss_kb)
    room_kb = staticmethod(procfs.room_kb)


class MemoryBudget:
    """See the module's contract.  budget: bytes, 0 = none: then it does nothing.  pid: the master's."""

    def __init__(self, board: Any, budget: int, pid: int, kernel: Any = Kernel) -> None:
        self._board, self._budget_kb, self._pid, self._kernel = board, budget // 1024, pid, kernel
        self._step = CALM
        self._last = self._evicted = self._replaced = 0
        self._idle = IDLE_TICKS
        # The smallest worker that was ever seen; how large a fresh one is, as far as is known.
        self._least_kb = self._budget_kb
        # Slot -> pid of workers that were told to leave, and of the one that was killed.
        self._retired: Dict[int, int] = {}
        self._killed: Dict[int, int] = {}
        self._complained = False
        board.header.budget_kb = self._budget_kb

    def next_tick(self, now: int) -> Optional[float]:
        """Seconds until the next tick is due, 0 = now; None = none while no request runs."""
        if not self._budget_kb:
            return None
        quiet = not self._board.busy and not self._board.header.shedding
        if quiet and (self._step == CALM or self._idle >= IDLE_TICKS):
            return None
        pause = ALERT_TICK if self._step else TICK
        return max(0.0, (self._last - now) / SECOND + pause)

    def tick(self, now: int) -> List[Decision]:
        """Measure, and decide what is to be given up."""
        if not self._budget_kb:
            return []
        self._last = now
        self._idle = 0 if self._board.busy else self._idle + 1
        sizes, total = self._measure()
        room = self._kernel.room_kb()
        limit = self._budget_kb if room is None else min(self._budget_kb, total + room)
        ratio = total / limit if limit > 0 else STEPS[-1]
        before, self._step = self._step, self._climb(ratio)
        # Until one was replaced, all that are known may have been large when they were first seen.
        fresh = self._least_kb if self._replaced else min(self._least_kb, FRESH_KB)
        grown = {number: kb for number, kb in sizes.items() if kb >= fresh * GROWN}
        decisions = self._tell_step(before, total, limit, bool(grown))
        if self._step >= EVICT and (before < EVICT or now - self._evicted >= EVICT_PAUSE * SECOND):
            self._evicted = now
            decisions += self._evict(sizes)
        if self._step >= REPLACE:
            decisions += self._replace(grown, now)
        decisions += self._shed(grown, total, limit)
        if self._step == KILL:
            decisions += self._kill(sizes)
        return decisions

    def _measure(self) -> Tuple[Dict[int, int], int]:
        """KB of each worker by slot, and of all with the master."""
        sizes: Dict[int, int] = {}
        pids = {}
        for number, slot in self._board.workers():
            try:
                if slot.pid:
                    slot.rss_kb = self._kernel.rss_kb(slot.pid)
                    slot.own_kb = sizes[number] = self._kernel.own_kb(slot.pid, slot.pss_kb)
                    pids[number] = slot.pid
            except OSError:
                continue            # it is gone
        self._least_kb = min([self._least_kb, *(kb for kb in sizes.values() if kb)])
        for told in (self._retired, self._killed):
            for number in [number for number, pid in told.items() if pids.get(number) != pid]:
                del told[number]
        total = sum(sizes.values()) + self._kernel.own_kb(self._pid)
        self._board.header.pss_kb = total
        return sizes, total

    def _climb(self, ratio: float) -> int:
        wanted = sum(ratio >= step for step in STEPS)
        if wanted > self._step:
            return self._step + 1
        return max(wanted, min(self._step, sum(ratio >= end for end in ENDS)))

    def _tell_step(self, before: int, total: int, limit: int, grown: bool) -> List[Decision]:
        have = "memory: %s of %s in use" % (_megabytes(total), _megabytes(limit))
        if limit < self._budget_kb:
            have += ", for the machine or the cgroup has no more to give"
        if self._step > before and (self._step == EVICT or self._step == REPLACE and grown):
            what = ("idle Lua states are evicted", "the largest worker is replaced")[self._step - EVICT]
            return [Log(logging.INFO if self._step == EVICT else logging.WARNING, "%s: %s" % (have, what))]
        return []

    def _evict(self, sizes: Dict[int, int]) -> List[Decision]:
        decisions: List[Decision] = []
        for number in sizes:
            slot = self._board.slot(number)
            slot.evict += 1
            decisions.append(EvictStates(number, slot.pid))
        return decisions

    def _replace(self, grown: Dict[int, int], now: int) -> List[Decision]:
        # One at a time: while it finishes its requests, its successor needs memory, too.
        if self._retired or (self._replaced and now - self._replaced < RETIRE_PAUSE * SECOND):
            return []
        grown = {number: kb for number, kb in grown.items() if self._board.slot(number).state == READY}
        if not grown:
            return []
        number = max(grown, key=lambda one: grown[one])
        pid = self._board.slot(number).pid
        self._retired[number], self._replaced = pid, now
        return [Retire(number, pid, "memory is short, and it has most: %s" % _megabytes(grown[number]))]

    def _shed(self, grown: Dict[int, int], total: int, limit: int) -> List[Decision]:
        header = self._board.header
        wanted = int(self._step >= SHED and bool(grown))
        decisions: List[Decision] = []
        have = "memory: %s of %s in use" % (_megabytes(total), _megabytes(limit))
        if wanted and not header.shedding:
            decisions.append(Log(logging.ERROR, have + ": new requests are answered 503"))
        elif header.shedding and not wanted:
            decisions.append(Log(logging.WARNING, have + ": requests are served again"))
        header.shedding = wanted
        if self._step < REPLACE or grown:
            self._complained = False
        elif not self._complained:
            self._complained = True
            decisions.append(Log(logging.ERROR, have + ", and every worker is as small as a fresh one: nothing can be "
                                                "given up; raise MemoryBudget or lower Workers"))
        return decisions

    def _kill(self, sizes: Dict[int, int]) -> List[Decision]:
        left = [number for number in self._retired if number not in self._killed and number in sizes]
        if not left:
            return []
        number = left[0]
        slot = self._board.slot(number)
        self._killed[number] = slot.pid
        scripts = {(line.script, line.started) for line in slot.running}
        strikes: List[Decision] = [Strike(path, "memory", started) for path, started in scripts
                                   if path and len(scripts) == 1]
        names = ", ".join(sorted(path.decode("utf-8", "backslashreplace") for path, _ in scripts)) or "no script"
        return [*strikes, Log(logging.ERROR, "worker %d (pid %d) is killed: it has %s and runs %s" % (
            number + 1, slot.pid, _megabytes(sizes[number]), names)), Kill(number, slot.pid, "memory is short")]


def _megabytes(kb: int) -> str:
    return "%.1f MB" % (kb / 1024)
