"""What one thread of a worker does now, and what it has done.

In: the thread writes its own seat only.  Out: plain attributes that the worker's main thread reads at its ticks,
to see what runs for long and to publish the counts; and, in the thread's line of the scoreboard, whether it runs a
request, since when, and which script, so that the master knows it even when this process can tell nothing any
more.  No locks, no clock of its own.
"""
from __future__ import annotations

from typing import Any, List, Optional

from .scoreboard import BUCKETS, IDLE, RUNNING, STARTED, STATE, bucket, script_key

# Most requests take less than 4 ms: their bucket is looked up.
SHORT = bytes(bucket(microseconds) for microseconds in range(4096))


class Seat:
    """See the module's contract.

    `serial` moves whenever the thread begins something; `serving` is whether it is at it, `polling` whether it
    sleeps until there is something (only then may the main thread sleep, too).  `started` is when the request
    under way began (monotonic seconds), `params` its PARAMS, `state` the Lua state that runs it, or None; the responder
    sets them.

    line: the thread's ThreadLine, or None for a thread that nobody watches.
    """

    __slots__ = ("number", "serial", "serving", "polling", "requests", "errors", "busy", "bytes_in", "bytes_out",
                 "accepted", "latencies", "started", "params", "state", "entry", "ident", "native", "heap", "sock",
                 "request_id", "stream", "_line", "_cells", "_base", "script")

    def __init__(self, number: int, line: Optional[Any] = None) -> None:
        self.number, self._line, self.script = number, line, b""
        # Around the line's properties: this is written twice a request.
        self._cells: Any = line.cells if line else [0] * 8
        self._base: int = line.base if line else 0
        self.serial = self.requests = self.errors = self.bytes_in = self.bytes_out = self.accepted = 0
        self.busy = self.started = 0.0
        self.serving = self.polling = False
        self.latencies: List[int] = [0] * BUCKETS
        self.params: bytes = b""
        # The thread, as threading.get_ident() and get_native_id() have it.
        self.ident = self.native = 0
        # Kilobytes of the Lua state after the last request, where somebody wants to know.
        self.heap = 0
        self.state: Optional[Any] = None
        # Where the answer goes, by which request id (the fast path knows a descriptor only); what stream.py knows of it
        # if it leaves in pieces.
        self.sock: Any = None
        self.request_id = 1
        self.stream: Any = None
        # The pool's Entry of the script that runs.
        self.entry: Optional[Any] = None

    def run(self, path: bytes) -> None:
        """The request's script is known, and runs from now on."""
        if path is not self.script:
            self.script = path
            if self._line:
                self._line.script = script_key(path)
        cells, base = self._cells, self._base
        cells[base + STARTED] = int(self.started * 1e9)
        cells[base + STATE] = RUNNING

    def end(self, seconds: float, size: int, failed: bool) -> None:
        """The request is answered, after `seconds`, with `size` bytes; `failed` is whether with a status of 5xx."""
        self._cells[self._base + STATE] = IDLE
        self.requests += 1
        self.busy += seconds
        self.bytes_out += size
        microseconds = int(seconds * 1000000)
        index = SHORT[microseconds] if microseconds < 4096 else bucket(microseconds)
        self.latencies[index] += 1
        entry = self.entry
        if entry is None:
            self.errors += failed
            return
        # The script's part of it; see Entry.
        entry.busy += seconds
        entry.latencies[index] += 1
        if seconds > entry.most:
            entry.most = seconds
        if failed:
            self.errors += 1
            entry.errors += 1
