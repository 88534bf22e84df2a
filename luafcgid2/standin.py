"""What the main thread of a worker does with connections while all its threads are busy.

In: what is ready.  Out: requests that the desk answers are answered here; others on kept connections go to a worker
that has a free thread; the rest waits.  It is a part of poller.Poller, which alone derives from it; worker.py calls
`stand_in` at its ticks.
"""
from __future__ import annotations

import contextlib
import select
import socket
from typing import Any, Callable, Deque, Dict, Optional, Tuple

from .fcgi import DONTWAIT, RECV_SIZE, Server
from .records import whole_request
from .seat import Seat
from .watched import Watched

MAX_EVENTS = 64


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
    _make: Any
    _socket: Callable[[int], socket.socket]
    _take: Callable[[], Tuple[int, Any]]
    _serve: Callable[[Watched, int, Seat], None]
    _after: Callable[[Watched], None]
    _welcome: Callable[[Any, Seat, bool], bool]
    _adopt: Callable[[Watched, Seat], None]

    def stand_in(self, seat: Seat, wants: Optional[Callable[[bytes], bool]], accept: bool, elsewhere: bool) -> None:
        """For the main thread while all others are busy: serve the requests that are `wants`, by their params.

        Other requests on kept connections go to another worker if one has a free thread (`elsewhere`), and wait
        for ours if not; the first of a connection goes to the queue that all workers share.  New connections are looked
        at only if `accept`, one at a time.
        """
        ready = [self._ready.popleft() for _ in range(len(self._ready))]
        for fd, flags in ready + self._epoll.poll(0, MAX_EVENTS):
            connection = self._connections.get(fd)
            if connection is not None:
                if wants is not None and _asks(connection._sock, wants):
                    self._serve(connection, flags, seat)
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
            self._after(connection)
            connection.lock.release()

    def _look_at_new(self, seat: Seat, wants: Callable[[bytes], bool]) -> None:
        with contextlib.suppress(OSError):
            sock = self._socket(self._take()[0])
            asks = _asks(sock, wants)
            if asks:
                seat.accepted += 1
                self._welcome(sock, seat, True)
            elif asks is not None and self._handoff is not None and self._handoff.give(sock.fileno(), False):
                sock.close()
            else:
                # Where nothing has come yet it may still be for us.
                self._adopt(self._make(sock, self._server, self._connections, seat), seat)


def _asks(sock: socket.socket, wants: Callable[[bytes], bool]) -> Optional[bool]:
    """Whether what waits to be read is a whole request that `wants` takes; it stays to be read.  None: none waits."""
    try:
        whole = whole_request(sock.recv(RECV_SIZE, DONTWAIT | socket.MSG_PEEK))
    except BlockingIOError:
        return None
    except OSError:
        return False
    return whole is not None and wants(whole[1])
