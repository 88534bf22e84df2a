"""What the main thread of a worker does at its ticks: it publishes what the threads did, and keeps their limits.

In: the seats, the pool, the poller, the worker's slot.  Out: the slot's cells; errors raised in Lua states that run
too long; idle states closed when the master asks for memory.  worker.py calls `tick` while there is work, `rest`
once there is none, `close` at the end.  Nothing of it is on the way of a request: what takes a microsecond there
is looked up here, for the few requests that run long.
"""
from __future__ import annotations

import contextlib
import logging
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import log, procfs
from .errors import ProtocolError
from .params import decode
from .runtime import text
from .scoreboard import SCRIPTS, script_key
from .seat import Seat

SLOW_TICK = 0.25                # seconds between two looks at what changes slowly: latencies, scripts, memory
# Seconds after which a request's method and URI are shown: under load each tick meets one that has just begun.
SHOWN = 0.003
MEMORY_TICK = 2.0               # seconds between two measurements of this process, which take a millisecond


class Monitor:
    """See the module's contract.

    timeout: RequestTimeout, slow: SlowLogTime, in seconds, 0 = none; measured: whether somebody wants to know the
    size of this process; connections: gives the number of open ones; access: the access log, or None; trim: gives
    free memory back to the kernel.
    """

    def __init__(self, slot: Any, seats: List[Seat], pool: Any, logger: logging.Logger, timeout: float = 0,
                 slow: float = 0, measured: bool = False, connections: Callable[[], int] = int,
                 access: Optional[Any] = None,
                 trim: Callable[[], object] = int) -> None:
        self._slot, self._seats, self._pool, self._logger = slot, seats, pool, logger
        self._timeout, self._slow, self._measured = timeout, slow, measured
        self._connections, self._access, self._trim = connections, access, trim
        self._evictions = slot.evict
        self._next_slow = self._next_measured = 0.0
        # By thread: the start of the request that is described in its line, logged as slow.
        self._shown: Dict[int, float] = {}
        self._logged: Dict[int, float] = {}

    def tick(self) -> None:
        """The threads are at work."""
        now, slot = time.monotonic(), self._slot
        slot.heartbeat = int(now * 1e9)
        slot.requests = sum(seat.requests for seat in self._seats)
        slot.busy = sum(seat.serving for seat in self._seats)
        for seat in self._seats:
            if seat.serving:
                self._attend(seat, now)
        if now >= self._next_slow:
            self._next_slow = now + SLOW_TICK
            self._publish(now)
        if self._access is not None:
            self._access.flush(self._access.SECONDS)
        if slot.evict != self._evictions:
            self._evictions = slot.evict
            slot.evicted += self._pool.evict()
            self._trim()

    def rest(self) -> None:
        """All is answered."""
        self.tick()
        self._trim()
        self._publish(time.monotonic())
        if self._access is not None:
            self._access.flush()

    def trace(self) -> None:
        """Write into the slot what every thread runs, with the Lua traceback of this moment."""
        parts = []
        for seat in self._seats:
            state, run, started = self._running(seat)
            if state is None:
                continue
            parts.append("thread %d: %s for %.1f s\n%s\n%s" % (
                seat.number, text(b" ".join(_request(seat.params))), time.monotonic() - started,
                text(state.version.script.path), (state.traceback(run) or "(within C)").strip()))
        self._slot.trace = "\n".join(parts).encode("utf-8", "backslashreplace")
        self._slot.traced += 1

    def close(self) -> None:
        """The worker leaves: nothing that was done is lost."""
        self.rest()
        if self._access is not None:
            self._access.close()

    def reopen(self) -> None:
        """The access log was moved away."""
        if self._access is not None:
            self._access.reopen()

    def _publish(self, now: float) -> None:
        slot, seats = self._slot, self._seats
        slot.errors = sum(seat.errors for seat in seats)
        slot.busy_us = int(sum(seat.busy for seat in seats) * 1e6)
        slot.bytes_in = sum(seat.bytes_in for seat in seats)
        slot.bytes_out = sum(seat.bytes_out for seat in seats)
        slot.accepted = sum(seat.accepted for seat in seats)
        slot.cpu_us = int(time.process_time() * 1e6)
        slot.connections = self._connections()
        slot.latencies = [sum(counts) for counts in zip(*(seat.latencies for seat in seats))]
        for seat, line in zip(seats, slot.lines):
            line.serial, line.requests, line.errors = seat.serial, seat.requests, seat.errors
            line.bytes_in, line.bytes_out = seat.bytes_in, seat.bytes_out
            entry = seat.entry
            line.heap_kb = seat.heap or (entry.heap if entry else line.heap_kb)
        self._publish_scripts()
        if self._measured and now >= self._next_measured:
            self._next_measured = now + MEMORY_TICK
            with contextlib.suppress(OSError):
                slot.pss_kb = procfs.pss_kb("self")

    def _publish_scripts(self) -> None:
        entries = self._pool.entries
        self._slot.states = self._pool.total
        self._slot.heap_kb = sum(entry.heap * entry.total for entry in entries)
        entries.sort(key=lambda entry: entry.busy, reverse=True)
        for line, entry in zip(self._slot.scripts, entries[:SCRIPTS]):
            path = script_key(entry.script.path)
            if line.path != path:
                line.path = path
            line.requests, line.errors = entry.requests, entry.errors
            line.busy_us, line.most_us = int(entry.busy * 1e6), int(entry.most * 1e6)
            line.latencies = entry.latencies
            line.states, line.heap_kb = entry.total, entry.heap * entry.total
        for line in self._slot.scripts[len(entries):]:
            if line.path:
                line.clear()
                line.path = b""

    def _running(self, seat: Seat) -> Tuple[Any, Any, float]:
        """(Lua state, what it runs, since when) of a thread; (None, None, 0) if it runs nothing now."""
        started, run, state = seat.started, seat.params, seat.state
        if state is None:
            # The top level of its script may be what takes so long.
            state = self._pool.building.get(seat.ident)
            run = state and state.running
        # The request may have changed while we looked.
        fits = seat.serving and state is not None and run is not None and seat.started == started
        return (state, run, started) if fits else (None, None, 0.0)

    def _attend(self, seat: Seat, now: float) -> None:
        """A request that has run for a tick, perhaps."""
        state, run, started = self._running(seat)
        if state is None:
            return
        number, seconds, params = seat.number, now - started, seat.params
        if seconds >= SHOWN and self._shown.get(number) != started:
            self._shown[number] = started
            line = self._slot.lines[number]
            line.method, line.uri = _request(params)
        if self._slow and seconds >= self._slow and self._logged.get(number) != started:
            self._logged[number] = started
            self._slot.slow += 1
            log.slow(self._logger, text(state.version.script.path), text(_request(params)[1]), seconds,
                     state.traceback(run) or "")
        if self._timeout and seconds >= self._timeout:
            line, mark = self._slot.lines[number], int(started * 1e9)
            if line.overran != mark:
                line.overran = mark
                self._slot.timeouts += 1
            # Again and again until it is gone: the script may have been about to change coroutines.
            state.interrupt("%s (%s) ran for %.1f s: RequestTimeout is %g s" % (
                text(state.version.script.path), text(b" ".join(_request(params))), seconds, self._timeout), run)


def _request(params: bytes) -> Tuple[bytes, bytes]:
    """(method, URI) of a request."""
    try:
        values = decode(params)
    except ProtocolError:
        return b"", b""
    return values.get(b"REQUEST_METHOD", b""), values.get(b"REQUEST_URI", values.get(b"SCRIPT_NAME", b""))
