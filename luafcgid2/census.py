"""Counts what only the master can see of all workers together: how busy they are, who waits at the door.

In: the scoreboard, the listening socket.  Out: the header's cells `most_busy`, `limit_reached`, `queue`, `queue_most`,
`queue_limit`; a warning when the queue is nearly full.  A watcher of the master's loop, so it looks only while somebody
works.
"""
from __future__ import annotations

import logging
import socket
from typing import Any, Optional

from .backlog import queue_of
from .scoreboard import READY

# Of the queue: from here on nginx will soon be refused, and a warning is due; one a minute.
NEARLY_FULL = 0.8
WARNING_PAUSE = 60.0


class Census:
    """See the module's contract."""

    def __init__(self, board: Any, listener: socket.socket, logger: logging.Logger) -> None:
        self._board, self._listener, self._logger = board, listener, logger
        self._full = False
        self._warned: Optional[float] = None

    def next_tick(self) -> Optional[float]:
        """Never by itself."""
        return None

    def tick(self, now: float) -> None:
        """Look at all workers and at the listener."""
        header = self._board.header
        slots = [slot for _, slot in self._board.workers() if slot.state >= READY]
        busy, threads = sum(slot.busy for slot in slots), sum(slot.threads for slot in slots)
        header.most_busy = max(header.most_busy, busy)
        full = 0 < threads <= busy
        header.limit_reached += full and not self._full
        self._full = full
        queue = queue_of(self._listener) if self._listener.fileno() >= 0 else None
        if queue is None:
            return
        header.queue, header.queue_limit = queue
        header.queue_most = max(header.queue_most, queue.waiting)
        if queue.waiting >= NEARLY_FULL * queue.room and (self._warned is None
                                                           or now - self._warned >= WARNING_PAUSE):
            self._warned = now
            self._logger.warning("%d connections wait to be accepted, there is room for %d (ListenBacklog, "
                                 "net.core.somaxconn): the web server will answer 502 beyond", *queue)
