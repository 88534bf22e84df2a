"""A reply as records: pure functions, no I/O.

In: the CGI response of one request, whole or in pieces, and what goes to the web server's error log.  Out: buffers
to send, in order.  responder.py makes answers, fcgi.py frames and sends them.  Rules: FastCGI 1.0, sections
3.3, 5.3 and 6.2: STDERR before the end of STDOUT, then STDOUT's end, then END_REQUEST.
"""
from __future__ import annotations

from typing import List, NamedTuple, Sequence, Tuple, Union

from .records import (
    AUTHORIZER, END_BODY, END_REQUEST, HEADER, MAX_CONTENT, OVERLOADED, STDERR, STDOUT, end, header, pack)

Buffer = Union[bytes, memoryview]
# A web server keeps STDERR in a small buffer and cuts long lines anyway.
STDERR_LIMIT = 8192
_END_BODY = END_BODY.pack(0, 0)
_pack = HEADER.pack
_DENIED = b"Status: 503 Service Unavailable\r\n\r\n"


class Reply(NamedTuple):
    """`head` ends inside the header block, `rest` holds the other headers and the body, in one piece or in several.  Of
    an answer whose head has left already `head` is b""."""

    head: bytes
    rest: Union[bytes, Tuple[bytes, ...]]
    stderr: bytes = b""

    @property
    def parts(self) -> Tuple[bytes, ...]:
        """All of the CGI response."""
        return (self.head, self.rest) if isinstance(self.rest, bytes) else (self.head, *self.rest)

    @property
    def size(self) -> int:
        """Bytes of the CGI response."""
        return sum(map(len, self.parts))


# Most answers are just the bytes of the whole CGI response.
Answer = Union[bytes, Reply]


def closing(request_id: int) -> bytes:
    """The end of STDOUT and END_REQUEST with status 0."""
    return header(STDOUT, request_id, 0) + header(END_REQUEST, request_id, END_BODY.size) + _END_BODY


CLOSING_1 = closing(1)


def deny(*_request: object) -> Answer:
    """What says no in the Authorizer role.  lighttpd takes a request that ends without output for allowed, also one
    with UNKNOWN_ROLE or OVERLOADED."""
    return _DENIED


def overloaded(request_id: int, role: int) -> bytes:
    """The end of a request that is not taken (section 5.5)."""
    said = pack(STDOUT, request_id, _DENIED) + header(STDOUT, request_id, 0) if role == AUTHORIZER else b""
    return said + end(request_id, 0, OVERLOADED)


def _errors(request_id: int, stderr: bytes) -> bytes:
    """The whole STDERR stream."""
    return pack(STDERR, request_id, stderr[:STDERR_LIMIT]) + header(STDERR, request_id, 0)


def frame(request_id: int, answer: Answer) -> List[Buffer]:
    """`answer` as buffers: one for a small answer; views, not copies, of a large one."""
    ending = CLOSING_1 if request_id == 1 else closing(request_id)
    if isinstance(answer, bytes):
        size = len(answer)
        if size <= MAX_CONTENT:
            return [b"".join((_pack(1, STDOUT, request_id, size, 0), answer, ending))]
        answer = Reply(b"", answer)
    stderr, parts = answer.stderr, answer.parts
    first = _errors(request_id, stderr) if stderr else b""
    size = sum(map(len, parts))
    if size <= MAX_CONTENT:
        # An empty record is the end of the stream, which `ending` has.
        opening = _pack(1, STDOUT, request_id, size, 0) if size else b""
        return [b"".join((first, opening, *parts, ending))]
    return [*([first] if first else []), *_records(request_id, parts, size), ending]


def _records(request_id: int, parts: Sequence[bytes], left: int) -> List[Buffer]:
    """Full STDOUT records, whose content is cut out of `parts` without copies; they have `left` bytes."""
    buffers: List[Buffer] = []
    room = 0
    for part in parts:
        view = memoryview(part)
        while view:
            if not room:
                room = min(left, MAX_CONTENT)
                left -= room
                buffers.append(header(STDOUT, request_id, room))
            piece, view = view[:room], view[room:]
            room -= len(piece)
            buffers.append(piece)
    return buffers
