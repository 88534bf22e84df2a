"""What the state pool keeps of one script, and the options it goes by.

In: a script, its first version.  Out: plain attributes.  Only pool.py changes them, under its lock where two
threads could; this module decides nothing.
"""
from __future__ import annotations

import threading
from typing import List, Optional

from .errors import Error
from .scoreboard import BUCKETS
from .script import Script, Version
from .state import LuaState


class Entry:
    """All that is known of one script: its current version, the clones of it, and what they have done.

    `used` is when it was last asked for (monotonic seconds).  `gone` is set once the pool has forgotten it.
    `errors`, `busy` (seconds), `most` (seconds) and `latencies` (requests by bucket) are counted by seat.py for the
    status page; two threads at once may lose one.  `heap` is the kilobytes of a clone at rest.
    """

    __slots__ = ("script", "version", "idle", "total", "used", "next_check", "generation", "failed", "failure",
                 "refreshing", "gone", "errors", "busy", "most", "heap", "latencies")

    def __init__(self, script: Script, version: Version, generation: int) -> None:
        self.script, self.version, self.generation = script, version, generation
        self.idle: List[LuaState] = []
        self.total = 0
        self.used = self.next_check = 0.0
        # The newer version that could not be built, and why.
        self.failed: Optional[Version] = None
        self.failure: Optional[Error] = None
        self.refreshing = threading.Lock()
        self.gone = False
        self.errors = self.heap = 0
        self.busy = self.most = 0.0
        self.latencies: List[int] = [0] * BUCKETS

    @property
    def requests(self) -> int:
        """How many requests its clones have answered."""
        return sum(self.latencies)


class Rules:
    """The pool's options.  `keep` is MinFileInfoTime in seconds; `last_good` whether an edit that fails
    leaves the version before it serving."""

    __slots__ = ("states", "max_states", "total", "keep", "checksum", "startup", "last_good")

    def __init__(self, states: int, max_states: int, total: int, keep: float, checksum: bool, startup: str,
                 last_good: bool) -> None:
        self.states, self.max_states, self.total = min(states, max_states), max_states, total
        self.keep, self.checksum, self.startup, self.last_good = keep, checksum, startup, last_good
