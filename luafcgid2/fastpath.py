"""The fast path of a worker: the compiled module `_fastpath`, where it was built, and what it leaves to Python.

In: the parts of a worker.  Out: a FastPath, whose `run` does for a thread that leads what Poller.wait, Poller.step
and Responder.respond do, in C, for requests that are whole at the first read, go to a script with an idle Lua state,
and are answered by plain bytes.  All else it gives to the methods below, which go on with the code that a worker
without it runs all the time.  wiring.py makes it; worker.py calls `run`.  It decides nothing, and without it nothing is
different but the time that a request takes.
"""
from __future__ import annotations

import importlib
import os
from typing import Any, Sequence

from .delivery import deliver
from .entry import Entry
from .errors import ProtocolError
from .interrupt import Target
from .poller import Poller
from .relay import Relay
from .responder import Crossed, Responder
from .routes import Route
from .scoreboard import CHANGES, STARTED, STATE
from .seat import SHORT, Seat
from .sending import NOTHING, Buffer
from .state import BoundedState, LuaState
from .watched import Watched

_fastpath: Any
try:
    _fastpath = importlib.import_module("luafcgid2._fastpath")
except ImportError:
    # Nobody had a compiler when this package was installed.
    _fastpath = None

BUILT = _fastpath is not None
_Base: Any = _fastpath.FastPath if BUILT else object


class FastPath(_Base):  # type: ignore[misc]
    """See the module's contract.  `target` is the Watched of a kept connection; or what a new one has been until now: a
    descriptor, or the socket that stream.py has made of it.  A new connection is closed by whoever has it last.

    elapsed: whether answers say how long their script ran; pages: paths that are the server's own; cells: the
    scoreboard's.
    """

    def __init__(self, poller: Poller, server: Any, responder: Responder, pool: Any, relay: Relay, cells: memoryview,
                 elapsed: bool, pages: Sequence[bytes]) -> None:
        self._poller, self._server, self._responder = poller, server, responder
        parts = poller.parts()
        short, heavy, closing = pool.queues
        super().__init__({
            "connections": parts["connections"], "waiting": parts["waiting"], "ready": parts["ready"],
            "bodies": server.bodies,
            "routes": responder.routes.known, "pages": tuple(pages), "short": short, "heavy": heavy,
            "closing": closing, "relay": relay, "server": server, "poller": poller, "pool": pool,
            "seat_type": Seat, "entry_type": Entry, "state_type": LuaState, "bounded_type": BoundedState,
            "route_type": Route, "relay_type": Relay, "target_type": Target, "connection_type": Watched,
            "claim_type": _fastpath.Claim, "gather_type": _fastpath.Gather, "buckets": SHORT, "cells": cells,
        }, {
            "epoll": parts["epoll"], "listener": parts["listener"], "elapsed": int(elapsed),
            "plain_params": server.limits.plain_params, "plain_body": server.limits.plain_body,
            "state_cell": STATE, "started_cell": STARTED, "changes_cell": CHANGES,
        })

    # Locks that it can take without a call.
    make_lock = _fastpath and _fastpath.Claim

    def resume(self, connection: Watched, data: Any, seat: Seat) -> None:
        """Serve a connection whose lock is held, and let go of it.  `data` was read, or is the Gather of an upload that
        has begun; None: read it again."""
        try:
            connection.seat = seat
            self._poller.read(connection, seat, data)
        finally:
            self._let_go(connection, seat)

    def _let_go(self, connection: Watched, seat: Seat) -> None:
        try:
            self._poller.after(connection)
        finally:
            connection.lock.release()
            if connection.pending:
                self._poller.serve(connection, 0, seat)

    def welcome(self, fd: int, data: Any, seat: Seat) -> None:
        """Serve a new connection, of which `data` was read, or is such a Gather; None: nothing yet."""
        self._poller.welcome(self._poller.socket_of(fd), seat, True, data)

    def concluded(self, target: Any, flags: int, params: bytes, body: bytes, seat: Seat, state: LuaState, route: Route,
                  result: Any) -> None:
        """The crossing is made, and gave or raised `result`: answer.  The lock of a kept connection is let go of."""
        crossed = Crossed(state, route, result)
        if isinstance(target, Watched):
            self._conclude_kept(target, flags, params, body, seat, crossed)
        else:
            self._conclude_new(target, params, body, seat, crossed)

    def _conclude_kept(self, connection: Watched, flags: int, params: bytes, body: bytes, seat: Seat,
                       crossed: Crossed) -> None:
        connection.seat = seat
        try:
            connection.reply(1, flags, self._responder.respond(params, body, 0, seat, crossed))
        except (ProtocolError, OSError) as error:
            connection.fail(error)
        except BaseException:
            connection.close()
            raise
        finally:
            seat.serving = False
            self._let_go(connection, seat)

    def _conclude_new(self, target: Any, params: bytes, body: bytes, seat: Seat, crossed: Crossed) -> None:
        seat.sock = sock = self._poller.socket_of(target) if isinstance(target, int) else target
        left: Sequence[Buffer] = NOTHING
        try:
            try:
                left = deliver(sock, 1, self._responder.respond(params, body, 0, seat, crossed))
            except (ProtocolError, OSError) as error:
                self._server.give_up(sock, 1, error)
            if left:
                self._poller.stay(sock, None, left, seat)
        finally:
            if not left:
                sock.close()

    def unsent(self, target: Any, flags: int, left: bytes, number: int, seat: Seat) -> None:
        """`left` of an answer was not taken; `number`: the error, or 0: there is no room now."""
        if isinstance(target, Watched):
            if number:
                target.seat = seat
                target.fail(_error(number))
            else:
                target.defer([left], not flags & 1)
                # Epoll shall tell of room, and SendTimeout run.
                self._poller.after(target)
            return
        sock = self._poller.socket_of(target)
        if number:
            self._server.give_up(sock, 1, _error(number))
            sock.close()
        else:
            self._poller.stay(sock, None, [left], seat)

    def settle(self, connection: Watched) -> None:
        """A connection that was waited for has been served."""
        self._poller.after(connection)

    def again(self, connection: Watched, seat: Seat) -> None:
        """An edge came to another thread while the connection was ours."""
        self._poller.serve(connection, 0, seat)

    def refused(self, number: int) -> None:
        """A connection could not be accepted."""
        self._poller.accept_failed(_error(number))


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
