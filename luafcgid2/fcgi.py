"""The FastCGI server core: flup's classes with their traps mended; the only `import flup`.

In: a connected socket that is ready to be read.  Out: whole requests, given one by one to the `respond` of
`Server`, and its answers as records.  worker.py owns the sockets' readiness, threads and time-outs;
responder.py answers.  Nothing here blocks while reading or sending, knows of Lua, or forks.

Protocol: FastCGI 1.0, Responder and Authorizer role.  A request starts when it is whole (params and, for a Responder,
stdin ended), so a slow uploader holds a connection, never a thread, and interleaved request ids need no care.
"""
from __future__ import annotations

import logging
import socket
from typing import Any, Callable, Dict, Optional, Sequence, Set

from flup.server import fcgi_base as flup

from . import records
from .body import DISCARD_LIMIT, Body, Limits
from .delivery import cut_off, deliver
from .errors import ProtocolError
from .gathering import Gathering
from .params import encode, exceeds, walk
from .receiving import Receiving
from .replies import Answer, deny, overloaded
from .sending import NOTHING, Buffer, Outbox, Sending, send_now

RECV_SIZE = 65536
# The same in the middle of a large body: as much as a unix socket holds.
POUR_SIZE = 262144
DONTWAIT = int(socket.MSG_DONTWAIT)
# Requests under way on one connection; the specification leaves the number to the application.
MAX_INTERLEAVED = 32


class Request(flup.Request):
    """One request id's params and body.

    Does not call flup's constructor: that makes four stream objects, decodes params record by record (a pair
    split across records is lost) and bounds nothing.
    """

    # What most requests never change costs them nothing as a default of the class.
    aborted = params_done = False
    params: bytes = b""
    body: Any = b""
    problem = 0
    # When its params were first seen to be incomplete, for timeouts.py.
    since = 0.0
    _params: Optional[bytearray] = None
    _size = 0
    _stdin: Optional[Body] = None

    def __init__(self, conn: "Connection", role: int, flags: int, request_id: int) -> None:
        self._conn = conn
        self.server = conn.server
        # Section 6.3: an Authorizer gets no STDIN; lighttpd does not even end the stream if there is a body.
        self.requestId, self.role, self.flags, self.stdin_done = request_id, role, flags, role == records.AUTHORIZER

    def add_params(self, content: bytes) -> None:
        """Collect PARAMS content; pairs may be split anywhere (section 3.4).  Over MaxParamsSize (431) the rest is
        read and thrown away, so that the web server gets the answer.  ProtocolError when that never ends."""
        limits = self.server.limits
        self._size += len(content)
        if self._size <= limits.max_params:
            if self._params is None:
                self._params = bytearray()
            self._params += content
            return
        self._params, self.problem = None, 431
        if self._size > limits.max_params + DISCARD_LIMIT:
            raise ProtocolError("params go on far beyond MaxParamsSize (%d bytes)" % limits.max_params)

    def end_params(self) -> None:
        """The PARAMS stream is complete.  ProtocolError when its lengths point past its end."""
        self.params, self._params, self.params_done = bytes(self._params or b""), None, True
        if len(self.params) > self.server.limits.plain_params and exceeds(self.params, self.server.limits.max_pairs):
            self.problem = 431

    def add_stdin(self, pieces: Sequence[Buffer]) -> None:
        """Collect STDIN content.  Raises ProtocolError when a refused body never ends."""
        if self._stdin is None:
            self._stdin = Body(self.server.limits, self.server.logger, self.server.bodies)
        self._stdin.add(pieces)

    def end_stdin(self) -> None:
        """The STDIN stream is complete: `body` is bytes or a file, `problem` an HTTP status or 0."""
        self.stdin_done = True
        if self._stdin is not None:
            self.body, problem = self._stdin.end()
            self.problem = self.problem or problem

    @property
    def taken(self) -> int:
        """How many bytes of its streams have come."""
        return self._size + (self._stdin.size if self._stdin is not None else 0)

    def discard(self) -> None:
        """Free a body on disk."""
        if self._stdin is not None:
            self._stdin.discard()

    def run(self) -> None:
        """Let the server's handler answer, send its reply and end the request (flup's name for it)."""
        try:
            answer = self.server.handler(self)
        finally:
            self.discard()
        self._conn.reply(self.requestId, self.flags, answer)


class Connection(Receiving, Gathering, Sending, flup.Connection):
    """One connection of the web server: cuts records and starts requests that are whole.

    flup's reads block, use select() and make 2-3 system calls a record; this takes what one recv gives.
    `receive` is the only entry; one thread at a time calls it.
    """

    open = True
    # Of the thread that reads now.
    seat: Any = None

    def __init__(self, sock: socket.socket, server: "Server") -> None:
        self._sock, self.server = sock, server
        self._requests: Dict[int, Request] = {}

    @property
    def partial(self) -> bool:
        """Whether bytes of an unfinished request have been read."""
        return bool(self._buffer or self._requests or self._pouring or self.gather)

    def receive(self) -> bool:
        """Take what has arrived and serve what is whole; True if there may be more to read at once.

        Never raises for what the peer did: a broken connection is logged and closed, `open` turns False.  While an
        answer waits for room, more of it is sent instead.
        """
        if self.outbox is not None:
            if not self.resume():
                return False
            if self._buffer:
                # It was read, and counted, before the answer had to wait.
                data, self._buffer = self._buffer, b""
                self.seat.bytes_in -= len(data)
                self.feed(data)
                return self.open and self.outbox is None
        try:
            if self.gather is not None:
                return self.fill()
            data = self._sock.recv(RECV_SIZE if self._pouring is None else POUR_SIZE, DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._lost("connection lost: %s" % error)
            return False
        return self.feed(data)

    def feed(self, data: bytes) -> bool:
        """The same for what was read already; b"" is the end of the input."""
        if not data:
            self._lost("the web server closed the connection in the middle of a request")
            return False
        self.seat.bytes_in += len(data)
        try:
            self._take(data)
        except (ProtocolError, OSError) as error:
            self.fail(error)
        except BaseException:
            # A fault of ours: the web server must not wait for an answer that never comes.
            self.close()
            raise
        return self.open and len(data) >= RECV_SIZE and self.outbox is None

    def fail(self, error: Exception) -> None:
        """The peer broke the protocol, or has left, or gets no more of its answer."""
        self.server.give_up(self._sock, self.seat.request_id, error)
        self.close()

    def _take(self, data: bytes) -> None:
        whole = None if self._requests or self._buffer or self._pouring else records.whole_request(data)
        if whole is not None:
            flags, params, body = whole
            limits = self.server.limits
            if len(params) <= limits.plain_params and len(body) <= limits.plain_body:
                self.seat.sock, self.seat.request_id = self._sock, 1
                return self.reply(1, flags, self.server.respond(params, body, 0, self.seat))
        self.cut_records(data)

    def dispatch(self, record: records.Record) -> None:
        handler = HANDLERS.get(record.type)
        if handler is not None:
            handler(self, record)
        elif not record.request_id:
            # Section 4.2 asks this answer for management records only; others are ignored.
            self._send(records.unknown_type(record.type))

    def reply(self, request_id: int, flags: int, answer: Answer) -> None:
        """Send a whole answer and END_REQUEST; closes the connection unless FCGI_KEEP_CONN was set."""
        if self._requests:
            self._requests.pop(request_id, None)
        self.served = True
        left = deliver(self._sock, request_id, answer)
        if left:
            self.defer(left, not flags & 1 and not self._requests)
        elif not self._requests and (not flags & 1 or self.server.draining):
            self.close()

    def end_request(self, req: Any, appStatus: int = 0, protocolStatus: int = 0, remove: bool = True) -> None:
        """END_REQUEST without a response (flup's signature): refused roles, aborted requests."""
        if remove:
            self._requests.pop(req.requestId, None)
        self._send(records.end(req.requestId, appStatus, protocolStatus), not req.flags & 1 and not self._requests)

    def _send(self, data: bytes, last: bool = False) -> None:
        """Send a record; `last`: and close the connection."""
        left = send_now(self._sock, [data])
        if left:
            self.defer(left, last)
        elif last:
            self.close()

    def _lost(self, message: str) -> None:
        if self.partial:
            self.server.logger.info("%s (%d bytes of a record, %d requests begun)", message,
                                       len(self._buffer), len(self._requests))
        self.close()

    def close(self) -> None:
        """Close the socket and drop what was under way.  flup's lingering close could wait for ever; we have
        read the whole request by now, so nothing is lost by closing at once."""
        if self.open:
            self.open = False
            for request in self._requests.values():
                request.discard()
            self._requests.clear()
            self.drop()
            self._sock.close()

    def fileno(self) -> int:
        """The descriptor; -1 when closed."""
        return self._sock.fileno()

    def _do_begin_request(self, inrec: Any) -> None:
        if len(inrec.content) != records.BEGIN_BODY.size or not inrec.request_id:
            raise ProtocolError("BEGIN_REQUEST with %d bytes, request id %d" % (len(inrec.content), inrec.request_id))
        if inrec.request_id in self._requests:
            raise ProtocolError("request id %d was begun twice" % inrec.request_id)
        role, flags = records.BEGIN_BODY.unpack(inrec.content)
        request = Request(self, role, flags, inrec.request_id)
        if role not in self.server.roles:
            self.end_request(request, 0, records.UNKNOWN_ROLE)
        elif len(self._requests) >= MAX_INTERLEAVED:
            self._send(overloaded(inrec.request_id, role))
        else:
            self._requests[inrec.request_id] = request

    def _do_params(self, inrec: Any) -> None:
        request = self._requests.get(inrec.request_id)
        if request is None or request.params_done:
            return
        if inrec.content:
            request.add_params(inrec.content)
        else:
            request.end_params()
            self._run_if_whole(request)

    def _do_stdin(self, inrec: Any) -> None:
        self.stdin(inrec.request_id, (inrec.content,) if inrec.content else ())

    def stdin(self, request_id: int, pieces: Sequence[Buffer]) -> None:
        """See Receiving."""
        request = self._requests.get(request_id)
        if request is None or request.stdin_done:
            return
        if pieces:
            request.add_stdin(pieces)
        else:
            request.end_stdin()
            self._run_if_whole(request)

    @staticmethod
    def _run_if_whole(request: Request) -> None:
        if request.params_done and request.stdin_done:
            request.run()

    def _do_data(self, inrec: Any) -> None:
        """DATA belongs to the Filter role; a Responder never gets it (section 6.2)."""

    def _do_abort_request(self, inrec: Any) -> None:
        """Requests run as soon as they are whole, so what can be aborted has not started (section 5.4)."""
        request = self._requests.get(inrec.request_id)
        if request is not None:
            request.discard()
            self.end_request(request, 1)

    def _do_get_values(self, inrec: Any) -> None:
        """Answer the names we know (section 4.1); flup looks bytes up among str and finds none."""
        known = self.server.capability
        answer = encode([(n, b"%d" % known[n.decode("latin-1")]) for n, _ in walk(inrec.content)
                         if n.decode("latin-1") in known])
        self._send(records.pack(records.GET_VALUES_RESULT, 0, answer))


HANDLERS: Dict[int, Callable[[Connection, Any], None]] = {
    records.BEGIN_REQUEST: Connection._do_begin_request,
    records.ABORT_REQUEST: Connection._do_abort_request,
    records.PARAMS: Connection._do_params,
    records.STDIN: Connection._do_stdin,
    records.DATA: Connection._do_data,
    records.GET_VALUES: Connection._do_get_values,
}


class Server(flup.BaseFCGIServer):
    """What the connections of one worker share.

    `respond(params, body, problem, seat) -> Answer` answers a request, `authorize` one of the Authorizer role, which is
    never refused (see replies.deny); `connections` and `requests` are the numbers that GET_VALUES answers, for all
    workers together.
    """

    request_class = Request

    def __init__(self, respond: Callable[[bytes, Any, int, Any], Answer], limits: Limits, logger: logging.Logger,
                 connections: int, requests: int, authorize: Callable[..., Answer] = deny) -> None:
        super().__init__(None, roles=(records.RESPONDER, records.AUTHORIZER))
        self.respond, self.authorize, self._connectionClass = respond, authorize, Connection
        self.limits, self.logger, self._plain_params = limits, logger, limits.plain_params
        self.capability = {flup.FCGI_MAX_CONNS: connections, flup.FCGI_MAX_REQS: requests, flup.FCGI_MPXS_CONNS: 1}
        # What slow readers have not taken yet, of all connections.
        self.outboxes: Set[Outbox] = set()
        # Those that are in memory and not small.
        self.bodies: Set[Any] = set()
        # Set when the worker leaves: kept connections are closed after their request.
        self.draining = False

    def handler(self, request: Request) -> Answer:
        """flup's hook between Request.run and the application."""
        seat = request._conn.seat
        seat.sock, seat.request_id = request._conn._sock, request.requestId
        respond = self.respond if request.role == records.RESPONDER else self.authorize
        return respond(request.params, request.body, request.problem, seat)

    def complain(self, error: Exception) -> None:
        """Log why a connection is closed: what the peer sent, or that it left before it had its answer, as nginx
        does when its client goes away."""
        if isinstance(error, ProtocolError):
            self.logger.warning("connection closed: %s", error)
        else:
            self.logger.info("reply not delivered: %s", error)

    def give_up(self, sock: socket.socket, request_id: int, error: Exception) -> None:
        """A connection is to be closed for a reason."""
        self.complain(error)
        cut_off(sock, request_id, error)

    def answer_at_once(self, sock: socket.socket, data: bytes, seat: Any) -> Optional[Sequence[Buffer]]:
        """Answer a new connection whose first bytes, `data`, are one whole request after which it is to be closed:
        most are that, and need no Connection.  None: make one and feed it `data`.  Else what is left to be sent,
        mostly nothing: the caller then closes the socket, also when this raises.
        """
        params, body = records.plain_request(data), b""
        if not params:
            whole = records.whole_request(data)
            if whole is None or whole[0] or len(whole[2]) > self.limits.plain_body:
                return None
            _flags, params, body = whole
        if len(params) > self._plain_params:
            return None
        seat.bytes_in, seat.sock, seat.request_id = seat.bytes_in + len(data), sock, 1
        try:
            return deliver(sock, 1, self.respond(params, body, 0, seat))
        except (ProtocolError, OSError) as error:
            self.give_up(sock, 1, error)
        return NOTHING
