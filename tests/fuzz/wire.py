"""One fcgi.Connection on a socket that is none: what it is fed, what it says, and what must hold after each input.

In: bytes as a web server might send them, and where they are cut.  Out: a `Story`; AssertionError where a promise is
broken.  Its `respond` echoes what it was given, so a story says what the server understood.
"""
from __future__ import annotations

import logging
import zlib
from typing import Any, List, NamedTuple

from luafcgid2 import records
from luafcgid2.body import Limits
from luafcgid2.fcgi import MAX_INTERLEAVED, RECV_SIZE, Connection, Server
from luafcgid2.params import walk
from luafcgid2.replies import Reply
from luafcgid2.seat import Seat

# Small, so that small inputs reach them.
LIMITS = Limits(max_params=400, max_body=300, body_memory=100, temp_dir=None, send_memory=1 << 20)
LONGEST_RECORD = records.HEADER_SIZE + 65535 + 255
ANSWERS = {records.END_REQUEST, records.STDOUT, records.STDERR, records.GET_VALUES_RESULT, records.UNKNOWN_TYPE}


class Story(NamedTuple):
    """All that was sent back, the requests that were run as (params, body, problem), and the lines of the log."""

    sent: bytes
    requests: List[Any]
    log: List[str]


class Wire:
    """A connected socket: takes everything at once and tells nobody."""

    def __init__(self) -> None:
        self.sent, self.open = bytearray(), True

    def send(self, data: bytes, _flags: int = 0) -> int:
        assert self.open, "something is sent on a closed connection"
        self.sent += data
        return len(data)

    def sendmsg(self, buffers: List[bytes], *_ignored: Any) -> int:
        return self.send(b"".join(buffers))

    def setsockopt(self, *_ignored: Any) -> None:
        pass

    def fileno(self) -> int:
        return 0 if self.open else -1

    def close(self) -> None:
        assert self.open, "the connection is closed twice"
        self.open = False


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: List[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Scene:
    """A server with one connection, from its first byte to its end."""

    def __init__(self) -> None:
        self._log, logger = _Lines(), logging.Logger("fuzz", logging.INFO)
        logger.addHandler(self._log)
        self._requests: List[Any] = []
        self._files: List[Any] = []
        self.server, self.wire = Server(self._respond, LIMITS, logger, 42, 42, self._respond), Wire()

    def _respond(self, params: bytes, body: Any, problem: int, _seat: Any) -> Any:
        if not isinstance(body, bytes):
            self._files.append(body)
            body = body.read()
        # As the prelude does: what lies about its lengths ends the connection.
        pairs = sum(1 for _ in walk(params))
        self._requests.append((params, body, problem))
        said = b"%d %08x %d" % (pairs, zlib.crc32(params + body), problem)
        return Reply(said, b"\r\n\r\n", b"oops") if pairs % 3 == 1 else said

    def play(self, data: bytes, step: int) -> Story:
        """Feed `data` in pieces of `step` bytes, then the end of the input."""
        connection = Connection(self.wire, self.server)  # type: ignore[arg-type]
        connection.seat = Seat(0)
        for at in range(0, len(data), step):
            if not connection.open:
                break
            connection.feed(data[at:at + step])
            assert len(connection._buffer) <= LONGEST_RECORD, "an unfinished record grows without end"
            assert len(connection._requests) <= MAX_INTERLEAVED
        if connection.open:
            connection.feed(b"")
        assert not connection.open and not self.wire.open, "the connection outlives the end of its input"
        assert not connection._requests
        return self.story()

    def play_at_once(self, data: bytes) -> bool:
        """The way of a new connection; False: it was left to `play`."""
        taken = self.server.answer_at_once(self.wire, data, Seat(0))  # type: ignore[arg-type]
        return taken not in (None, False)

    def story(self) -> Story:
        """What has happened; checks what holds for all stories."""
        assert all(file.closed for file in self._files), "a temporary file stays open"
        sent = bytes(self.wire.sent)
        completed = check_records(sent)
        assert completed == len(self._requests), "requests and their ends do not match"
        return Story(sent, self._requests, self._log.lines)


def check_records(sent: bytes, whole: bool = True) -> int:
    """How many requests were answered in `sent`, which must be whole records of an application (section 3.3)."""
    position, completed = 0, 0
    streams: dict = {}
    while position < len(sent):
        record = records.cut(sent, position)
        if record is None:
            assert not whole, "the last record is cut off"
            break
        assert record.version == 1 and record.type in ANSWERS, "%r is no answer" % (record,)
        kind, request_id = record.type, record.request_id
        assert bool(request_id) == (kind not in (records.GET_VALUES_RESULT, records.UNKNOWN_TYPE)), record
        if kind == records.END_REQUEST:
            app_status, protocol_status = records.END_BODY.unpack(record.content)
            started = [key for key in streams if key[0] == request_id]
            assert all(streams.pop(key) for key in started), "a stream of request %d is not ended" % request_id
            assert bool(started) == (app_status == protocol_status == 0), record
            completed += bool(started)
        elif request_id:
            assert not streams.get((request_id, kind)), "output after the end of a stream"
            streams[request_id, kind] = not record.content
        position = record.end
    assert not whole or not streams, "a request is not ended"
    return completed


def same_story(data: bytes, step: int) -> None:
    """Pieces or not, shortcut or not: the same requests, the same answers, the same lines in the log."""
    whole = Scene().play(data, RECV_SIZE)
    assert Scene().play(data, step) == whole, "pieces of %d bytes are understood otherwise" % step
    once = Scene()
    if once.play_at_once(data):
        assert once.story() == whole, "the shortcut answers otherwise"


