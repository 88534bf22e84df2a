"""Cuts the records of one connection out of what arrives: the half of a connection that receives.

In: bytes in pieces of any size.  Out: whole records, to `dispatch`; the content of large STDIN records goes to `stdin`
as it comes, so that a body is not copied until a record is whole.  `Receiving` is mixed into fcgi.Connection, which
sends and decides; nothing here reads a socket or knows what a record is good for.
"""
from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

from .body import Buffer
from .errors import ProtocolError
from .records import HEADER, HEADER_SIZE, STDIN, VERSION, Record, cut

# Content of so many bytes is not collected first.
LARGE = 4096
Pouring = Tuple[int, int, int]

_header_of = HEADER.unpack_from


class Receiving:
    """See the module's contract; the other half has `open`, `outbox`, `dispatch` and `stdin`."""

    open: bool
    outbox: Any
    # What was read and is not dealt with.
    _buffer = b""
    # Of the STDIN record whose content is on its way: request id, bytes of content and of padding that are to come.
    _pouring: Optional[Pouring] = None

    def cut_records(self, data: bytes) -> None:
        """Deal with what is whole.  While an answer waits for room, or when the connection is closed, the rest is left.
        Raises ProtocolError."""
        buffer, position = self._buffer + data if self._buffer else data, 0
        self._buffer = b""
        while self.open and self.outbox is None:
            if self._pouring is None:
                self._pouring = _large_stdin(buffer, position)
                position += HEADER_SIZE if self._pouring is not None else 0
            if self._pouring is not None:
                position = self._pour(buffer, position, *self._pouring)
                if self._pouring is not None:
                    break
                continue
            record = cut(buffer, position)
            if record is None:
                break
            position = record.end
            if record.version != VERSION:
                raise ProtocolError("record version %d, expected 1" % record.version)
            self.dispatch(record)
        if self.open:
            # A wrong version is known by its first byte: do not wait for the rest of such a record.
            if self._pouring is None and position < len(buffer) and buffer[position] != VERSION:
                raise ProtocolError("record version %d, expected 1" % buffer[position])
            self._buffer = buffer[position:]

    def _pour(self, buffer: bytes, position: int, request_id: int, left: int, padding: int) -> int:
        """Hand over the content that is there, and that of large records behind it; the position that is reached."""
        view, size = memoryview(buffer), len(buffer)
        pieces: List[Buffer] = []
        while True:
            stop = min(position + left, size)
            pieces.append(view[position:stop])
            left, position = left + position - stop, stop
            if not left:
                stop = min(position + padding, size)
                padding, position = padding + position - stop, stop
            following = None if left or padding else _large_stdin(buffer, position)
            if following is None or following[0] != request_id:
                break
            position, left, padding = position + HEADER_SIZE, following[1], following[2]
        self._pouring = (request_id, left, padding) if left or padding else None
        if 2 * sum(map(len, pieces)) < size:
            # Views keep all of the buffer.
            pieces = [b"".join(pieces)]
        self.stdin(request_id, pieces)
        return position

    def dispatch(self, record: Record) -> None:
        """A record is whole."""
        raise NotImplementedError

    def stdin(self, request_id: int, pieces: Sequence[Buffer]) -> None:
        """Content of STDIN records of one request; no pieces are its end."""
        raise NotImplementedError


def _large_stdin(buffer: bytes, position: int) -> Optional[Pouring]:
    """The request id, content and padding of a STDIN record that begins there, if it is a large one."""
    if len(buffer) < position + HEADER_SIZE:
        return None
    version, kind, request_id, length, padding = _header_of(buffer, position)
    return (request_id, length, padding) if kind == STDIN and length >= LARGE and version == VERSION else None
