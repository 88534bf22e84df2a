"""An upload that the fast path has begun to read: the half of a connection that goes on with it in Python.

In: the Gather of a request, which knows its params and reads its body straight to where it is kept.  Out: when it has
ended, or there is no room for it, the request as if it had come piece by piece.  `Gathering` is mixed into
fcgi.Connection; native/uploads.c fills its `gather`, too, and answers what came as it was announced.  Without the
compiled module there is none.
"""
from __future__ import annotations

from typing import Any, Dict, Optional

from .body import SMALL, crowded
from .receiving import Pouring
from .records import RESPONDER


class Gathering:
    """See the module's contract; the other half has the rest."""

    open: bool
    outbox: Any
    seat: Any
    server: Any
    _buffer: bytes
    _pouring: Optional[Pouring]
    _requests: Dict[int, Any]
    # The Gather that is being filled; there is no other request then.
    gather: Any = None

    def begin_with(self, data: Any) -> bool:
        """Deal with what was read already: bytes, or a Gather.  True if there may be more to read at once."""
        return self.feed(data) if isinstance(data, bytes) else self.take_up(data)

    def take_up(self, gather: Any) -> bool:
        """Go on with an upload; as `begin_with`."""
        self.gather = gather
        if gather.held > SMALL:
            self.server.bodies.add(gather)
            if crowded(self.server.bodies, self.server.limits):
                return self._go_on()
        return self._go_on() if gather.done else False

    def fill(self) -> bool:
        """Read all that is there; True if there may be more to read at once.  Raises OSError."""
        gather = self.gather
        try:
            self.seat.bytes_in += gather.fill(self.fileno())
        except MemoryError:
            # What was read is lost.
            self.close()
            raise
        return self._go_on() if gather.done else False

    def _go_on(self) -> bool:
        gather = self.gather
        try:
            rest = self.scatter()
        except BaseException:
            # The web server must not wait for an answer that never comes.
            self.close()
            raise
        if gather.ended:
            return self.feed(b"")
        # It is counted again.
        self.seat.bytes_in -= len(rest)
        if rest:
            self.feed(rest)
        return self.open and self.outbox is None

    def scatter(self) -> bytes:
        """Turn it into a request whose body comes piece by piece; what came behind the body."""
        gather = self.gather
        self.forget()
        request = self.server.request_class(self, RESPONDER, gather.flags, 1)
        request.params, request.params_done = gather.params, True
        self._requests[1] = request
        if gather.size:
            request.add_stdin((gather.content(),))
        self._pouring, self._buffer = gather.pouring, gather.header
        return gather.rest or b""

    def forget(self) -> None:
        """There is no upload any more."""
        if self.gather is not None:
            self.server.bodies.discard(self.gather)
            self.gather = None

    def feed(self, data: bytes) -> bool:
        """What was read."""
        raise NotImplementedError

    def fileno(self) -> int:
        """The descriptor."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the socket."""
        raise NotImplementedError
