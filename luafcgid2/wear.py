"""Workers that have served or grown enough: MaxRequests and MaxWorkerMemory.

In: the workers' counters in the scoreboard and their resident memory in /proc.  Out: `Child.worn`, the reason why
a worker must be replaced.  roster.py then starts the successor first and lets the old one finish what it does, so
no request is lost.  The master's loop calls it once a tick, which runs only while somebody works: an idle worker
neither serves nor grows.  Nothing here starts or stops a process.
"""
from __future__ import annotations

import contextlib
from typing import Any, Callable, Optional

from .children import Child
from .procfs import rss_kb

# A limit below what a fresh worker needs must not make the master fork for ever.
LEAST_LIFE_SECONDS = 10.0


def limit_of(config: Any, draw: Optional[Callable[[int, int], int]] = None) -> int:
    """How many requests a new worker may serve, 0 for any number; draw(low, high) includes both."""
    if not config.max_requests:
        return 0
    if not draw:
        import random
        draw = random.randint
    return config.max_requests + draw(0, config.max_requests_jitter)


def reason(child: Child, now: float, memory: Callable[[int], int] = rss_kb) -> str:
    """Why this worker must be replaced, "" for no reason.  memory(pid): as procfs.rss_kb."""
    requests, most = child.slot.requests, child.config.max_worker_memory
    if child.most and requests >= child.most:
        return f"it has served {requests} requests (MaxRequests)"
    if most and requests and now - child.started >= LEAST_LIFE_SECONDS:
        # Where /proc does not tell there is no limit.
        with contextlib.suppress(OSError):
            size = memory(child.pid) << 10
            if size > most:
                return f"it holds {size >> 20} MiB of memory (MaxWorkerMemory)"
    return ""


class Wear:
    """A watcher of the master's loop."""

    def __init__(self, roster: Any) -> None:
        self._roster = roster

    def next_tick(self) -> Optional[float]:
        """Never by itself: only work wears."""
        return None

    def tick(self, now: float) -> None:
        """Look at all workers."""
        for child in self._roster.children.staff:
            if child.ready and not child.worn:
                child.worn = reason(child, now)
