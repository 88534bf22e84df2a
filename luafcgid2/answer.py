"""A Responder's answer: the CGI header block (RFC 3875 section 6) and the streams around it; pure functions.

In:  bytes of a STDOUT stream, or the events `(record type, content)` of one request.
Out: `Head` and `Response`.  ProtocolError where the bytes break FastCGI 1.0 or CGI.
Called by client.py, by serve.py and by tests.  It does no I/O, keeps no state and follows no Location.
"""
from __future__ import annotations

from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

from . import records
from .errors import ProtocolError


class Head(NamedTuple):
    """A parsed header block.

    `status` is 200 where the block names none, and 302 where it has only a Location (section 6.2.3).
    `reason` may be "".  `headers` keeps order and repetitions and leaves `Status` out.  `size` counts the
    bytes of the block with the empty line that ends it.
    """

    status: int
    reason: str
    headers: List[Tuple[str, str]]
    size: int


class Response(NamedTuple):
    """A whole answer.

    `status`, `reason` and `headers` are those of `Head`; `status` is 0 where the server sent no output at
    all because it refused the request (`protocol_status` tells why).  `raw` is the whole STDOUT stream,
    `body` what follows the header block in it, `stderr` the whole STDERR stream.
    """

    status: int
    headers: List[Tuple[str, str]]
    body: bytes
    stderr: bytes
    app_status: int
    protocol_status: int
    raw: bytes
    reason: str = ""

    def header(self, name: str, default: str = "") -> str:
        """The first value of the header `name` (in any case), or `default`."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), default)


def parse_head(data: bytes) -> Optional[Head]:
    """Read the header block at the front of `data`; None while its empty line has not come yet.

    Lines may end in CRLF or in LF alone.  Raises ProtocolError for a line without a name and a colon, and
    for a Status that does not open with a number from 100 to 999.
    """
    end = _end_of_head(data)
    if end is None:
        return None
    status, reason, headers = 0, "", []
    for line in filter(None, data[:end[0]].decode("latin-1").split("\n")):
        name, colon, value = line.rstrip("\r").partition(":")
        if not colon or not name or name != name.strip():
            raise ProtocolError("bad header line from the FastCGI server: %r" % line)
        if name.lower() == "status":
            status, reason = _status(value.strip())
        else:
            headers.append((name, value.strip()))
    if not status:
        status = 302 if any(name.lower() == "location" for name, _ in headers) else 200
    return Head(status, reason, headers, end[1])


def _end_of_head(data: bytes) -> Optional[Tuple[int, int]]:
    """Where the last header line ends and where the body starts."""
    if data[:1] == b"\n" or data[:2] == b"\r\n":
        return 0, data.index(b"\n") + 1
    found = [(at, at + len(mark)) for mark in (b"\n\n", b"\n\r\n") for at in (data.find(mark),) if at >= 0]
    return min(found, default=None)


def _status(text: str) -> Tuple[int, str]:
    code, _, reason = text.partition(" ")
    if len(code) != 3 or code[0] == "0" or not (code.isascii() and code.isdigit()):
        raise ProtocolError("bad Status from the FastCGI server: %r" % text)
    return int(code), reason.strip()


def end_status(content: bytes) -> Tuple[int, int]:
    """The application's and the protocol's status in an END_REQUEST record (FastCGI 1.0, section 5.5)."""
    if len(content) != records.END_BODY.size:
        raise ProtocolError("END_REQUEST with %d bytes of content" % len(content))
    return records.END_BODY.unpack(content)


def collect(events: Iterable[Tuple[int, bytes]]) -> Response:
    """One `Response` from all events of a request, END_REQUEST included.  Raises ProtocolError."""
    streams: Dict[int, List[bytes]] = {records.STDOUT: [], records.STDERR: []}
    app_status = protocol_status = 0
    for kind, content in events:
        if kind == records.END_REQUEST:
            app_status, protocol_status = end_status(content)
        elif kind in streams:
            streams[kind].append(content)
        else:
            raise ProtocolError("record type %d in the answer of a Responder" % kind)
    raw, stderr = b"".join(streams[records.STDOUT]), b"".join(streams[records.STDERR])
    if not raw and protocol_status != records.REQUEST_COMPLETE:
        return Response(0, [], b"", stderr, app_status, protocol_status, raw)
    head = parse_head(raw)
    if head is None:
        raise ProtocolError("no header block in %d bytes of output from the FastCGI server" % len(raw))
    body = raw[head.size:]
    return Response(head.status, head.headers, body, stderr, app_status, protocol_status, raw, head.reason)
