"""A connection that epoll watches, and that goes from thread to thread.

In: an accepted socket, an fcgi.Server.  Out: fcgi.Connection, with what poller.py keeps about it: its lock, its seat,
its times.  Only poller.py uses it; it polls nothing.
"""
from __future__ import annotations

import select
import socket
import threading
from typing import Dict

from .fcgi import Connection, Server
from .handoff import Handoff
from .seat import Seat


class Watched(Connection):
    """A connection that may be handed from thread to thread.  `table` holds those that epoll watches."""

    pending = gone = False
    deadline = since = 0.0
    # Made when epoll begins to watch the connection; most are gone before.
    lock: threading.Lock

    def __init__(self, sock: socket.socket, server: Server, table: Dict[int, Watched], seat: Seat) -> None:
        # Spelled out instead of a call of Connection's: every connection comes by here.
        self._sock, self.server = sock, server
        self._requests = {}
        self._table, self.seat = table, seat

    @property
    def quiet(self) -> bool:
        """Whether nothing waits to be read."""
        try:
            return not self._sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
        except OSError:
            return True

    def close(self) -> None:
        """Close the socket, and leave the table first: once closed, another thread may be given the number."""
        if self.open:
            if self.since:
                self._table.pop(self._sock.fileno(), None)
            super().close()

    def leave(self, handoff: Handoff, epoll: select.epoll) -> None:
        """Go to another worker, between two requests; it stays with us while their queue is full."""
        try:
            if handoff.give(self.fileno(), self.served):
                # Closing does not end the watch: the other worker's descriptor is the same open file.
                epoll.unregister(self.fileno())
                self.close()
        except OSError:
            self.close()
