"""What the main thread of a worker does with connections: while all its threads are busy, and when the worker leaves.

In: what is ready.  Out: requests that the desk answers are answered here; others on kept connections go to a worker
that has a free thread; the rest waits.  Of a worker that leaves, connections between requests go to another one, or are
closed.  It is a part of poller.Poller, which alone derives from it; worker.py calls `stand_in` at its ticks, and the
rest while it drains.
"""
from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import Any, Callable, Deque, Dict, Optional, Tuple

from .fcgi import DONTWAIT, RECV_SIZE, Server
from .records import whole_request
from .seat import Seat
from .watched import Watched

MAX_EVENTS = 64
# While draining: connections taken from the queue, and seconds that one of them may take to send its first byte.
LAST_ACCEPTS = 1024
LAST_PATIENCE = 1.0


class StandIn:
    """See the module's contract."""

    _server: Server
    _ready: Deque[Tuple[int, int]]
    _epoll: select.epoll
    _connections: Dict[int, Watched]
    _handoff: Any
    _handoff_fd: int
    _listener_fd: int
    _max: int
    has_heirs: bool
    reclaim: Callable[[], object]
    wake: Callable[[], None]
    _inherit: Callable[[Seat], bool]
    _make: Any
    socket_of: Callable[[int], socket.socket]
    _take: Callable[[], Tuple[int, Any]]
    serve: Callable[[Watched, int, Seat], None]
    after: Callable[[Watched], None]
    welcome: Callable[[Any, Seat, bool], bool]
    _adopt: Callable[[Watched, Seat], None]

    def stand_in(self, seat: Seat, wants: Optional[Callable[[bytes], bool]], accept: bool, elsewhere: bool) -> None:
        """For the main thread while all others are busy: serve the requests that are `wants`, by their params.

        Other requests on kept connections go to another worker if one has a free thread (`elsewhere`), and wait
        for ours if not; the first of a connection goes to the queue that all workers share.  New connections are looked
        at only if `accept`, one at a time.
        """
        self.reclaim()
        ready = [self._ready.popleft() for _ in range(len(self._ready))]
        for fd, flags in ready + self._epoll.poll(0, MAX_EVENTS):
            connection = self._connections.get(fd)
            if connection is not None:
                if wants is not None and _asks(connection._sock, wants):
                    self.serve(connection, flags, seat)
                elif not ((elsewhere or not connection.served) and flags and self._pass_on(connection)):
                    self._ready.append((fd, flags))
            elif fd == self._listener_fd:
                if accept and wants is not None and len(self._connections) < self._max:
                    self._look_at_new(seat, wants)
            elif fd != self._handoff_fd:
                self._ready.append((fd, flags))

    def _pass_on(self, connection: Watched) -> bool:
        """Give a connection with a request that waits to another worker; False if it must stay."""
        if self._handoff is None or not connection.lock.acquire(False):
            return False
        try:
            if connection.open and not connection.busy and not connection.gone:
                connection.leave(self._handoff, self._epoll)
            return not connection.open
        finally:
            self.after(connection)
            connection.lock.release()

    def _look_at_new(self, seat: Seat, wants: Callable[[bytes], bool]) -> None:
        with contextlib.suppress(OSError):
            sock = self.socket_of(self._take()[0])
            asks = _asks(sock, wants)
            if asks:
                seat.accepted += 1
                self.welcome(sock, seat, True)
            elif asks is not None and self._handoff is not None and self._handoff.give(sock.fileno(), False):
                sock.close()
            else:
                # Where nothing has come yet it may still be for us.
                self._adopt(self._make(sock, self._server, self._connections, seat), seat)

    def accept_rest(self, seat: Seat) -> None:
        """While draining: take the connections that queue at the listener.  The master has closed the way in, and
        nobody else would answer them."""
        while self._inherit(seat):
            pass
        for _ in range(LAST_ACCEPTS):
            try:
                sock = self.socket_of(self._take()[0])
            except ConnectionAbortedError:
                continue
            except OSError:
                return
            self._adopt(self._make(sock, self._server, self._connections, seat), seat)

    def close_idle(self, seat: Seat) -> int:
        """While draining: leave connections between requests to other workers, or close them; the number of those
        still in use.

        What arrived just now is left unread: another worker, or a thread of ours, serves it, where limits apply.
        nginx does not repeat a POST on a connection closed under it.
        """
        self.reclaim()
        for connection in list(self._connections.values()):
            if connection.lock.acquire(False):
                try:
                    used = connection.served or time.monotonic() > connection.since + LAST_PATIENCE
                    if connection.open and not connection.busy:
                        if self.has_heirs:
                            connection.leave(self._handoff, self._epoll)
                        elif used and connection.quiet:
                            connection.close()
                finally:
                    self.after(connection)
                    connection.lock.release()
                self._catch_up(connection)
        return len(self._connections) + len(self._ready)

    def _catch_up(self, connection: Watched) -> None:
        """An edge that came while the main thread had the connection's lock is a thread's to serve."""
        if connection.pending and connection.open:
            self._ready.append((connection.fileno(), 0))
            self.wake()


def _asks(sock: socket.socket, wants: Callable[[bytes], bool]) -> Optional[bool]:
    """Whether what waits to be read is a whole request that `wants` takes; it stays to be read.  None: none waits."""
    try:
        whole = whole_request(sock.recv(RECV_SIZE, DONTWAIT | socket.MSG_PEEK))
    except BlockingIOError:
        return None
    except OSError:
        return False
    return whole is not None and wants(whole[1])
