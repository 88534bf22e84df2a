"""FastCGI 1.0 records as bytes: pure functions and constants, no I/O.

In: bytes of a connection, or the fields of a record.  Out: fields, or bytes ready to send.  Used by the
server core, the client and the tests.  It keeps no state between calls and knows nothing of sockets.
Numbers and names are those of the FastCGI 1.0 specification, section 8.
"""
from __future__ import annotations

import struct
from typing import NamedTuple, Optional, Tuple

VERSION = 1
BEGIN_REQUEST, ABORT_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT, STDERR, DATA = range(1, 9)
GET_VALUES, GET_VALUES_RESULT, UNKNOWN_TYPE = range(9, 12)
KEEP_CONN = 1
RESPONDER, AUTHORIZER, FILTER = range(1, 4)
REQUEST_COMPLETE, CANT_MPX_CONN, OVERLOADED, UNKNOWN_ROLE = range(4)

HEADER = struct.Struct("!BBHHBx")
HEADER_SIZE = 8
BEGIN_BODY = struct.Struct("!HB5x")
END_BODY = struct.Struct("!LB3x")
# The longest content that is a multiple of eight: such a record needs no padding (section 3.3).
MAX_CONTENT = 65528

_BEGIN_SIZE = BEGIN_BODY.size


class Record(NamedTuple):
    """One record cut from a buffer; `end` is the position after its padding."""

    version: int
    type: int
    request_id: int
    content: bytes
    end: int


def header(kind: int, request_id: int, length: int, padding: int = 0) -> bytes:
    """The eight bytes in front of `length` bytes of content (section 3.3)."""
    return HEADER.pack(VERSION, kind, request_id, length, padding)


def pack(kind: int, request_id: int, content: bytes = b"") -> bytes:
    """Records that carry `content` (any length); empty content gives the end-of-stream record."""
    if len(content) <= MAX_CONTENT:
        return header(kind, request_id, len(content), -len(content) & 7) + content + bytes(-len(content) & 7)
    parts = [
        pack(kind, request_id, content[start:start + MAX_CONTENT]) for start in range(0, len(content), MAX_CONTENT)
    ]
    return b"".join(parts)


def begin(request_id: int, role: int = RESPONDER, flags: int = 0) -> bytes:
    """A BEGIN_REQUEST record (section 5.1)."""
    return header(BEGIN_REQUEST, request_id, _BEGIN_SIZE) + BEGIN_BODY.pack(role, flags)


def end(request_id: int, app_status: int = 0, protocol_status: int = REQUEST_COMPLETE) -> bytes:
    """An END_REQUEST record (section 5.5)."""
    return header(END_REQUEST, request_id, END_BODY.size) + END_BODY.pack(app_status, protocol_status)


def unknown_type(kind: int) -> bytes:
    """The answer to a management record of a type nobody knows (section 4.2)."""
    return header(UNKNOWN_TYPE, 0, 8) + bytes((kind, 0, 0, 0, 0, 0, 0, 0))


def cut(buffer: bytes, position: int = 0) -> Optional[Record]:
    """The record at `position`, or None while bytes of it are missing.

    The version is returned, not judged: what to do about a wrong one is the connection's decision.
    """
    body = position + HEADER_SIZE
    if len(buffer) < body:
        return None
    version, kind, request_id, length, padding = HEADER.unpack_from(buffer, position)
    after = body + length + padding
    if len(buffer) < after:
        return None
    return Record(version, kind, request_id, bytes(buffer[body:body + length]), after)


def tail(request_id: int) -> bytes:
    """What ends a body-less request: the empty PARAMS and the empty STDIN record."""
    return header(PARAMS, request_id, 0) + header(STDIN, request_id, 0)


TAIL_1 = tail(1)
_END_PARAMS, _END_STDIN = TAIL_1[:HEADER_SIZE], TAIL_1[HEADER_SIZE:]
# How a Responder's request with id 1 begins, and its flags: BEGIN_REQUEST, and the first half of PARAMS' header;
# the second half is the content's length, that of the padding, and a reserved byte.
_BEGINNINGS = {begin(1, RESPONDER, flags) + header(PARAMS, 1, 0)[:4]: flags for flags in (0, KEEP_CONN)}
_PLAIN = begin(1) + header(PARAMS, 1, 0)[:4]
_HEAD = struct.Struct("!20sHB")
_head_of = _HEAD.unpack_from
# With one byte of params.
_SHORTEST = 41


def whole_request(buffer: bytes) -> Optional[Tuple[int, bytes, bytes]]:
    """(flags, params, body) of a buffer that is BEGIN, one PARAMS, empty PARAMS, at most one STDIN with content, empty
    STDIN of a Responder's request with id 1, and nothing else: what a GET and a small POST look like from nginx and
    lighttpd.  None means: cut the records one by one."""
    if len(buffer) < _SHORTEST:
        return None
    beginning, length, padding = _head_of(buffer)
    flags = _BEGINNINGS.get(beginning)
    if flags is None or not length:
        return None
    stop = 24 + length
    rest = buffer[stop + padding:]
    if rest == TAIL_1:
        return flags, buffer[24:stop], b""
    body = _small_body(rest)
    return (flags, buffer[24:stop], body) if body else None


def _small_body(rest: bytes) -> bytes:
    """The content, if `rest` is empty PARAMS, one STDIN record, empty STDIN; or b""."""
    start = 2 * HEADER_SIZE
    if len(rest) < start or rest[:HEADER_SIZE] != _END_PARAMS:
        return b""
    version, kind, request_id, length, padding = HEADER.unpack_from(rest, HEADER_SIZE)
    if version != VERSION or kind != STDIN or request_id != 1 or rest[start + length + padding:] != _END_STDIN:
        return b""
    return rest[start:start + length]


def plain_request(buffer: bytes) -> bytes:
    """The params of such a buffer where the role is the Responder's and the connection is not to be kept; or b""."""
    if len(buffer) >= _SHORTEST:
        beginning, length, padding = _head_of(buffer)
        stop = 24 + length
        if beginning == _PLAIN and buffer[stop + padding:] == TAIL_1:
            return buffer[24:stop]
    return b""
