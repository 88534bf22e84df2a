"""The connections of one worker: readiness, accepting, time-outs.  Non-blocking until a request is whole.

In: a listening socket, an fcgi.Server.  Out: calls of Connection.receive for what is ready.  worker.py's
threads call `poll` and `step`; its control thread calls the rest.  It makes no threads and knows no Lua.

Connections are watched edge-triggered, so that a kept connection costs no system call between requests; the
lock of a connection and its `pending` mark see to it that one thread reads it and no edge is lost.  Linux
only in its use of epoll; the listener is watched with EPOLLEXCLUSIVE, so that one connection wakes one worker.
"""
from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, Optional, Tuple

from .complaints import Complaints
from .fcgi import DONTWAIT, RECV_SIZE, Server
from .handoff import Handoff
from .seat import Seat
from .standin import MAX_EVENTS, StandIn
from .timeouts import Timeouts
from .watched import READING, Counted, Watched

# The C type under socket.socket: the same calls without the Python layer, which would cost as much as a recv.
SocketType = socket.SocketType
ACCEPT_BURST = 16
# Seconds without accepting after the kernel refused a descriptor: without a pause the ready listener would spin.
ACCEPT_PAUSE = 0.1
# Connections over MaxConnections that may stay until their first bytes are read.
NEWCOMERS = 64
_GONE = select.EPOLLHUP | select.EPOLLRDHUP | select.EPOLLERR


class Poller(StandIn):
    """See the module's contract.  `accept`: gives (descriptor, peer) of a connection in the place of the listener's
    own.  `handoff`: by which other workers leave us their connections, or None.  `has_heirs`: while draining, whether
    we leave them ours."""

    has_heirs = False

    def __init__(self, listener: socket.socket, server: Server, max_connections: int, timeouts: Timeouts,
                 complaints: Complaints, handoff: Optional[Handoff] = None,
                 accept: Optional[Callable[[], Tuple[int, Any]]] = None) -> None:
        self._handoff, self._handoff_fd = handoff, handoff.fd if handoff else -1
        self._server, self._complaints, self._max, self._timeouts = server, complaints, max_connections, timeouts
        # accept() of Python looks up enums and the family each time, which costs more than the call.
        self._take, self._for_all = accept or listener._accept, accept is None
        self._make = Counted if server.limits.max_requests else Watched
        self._family, self._type = int(listener.family), int(listener.type)
        self._listener_fd = listener.fileno()
        self._epoll = select.epoll()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._epoll.register(self._wake_read, select.EPOLLIN)
        self._ready: Deque[Tuple[int, int]] = deque()
        self._connections: Dict[int, Watched] = {}
        self._waiting = timeouts.waiting
        # How many connections to take at a time: an accept that finds nothing costs as much as one that does, so
        # it is as many as there were lately; the listener tells again if there are more.
        self._burst = 1
        # Puts into `_ready` what the fast path has in hand.
        self.reclaim: Callable[[], object] = int
        # Makes the lock of a connection, which nobody ever waits for.
        self.make_lock: Callable[[], Any] = threading.Lock
        self.paused_until = 0.0
        self.accepting = False

    def accept_connections(self) -> None:
        """Watch the listener (again)."""
        self.paused_until = 0.0
        self._epoll.register(self._listener_fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        if self._handoff and not self.accepting:
            self._epoll.register(self._handoff_fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self.accepting = True

    def stop_accepting(self) -> None:
        """Leave new connections to other workers."""
        if self.accepting and not self.paused_until:
            self._epoll.unregister(self._listener_fd)
        if self._handoff and self.accepting:
            self._epoll.unregister(self._handoff_fd)
        self.accepting = False

    def wake(self) -> None:
        """Make a thread that is blocked in `poll` return."""
        os.write(self._wake_write, b"x")

    def rouse(self) -> None:
        """For the main thread, when one polls: what `stand_in` had in hand when that thread looked is its to serve now,
        and gives no other edge."""
        if self._ready:
            self.wake()

    def count(self) -> int:
        """How many connections stay open now."""
        return len(self._connections)

    @property
    def idle(self) -> bool:
        """Whether nothing is ready, so that `poll` is the next thing to do."""
        return not self._ready

    @property
    def waiting(self) -> bool:
        """Whether a time-out is running: a request has begun to arrive, or accepting is paused."""
        return bool(self._waiting) or bool(self.paused_until)

    def poll(self) -> None:
        """Wait until something is ready."""
        self._ready.extend(self._epoll.poll(-1, MAX_EVENTS))

    def parts(self) -> Dict[str, Any]:
        """What the fast path shares with us; `listener` is -1 where connections are not for everybody."""
        return {"connections": self._connections, "waiting": self._waiting, "ready": self._ready,
                "epoll": self._epoll.fileno(), "listener": self._listener_fd if self._for_all else -1}

    def wait(self, seat: Seat, _epoch: int) -> None:
        """The same for a thread that leads."""
        seat.polling = True
        self.poll()
        seat.polling = False

    def step(self, seat: Seat, leading: Callable[[], bool]) -> None:
        """Serve one thing that is ready; stop accepting when `leading()` turns false."""
        try:
            fd, flags = self._ready.popleft()
        except IndexError:
            return
        connection = self._connections.get(fd)
        if connection is not None:
            self.serve(connection, flags, seat)
        elif fd == self._listener_fd:
            self._accept(seat, leading)
        elif fd == self._wake_read:
            # Two threads may have been told of the same byte.
            with contextlib.suppress(BlockingIOError):
                os.read(fd, 4096)
        elif fd == self._handoff_fd:
            self._inherit(seat)

    def serve(self, connection: Watched, flags: int, seat: Seat) -> None:
        """Read and answer what has come by a connection, unless another thread does so already."""
        if flags & _GONE:
            connection.gone = True
        connection.pending = True
        while connection.pending and connection.lock.acquire(False):
            try:
                connection.pending = False
                if not connection.open:
                    return
                connection.seat = seat
                self.read(connection, seat)
                if connection.gone and connection.open:
                    # The end of input came with an edge and gives no other.
                    connection.receive()
            finally:
                self.after(connection)
                connection.lock.release()

    @staticmethod
    def read(connection: Watched, seat: Seat, data: Any = None) -> None:
        """The same for who has its lock; `data` was read already."""
        seat.serial += 1
        seat.serving = True
        try:
            more = True if data is None else connection.begin_with(data)
            while more:
                more = connection.receive()
        finally:
            seat.serving = False

    def after(self, connection: Watched) -> None:
        """It was read or written: what is to be waited for now; for who has its lock."""
        if connection.open and (connection.partial or not connection.served):
            if connection.extra and connection.partial:
                if len(self._connections) > self._max:
                    self._waiting.discard(connection)
                    return connection.refuse(self._complaints, self._max)
                connection.extra = False
            self._timeouts.wait_for(connection, time.monotonic())
            connection.watch(self._epoll)
        elif connection in self._waiting:
            self._waiting.discard(connection)
            if connection.open:
                connection.watch(self._epoll)

    def _accept(self, seat: Seat, leading: Callable[[], bool]) -> None:
        for taken in range(self._burst):
            try:
                fd, _peer = self._take()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                self._burst = taken or 1
                break
            except OSError as error:
                self.accept_failed(error)
                break
            seat.accepted += 1
            sock = SocketType(self._family, self._type, 0, fd)
            if not self.welcome(sock, seat):
                # The web server has connected, but was stopped before it could send, perhaps by us: it goes first.
                # Not after the others: one of their scripts may wait for what this one is to do.
                os.sched_yield()
                self.welcome(sock, seat, True)
            if not leading() or not self.accepting:
                break
        else:
            self._burst = min(2 * self._burst, ACCEPT_BURST)

    def socket_of(self, fd: int) -> SocketType:
        """A connection that was accepted, by its descriptor."""
        return SocketType(self._family, self._type, 0, fd)

    def welcome(self, sock: socket.socket, seat: Seat, again: bool = False, data: Any = None) -> bool:
        """Serve a new connection; watch it if it stays.  False if nothing has come yet: then the caller keeps it, and
        comes `again`.  `data` was read already, or is an upload that has begun (gathering.py)."""
        seat.serial += 1
        seat.serving = True
        try:
            try:
                if data is None:
                    data = sock.recv(RECV_SIZE, DONTWAIT)
            except OSError:
                # Nothing has come yet, or it is broken, which `receive` will tell.
                if not again:
                    return False
            left = self._server.answer_at_once(sock, data, seat) if data and type(data) is bytes else None
            if left is not None and not left:
                sock.close()
                return True
            self.stay(sock, data, left, seat)
        except BaseException:
            sock.close()
            raise
        finally:
            seat.serving = False
        return True

    def stay(self, sock: socket.socket, data: Any, left: Any, seat: Seat) -> None:
        """Make a connection of a socket that stays after its first read, which gave `data`; `left` of an answer is to
        be sent."""
        connection = self._make(sock, self._server, self._connections, seat)
        if left:
            connection.defer(left, True)
            more = False
        else:
            more = connection.receive() if data is None else connection.begin_with(data)
        while more:
            more = connection.receive()
        seat.serving = False
        if connection.open:
            # Only here, because most do not stay.
            if len(self._connections) < self._max or self._make_room():
                self._adopt(connection, seat)
            elif len(self._connections) < self._max + NEWCOMERS and not connection.partial:
                # Its request may come any moment, and be one to answer at once; or its answer is under way.
                connection.extra = True
                self._adopt(connection, seat)
            else:
                connection.refuse(self._complaints, self._max)

    def _adopt(self, connection: Watched, seat: Seat) -> None:
        """Watch a connection that stays open after its first read."""
        fd = connection.fileno()
        connection.lock, connection.since = self.make_lock(), time.monotonic()
        connection.lock.acquire(False)
        try:
            self._connections[fd] = connection
            self._epoll.register(fd, READING)
            self.after(connection)
        finally:
            connection.lock.release()
        if connection.pending:
            # An edge came to another thread while the lock was ours.
            self.serve(connection, 0, seat)

    def accept_failed(self, error: OSError) -> None:
        """The kernel refused a connection: leave it alone for a moment, if there is nothing better to do."""
        if error.errno == errno.EBADF or not self.accepting:
            return
        if error.errno in (errno.EMFILE, errno.ENFILE) and (not self._is_awaited() or self._make_room()):
            return
        self._epoll.unregister(self._listener_fd)
        self.paused_until = time.monotonic() + ACCEPT_PAUSE
        self._complaints.say("accept", "cannot accept: %s; trying again every %g s" % (error, ACCEPT_PAUSE),
                             logging.ERROR)

    def _is_awaited(self) -> bool:
        """Whether somebody waits to be accepted: the kernel looks for a descriptor first, and then for a connection."""
        look = select.poll()
        look.register(self._listener_fd, select.POLLIN)
        return bool(look.poll(0))

    def _make_room(self) -> bool:
        """Close a connection that a web server keeps for later: it opens another one when it needs it, but a
        request that finds no room is lost."""
        for connection in list(self._connections.values()):
            if connection.served and connection.lock.acquire(False):
                try:
                    if connection.open and not connection.partial and connection.quiet:
                        connection.close()
                        return True
                finally:
                    connection.lock.release()
                    self._catch_up(connection)
        return False

    def check_times(self) -> None:
        """Close connections whose time is over; resume accepting after a pause."""
        now = time.monotonic()
        if self.paused_until and now >= self.paused_until:
            self.accept_connections()
        for connection in self._timeouts.close_overdue(now):
            # An edge came while its lock was held.
            self._catch_up(connection)

    def _inherit(self, seat: Seat) -> bool:
        """Take over a connection that another worker has left; whether there was one."""
        found = self._handoff.take() if self._handoff else None
        if found is None:
            return False
        connection = self._make(self.socket_of(found[0]), self._server, self._connections, seat)
        connection.served = found[1]
        # Over MaxConnections it stays all the same: it was within another worker's.
        self._adopt(connection, seat)
        return True
