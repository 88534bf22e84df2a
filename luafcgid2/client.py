"""A small blocking FastCGI client: one Responder request at a time on one connection.

In:  an address (see `connect`), CGI parameters, a body as bytes or as a readable binary file.
Out: a `Response` with the CGI header block parsed, or the bare events of `Client.exchange`.
Called by serve.py, ctl.py and tests; `Client.send_raw` and `Client.read_record` serve conformance tests.
It does not retry, pool connections, follow Location, multiplex, or know anything of HTTP.
It sends and receives at the same time, so a server that answers before it has read the body cannot block it.
"""
from __future__ import annotations

import io
import select
import socket
import time
from typing import Any, BinaryIO, Dict, Iterable, Iterator, Mapping, Optional, Tuple, Union

from . import params as pairs
from . import records
from .answer import Response, collect
from .errors import ProtocolError

Text = Union[bytes, str]
Params = Union[Mapping[Text, Text], Iterable[Tuple[Text, Text]]]
Body = Union[bytes, BinaryIO]
Address = Union[str, Tuple[Any, ...]]
Event = Tuple[int, bytes]

RECEIVE_SIZE = 262144
CHUNK_SIZE = 4 * records.MAX_CONTENT


def connect(address: Address, timeout: float = 30.0) -> socket.socket:
    """A connected stream socket; raises OSError.

    `address` is the path of a unix socket, `host:port`, `:port` or `*:port` (this machine), `[v6]:port`, or a
    tuple `(host, port)`.  `timeout` is in seconds and stays set on the socket.
    """
    target = _tcp_target(address)
    if target:
        sock = socket.create_connection(target, timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _tcp_target(address: Address) -> Optional[Tuple[str, int]]:
    if isinstance(address, tuple):
        return address[:2]
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in address:
        return None
    return ("127.0.0.1" if host in ("", "*") else host.strip("[]")), int(port)


def request(address: Address, params: Params, stdin: Body = b"", timeout: float = 30.0,
            keep_conn: bool = False, request_id: int = 1, role: int = records.RESPONDER) -> Response:
    """One request on a connection of its own; arguments and errors are those of `Client.request`."""
    with Client(address, timeout) as client:
        return client.request(params, stdin, keep_conn, request_id, role)


class Client:
    """One connection to a FastCGI server, kept for as many requests as the server allows.

    `timeout` (seconds) bounds the connecting and each whole request.  A request that failed, one without
    `keep_conn`, and one that was answered before its whole body was taken leave the connection closed.
    """

    def __init__(self, address: Address, timeout: float = 30.0) -> None:
        self.timeout = timeout
        self.socket = connect(address, timeout)
        self._received = b""
        self._position = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether this end closed the connection."""
        return self.socket.fileno() < 0

    def close(self) -> None:
        """Close the connection; may be called twice."""
        self.socket.close()

    def request(self, params: Params, stdin: Body = b"", keep_conn: bool = True, request_id: int = 1,
                role: int = records.RESPONDER) -> Response:
        """Send one request and wait for its whole answer.

        Raises ProtocolError for an answer that breaks FastCGI or CGI, TimeoutError, and OSError when the
        connection is lost.
        """
        return collect(self.exchange(params, stdin, keep_conn, request_id, role))

    def exchange(self, params: Params, stdin: Body = b"", keep_conn: bool = True, request_id: int = 1,
                 role: int = records.RESPONDER) -> Iterator[Event]:
        """Send one request and yield `(record type, content)` as records come; END_REQUEST is the last.

        Raises what `request` raises.  Leaving the iteration early closes the connection.
        """
        if self.closed:
            raise ConnectionError("this connection to the FastCGI server was closed after an earlier request")
        sender = _Sender(self.socket, _outgoing(params, stdin, keep_conn, request_id, role))
        reusable = False
        try:
            for kind, content in self._events(request_id, sender):
                reusable = kind == records.END_REQUEST and keep_conn and sender.done
                yield kind, content
        finally:
            if not reusable:
                self.close()

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are; raises OSError, and TimeoutError after the client's timeout."""
        self.socket.sendall(data)

    def read_record(self) -> Optional[Tuple[int, int, bytes]]:
        """The next `(type, request id, content)`, or None when the server closed between two records.

        Raises ProtocolError when it closed within a record, TimeoutError after the client's timeout.
        """
        return self._record(_Sender(self.socket, iter(())), time.monotonic() + self.timeout)

    def read_response(self, request_id: int = 1) -> Response:
        """The answer to a request that was sent with `send_raw`; a record of another id is an error."""
        return collect(self._events(request_id, _Sender(self.socket, iter(()))))

    def get_values(self, names: Iterable[Text]) -> Dict[bytes, bytes]:
        """Ask the server for FCGI_MAX_CONNS and the like (section 4.1); only between two requests."""
        self.send_raw(records.pack(records.GET_VALUES, 0, pairs.encode([(name, b"") for name in names])))
        kind, request_id, content = self.read_record() or (0, 0, b"")
        if (kind, request_id) != (records.GET_VALUES_RESULT, 0):
            raise ProtocolError("record type %d for id %d instead of GET_VALUES_RESULT" % (kind, request_id))
        return pairs.decode(content)

    def _events(self, request_id: int, sender: _Sender) -> Iterator[Event]:
        deadline = time.monotonic() + self.timeout
        kind = 0
        while kind != records.END_REQUEST:
            record = self._record(sender, deadline)
            if record is None:
                raise ProtocolError("the FastCGI server closed the connection before END_REQUEST")
            kind, answered, content = record
            if answered != request_id:
                raise ProtocolError("record type %d for request id %d while waiting for id %d"
                                    % (kind, answered, request_id))
            yield kind, content

    def _record(self, sender: _Sender, deadline: float) -> Optional[Tuple[int, int, bytes]]:
        while True:
            record = records.cut(self._received, self._position)
            if record is not None:
                if record.version != records.VERSION:
                    raise ProtocolError("FastCGI version %d from the server" % record.version)
                self._position = record.end
                return record.type, record.request_id, record.content
            if not self._wait(sender, deadline):
                return None

    def _wait(self, sender: _Sender, deadline: float) -> bool:
        """Send what the socket takes or receive what it has; False at the end of the connection."""
        left = deadline - time.monotonic()
        poll = select.poll()
        poll.register(self.socket, select.POLLIN if sender.done else select.POLLIN | select.POLLOUT)
        ready = poll.poll(left * 1000) if left > 0 else ()
        if not ready:
            raise TimeoutError("no answer from the FastCGI server within %g seconds" % self.timeout)
        if ready[0][1] == select.POLLOUT:
            return sender.send()
        data = self.socket.recv(RECEIVE_SIZE)
        missing = len(self._received) - self._position
        if missing and not data:
            raise ProtocolError("the FastCGI server closed the connection %d bytes into a record" % missing)
        self._received = self._received[self._position:] + data
        self._position = 0
        return bool(data)


class _Sender:
    """What is still to be sent of one request; `done` once the socket has taken all of it."""

    def __init__(self, sock: socket.socket, parts: Iterator[bytes]) -> None:
        self._socket = sock
        self._parts = parts
        self._part = memoryview(next(parts, b""))
        self.done = not self._part

    def send(self) -> bool:
        """One send; raises OSError.  True, so that the caller goes on waiting."""
        try:
            self._part = self._part[self._socket.send(self._part, socket.MSG_DONTWAIT):]
        except BlockingIOError:
            return True
        except (BrokenPipeError, ConnectionResetError):
            # The peer takes no more, but its answer may already be waiting to be received.
            self._parts, self._part = iter(()), memoryview(b"")
        if not self._part:
            self._part = memoryview(next(self._parts, b""))
            self.done = not self._part
        return True


def _outgoing(params: Params, stdin: Body, keep_conn: bool, request_id: int, role: int) -> Iterator[bytes]:
    """The records of one request in bounded pieces; a small request is one piece, as web servers send it."""
    body = stdin if hasattr(stdin, "read") else io.BytesIO(stdin)
    encoded = pairs.encode(params)
    piece = records.begin(request_id, role, records.KEEP_CONN if keep_conn else 0)
    if encoded:
        piece += records.pack(records.PARAMS, request_id, encoded)
    piece += records.pack(records.PARAMS, request_id)
    end = records.pack(records.STDIN, request_id)
    chunk = body.read(CHUNK_SIZE)
    while chunk:
        # The end goes out with the last chunk: some servers answer as soon as they have CONTENT_LENGTH bytes.
        following = body.read(CHUNK_SIZE)
        yield piece + records.pack(records.STDIN, request_id, chunk) + (b"" if following else end)
        piece, chunk = b"", following
    if piece:
        yield piece + end
