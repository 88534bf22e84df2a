"""A connection that epoll watches, and that goes from thread to thread.

In: an accepted socket, an fcgi.Server.  Out: fcgi.Connection, with what poller.py keeps about it: its lock, its seat,
its times.  Only poller.py uses it; it polls nothing.
"""
from __future__ import annotations

import contextlib
import select
import socket
from math import inf
from typing import Any, Dict

from .complaints import Complaints
from .fcgi import Connection, Server
from .handoff import Handoff
from .records import KEEP_CONN, OVERLOADED, end
from .replies import Answer
from .seat import Seat
from .sending import send_now
from .timeouts import full

READING = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET


class Watched(Connection):
    """A connection that may be handed from thread to thread.  `table` holds those that epoll watches."""

    # What the fast path looks at for each request.  `lock` is made when epoll begins to watch the connection; most are
    # gone before.
    __slots__ = ("_sock", "_requests", "_buffer", "_pouring", "open", "outbox", "served", "pending", "lock",
                 "gather")

    _requests: Dict[int, Any]
    lock: Any
    # extra: it is one over MaxConnections.
    gone = extra = False
    since = 0.0
    # What timeouts.py keeps: until when it may wait and why it is closed then; how far it had come when it last
    # moved on, and when that was; since when bytes have been there that are no request yet.
    deadline = moved = head_since = 0.0
    mark = 0
    reason = ""
    # What epoll watches it for.
    interest = READING

    def __init__(self, sock: socket.socket, server: Server, table: Dict[int, Watched], seat: Seat) -> None:
        # Spelled out instead of a call of Connection's: every connection comes by here.
        self._sock, self.server, self._table, self.seat = sock, server, table, seat
        self._requests, self._buffer, self._pouring, self.outbox, self.gather = {}, b"", None, None, None
        self.open, self.served, self.pending = True, False, False

    @property
    def quiet(self) -> bool:
        """Whether nothing waits to be read."""
        try:
            return not self._sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
        except OSError:
            return True

    @property
    def busy(self) -> bool:
        """Whether a request or an answer is under way."""
        return self.outbox is not None or self.partial

    @property
    def taken(self) -> int:
        """How many bytes of unfinished requests have come."""
        gathered = self.gather.size if self.gather is not None else 0
        return len(self._buffer) + gathered + sum(request.taken for request in self._requests.values())

    def find_head_since(self, now: float) -> float:
        """Since when the params of a request have been on their way, or a first request; infinity if none are.  `now`
        is when they were first seen to be."""
        since = inf
        for request in self._requests.values():
            if not request.params_done:
                request.since = request.since or now
                since = min(since, request.since)
        if self._requests or self.gather is not None:
            self.head_since = 0.0
        else:
            since = self.head_since = self.head_since or now
        return since

    def expired(self, now: float) -> bool:
        """Whether its time is over.  Bytes that wait to be read wait for a thread of ours."""
        return self.open and now >= self.deadline and (self.outbox is not None or self.quiet)

    def watch(self, epoll: select.epoll) -> None:
        """Have epoll tell of room while something waits to be sent, and of input again after it."""
        interest = READING if self.outbox is None else READING | select.EPOLLOUT
        if interest != self.interest:
            # It tells at once what is the case already: no edge is lost.
            epoll.modify(self.fileno(), interest)
            self.interest = interest

    def close(self) -> None:
        """Close the socket, and leave the table first: once closed, another thread may be given the number."""
        if self.open:
            if self.since:
                self._table.pop(self._sock.fileno(), None)
            self.forget()
            super().close()

    def refuse(self, complaints: Complaints, most: int) -> None:
        """There is no room for it: its requests end with FCGI_OVERLOADED, which lighttpd understands."""
        complaints.say(full(most), "connection closed: %s" % full(most))
        if self.gather is not None:
            self.scatter()
        with contextlib.suppress(OSError):
            for request_id in self._requests:
                send_now(self._sock, [end(request_id, 0, OVERLOADED)])
        self.close()

    def leave(self, handoff: Handoff, epoll: select.epoll) -> None:
        """Go to another worker, between two requests; it stays with us while their queue is full."""
        try:
            if handoff.give(self.fileno(), self.served):
                # Closing does not end the watch: the other worker's descriptor is the same open file.
                epoll.unregister(self.fileno())
                self.close()
        except OSError:
            self.close()


class Counted(Watched):
    """One that is closed after MaxRequestsPerConnection requests."""

    answered = 0

    def reply(self, request_id: int, flags: int, answer: Answer) -> None:
        """As Connection's; the last request is answered as if it had not asked to keep the connection."""
        self.answered += 1
        if self.answered >= self.server.limits.max_requests:
            flags &= ~KEEP_CONN
        super().reply(request_id, flags, answer)
