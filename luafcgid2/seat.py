"""What one thread of a worker does now, and what it has done.

In: the thread writes its own seat only.  Out: plain attributes that the worker's main thread reads at its ticks,
to see what runs for long and to publish the counts.  No locks, no clock of its own.
"""
from __future__ import annotations

from typing import Any, List, Optional

from .scoreboard import BUCKETS, bucket

# Most requests take less than 4 ms: their bucket is looked up.
SHORT = bytes(bucket(microseconds) for microseconds in range(4096))


class Seat:
    """See the module's contract.

    `serial` moves whenever the thread begins something; `serving` is whether it is at it, `polling` whether it
    sleeps until there is something (only then may the main thread sleep, too).  `started` is when the request
    under way began (monotonic seconds), `params` its PARAMS, `state` the Lua state that runs it, or None.
    """

    __slots__ = ("number", "serial", "serving", "polling", "requests", "errors", "busy", "bytes_in", "bytes_out",
                 "accepted", "latencies", "started", "params", "state")

    def __init__(self, number: int) -> None:
        self.number = number
        self.serial = self.requests = self.errors = self.bytes_in = self.bytes_out = self.accepted = 0
        self.busy = self.started = 0.0
        self.serving = self.polling = False
        self.latencies: List[int] = [0] * BUCKETS
        self.params: bytes = b""
        self.state: Optional[Any] = None

    def count(self, seconds: float, size: int) -> None:
        """One more request is answered, in `seconds`, with `size` bytes."""
        self.requests += 1
        self.busy += seconds
        self.bytes_out += size
        microseconds = int(seconds * 1000000)
        self.latencies[SHORT[microseconds] if microseconds < 4096 else bucket(microseconds)] += 1
