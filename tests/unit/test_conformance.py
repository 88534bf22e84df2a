"""FastCGI 1.0 as a corpus: what a web server sends, and what must come back.

Each case is fed whole, byte by byte and in pieces of seven bytes.  The handler answers with an echo of what
the request was, so a case says what the server understood.  Sections are those of the specification.
"""
from __future__ import annotations

import hashlib
import json
import logging
import resource
import socket
import struct
from typing import NamedTuple, Tuple

import pytest

from luafcgid2 import records
from luafcgid2.body import Limits
from luafcgid2.errors import ProtocolError
from luafcgid2.fcgi import MAX_INTERLEAVED, Connection, Server
from luafcgid2.params import decode, encode
from luafcgid2.records import (
    ABORT_REQUEST, AUTHORIZER, BEGIN_REQUEST, DATA, END_REQUEST, FILTER, GET_VALUES, GET_VALUES_RESULT, KEEP_CONN,
    OVERLOADED, PARAMS, RESPONDER, STDERR, STDIN, STDOUT, UNKNOWN_ROLE, UNKNOWN_TYPE, begin, pack)
from luafcgid2.replies import Reply
from luafcgid2.seat import Seat

MAX_BODY, BODY_MEMORY, MAX_PARAMS, MAX_PAIRS = 100_000, 10_000, 8192, 100
CONNECTIONS = 42
ENV = {"SCRIPT_FILENAME": "/x.lua", "QUERY_STRING": "a=b"}
MANY = {"%d" % number: "" for number in range(MAX_PAIRS)}
LONG = {"A" * 200: "b" * 3000, "C": "", "D": "x" * 127}


def record(kind, request_id, content=b"", padding=0, version=1):
    """One record with everything free."""
    return struct.pack("!BBHHBx", version, kind, request_id, len(content), padding) + content + b"\xff" * padding


def params(values, request_id=1, step=0, padding=0):
    """A PARAMS stream, cut every `step` bytes (0: not at all), and its end."""
    data = encode(values)
    pieces = [data[at:at + step] for at in range(0, len(data), step)] if step else [data]
    filled = [record(PARAMS, request_id, piece, padding) for piece in pieces if piece]
    return b"".join(filled) + record(PARAMS, request_id)


def get(request_id=1, flags=0, values=None, **options):
    """A whole request without a body."""
    return (begin(request_id, RESPONDER, flags) + params(values or ENV, request_id, **options)
            + record(STDIN, request_id))


def ask(request_id=1, flags=0):
    """A whole request to an authorizer."""
    return begin(request_id, AUTHORIZER, flags) + params(ENV, request_id)


def post(body, request_id=1, flags=0, step=32768):
    """A whole request with a body."""
    pieces = [body[at:at + step] for at in range(0, len(body), step)]
    return (begin(request_id, RESPONDER, flags) + params(ENV, request_id)
            + b"".join(record(STDIN, request_id, piece) for piece in pieces) + record(STDIN, request_id))


def names(*wanted):
    return record(GET_VALUES, 0, encode([(name, "") for name in wanted]))


class Answer(NamedTuple):
    """A request that was run: its params, its body, where the body was, the HTTP status that refused it."""

    request_id: int
    values: dict = ENV
    body: bytes = b""
    on_disk: bool = False
    problem: int = 0


class Ended(NamedTuple):
    """A request that was ended without a response."""

    request_id: int
    app_status: int
    protocol_status: int


class Values(NamedTuple):
    """GET_VALUES_RESULT."""

    values: dict


class Unknown(NamedTuple):
    """UNKNOWN_TYPE."""

    type: int


class Case(NamedTuple):
    """`sent`, and what comes back; `stays` tells whether the connection is open after it; `log` is part of
    the line that a closed connection leaves."""

    sent: bytes
    answers: Tuple = ()
    stays: bool = False
    log: str = ""


KEPT = get(flags=KEEP_CONN)
BIG = bytes(index % 251 for index in range(60_000))

CASES = {
    # 3.3, 3.5, 5.1: requests and connections
    "a request": Case(get(), (Answer(1),)),
    "a request to keep the connection": Case(KEPT, (Answer(1),), True),
    "requests one after the other": Case(KEPT + get(2, KEEP_CONN) + get(), (Answer(1), Answer(2), Answer(1)), False),
    "the same id again after its end": Case(KEPT * 3, (Answer(1),) * 3, True),
    "the highest id": Case(get(65535), (Answer(65535),)),
    "unknown flags are ignored": Case(get(flags=0xFE), (Answer(1),)),
    "nothing is served after the close": Case(get() + get(2), (Answer(1),)),
    "interleaved requests": Case(
        begin(1, RESPONDER, KEEP_CONN) + begin(2, RESPONDER, KEEP_CONN) + record(PARAMS, 2, encode({"N": "2"}))
        + record(PARAMS, 1, encode({"N": "1"})) + record(PARAMS, 1) + record(STDIN, 1, b"one") + record(PARAMS, 2)
        + record(STDIN, 2, b"two") + record(STDIN, 2) + record(STDIN, 1),
        (Answer(2, {"N": "2"}, b"two"), Answer(1, {"N": "1"}, b"one")), True),
    "the connection is kept while another request is under way": Case(
        begin(1) + params(ENV, 1) + get(2) + record(STDIN, 1), (Answer(2), Answer(1)), False),
    "too many requests at once": Case(
        b"".join(begin(number, RESPONDER, KEEP_CONN) for number in range(1, MAX_INTERLEAVED + 2)),
        (Ended(MAX_INTERLEAVED + 1, 0, OVERLOADED),), True),
    # 3.3: padding, 3.4: pairs
    "padding everywhere": Case(
        record(BEGIN_REQUEST, 1, b"\0\1\0\0\0\0\0\0", 7) + record(PARAMS, 1, encode(ENV), 255)
        + record(PARAMS, 1, b"", 8) + record(STDIN, 1, b"body", 4) + record(STDIN, 1, b"", 1),
        (Answer(1, ENV, b"body"),)),
    "params in records of one byte": Case(get(values=LONG, step=1), (Answer(1, LONG),)),
    "params in records of 1000 bytes": Case(get(values=LONG, step=1000), (Answer(1, LONG),)),
    "params cut within lengths": Case(get(values=LONG, step=3, padding=5), (Answer(1, LONG),)),
    "no params at all": Case(begin(1) + record(PARAMS, 1) + record(STDIN, 1), (Answer(1, {}),)),
    "a repeated name": Case(begin(1) + record(PARAMS, 1, encode([("A", "1"), ("A", "2")])) + record(PARAMS, 1)
                            + record(STDIN, 1), (Answer(1, {"A": "2"}),)),
    "params after their end are ignored": Case(
        begin(1) + params(ENV) + record(PARAMS, 1, encode({"LATE": "1"})) + record(STDIN, 1), (Answer(1),)),
    "as much params as allowed": Case(
        get(values={"A": "x" * (MAX_PARAMS - 6)}), (Answer(1, {"A": "x" * (MAX_PARAMS - 6)}),)),
    "too much params": Case(get(values={"A": "x" * (MAX_PARAMS - 5)}), (Answer(1, {}, b"", False, 431),)),
    "too much params in small records, and the next request": Case(
        begin(1, RESPONDER, KEEP_CONN) + record(PARAMS, 1, bytes(1000)) * 9 + record(PARAMS, 1) + record(STDIN, 1)
        + KEPT, (Answer(1, {}, b"", False, 431), Answer(1)), True),
    "too much params and a body over MaxPostSize": Case(
        begin(1) + record(PARAMS, 1, bytes(MAX_PARAMS + 1)) + record(PARAMS, 1)
        + record(STDIN, 1, bytes(50_001)) * 2 + record(STDIN, 1), (Answer(1, {}, b"", False, 431),)),
    "as many params as allowed": Case(get(values=MANY), (Answer(1, MANY),)),
    "too many params": Case(get(values={**MANY, "one": "more"}),
                            (Answer(1, {**MANY, "one": "more"}, b"", False, 431),)),
    "many params that lie about their length": Case(
        begin(1) + record(PARAMS, 1, encode(MANY) + b"\x09\x00x") + record(PARAMS, 1) + record(STDIN, 1), (), False,
        "longer than"),
    # 5.3: streams
    "a body": Case(post(b"body"), (Answer(1, ENV, b"body"),)),
    "a body in records of one byte": Case(post(b"0123456789", step=1), (Answer(1, ENV, b"0123456789"),)),
    "stdin ends before params": Case(
        begin(1) + record(STDIN, 1, b"early") + record(STDIN, 1) + record(PARAMS, 1, encode(ENV)) + record(PARAMS, 1),
        (Answer(1, ENV, b"early"),)),
    "stdin between params": Case(
        begin(1) + record(PARAMS, 1, encode(ENV)[:5]) + record(STDIN, 1, b"a") + record(PARAMS, 1, encode(ENV)[5:])
        + record(STDIN, 1, b"b") + record(PARAMS, 1) + record(STDIN, 1), (Answer(1, ENV, b"ab"),)),
    "stdin after its end is ignored": Case(
        begin(1) + record(STDIN, 1, b"a") + record(STDIN, 1) + record(STDIN, 1, b"b") + params(ENV),
        (Answer(1, ENV, b"a"),)),
    "a body as large as memory is kept in memory": Case(
        post(bytes(BODY_MEMORY)), (Answer(1, ENV, bytes(BODY_MEMORY)),)),
    "a larger body goes to disk": Case(post(BIG, step=8192), (Answer(1, ENV, BIG, True),)),
    "a body of one record that is larger": Case(post(BIG, step=65535), (Answer(1, ENV, BIG, True),)),
    "large records with padding": Case(
        begin(1) + params(ENV) + record(STDIN, 1, BIG[:4096], 7) + record(STDIN, 1, BIG[4096:4097], 255)
        + record(STDIN, 1, BIG[4097:9000], 1) + record(STDIN, 1), (Answer(1, ENV, BIG[:9000]),)),
    "large records of two requests in turns": Case(
        begin(1, RESPONDER, KEEP_CONN) + begin(2, RESPONDER, KEEP_CONN) + params(ENV, 2) + params(ENV, 1)
        + record(STDIN, 1, BIG[:4100], 4) + record(STDIN, 2, BIG[100:4300]) + record(STDIN, 1, BIG[4100:9000])
        + record(STDIN, 2, BIG[4300:4301]) + record(STDIN, 2) + record(STDIN, 1),
        (Answer(2, ENV, BIG[100:4301]), Answer(1, ENV, BIG[:9000])), True),
    "large records of unknown requests, and after the end, are ignored": Case(
        record(STDIN, 9, BIG[:5000], 3) + begin(1) + record(STDIN, 1, b"a") + record(STDIN, 1)
        + record(STDIN, 1, BIG[:4096]) + params(ENV), (Answer(1, ENV, b"a"),)),
    "a record after a large one has a wrong version": Case(
        begin(1) + params(ENV) + record(STDIN, 1, BIG[:5000], 5) + b"\2", (), False, "record version 2"),
    "as large a body as allowed": Case(post(bytes(MAX_BODY)), (Answer(1, ENV, bytes(MAX_BODY), True),)),
    "a body over MaxPostSize": Case(post(bytes(MAX_BODY + 1)), (Answer(1, ENV, b"", False, 413),)),
    "a body far over MaxPostSize is read to its end": Case(
        post(bytes(3 * MAX_BODY), flags=KEEP_CONN) + get(), (Answer(1, ENV, b"", False, 413), Answer(1))),
    "data is for filters": Case(
        begin(1) + params(ENV) + record(DATA, 1, b"data") + record(DATA, 1) + record(STDIN, 1), (Answer(1),)),
    # 5.4
    "a request is aborted": Case(
        begin(1, RESPONDER, KEEP_CONN) + params(ENV) + record(ABORT_REQUEST, 1) + record(STDIN, 1),
        (Ended(1, 1, 0),), True),
    "a request with a body on disk is aborted": Case(post(BIG, flags=KEEP_CONN)[:-8] + record(ABORT_REQUEST, 1),
                                                     (Ended(1, 1, 0),), True),
    "aborted without keep": Case(begin(1) + record(ABORT_REQUEST, 1), (Ended(1, 1, 0),)),
    "one of two is aborted": Case(
        begin(1) + begin(2) + record(ABORT_REQUEST, 2) + params(ENV) + record(STDIN, 1), (Ended(2, 1, 0), Answer(1))),
    "an unknown request is aborted": Case(record(ABORT_REQUEST, 9) + get(), (Answer(1),)),
    "records of unknown requests are ignored": Case(
        record(PARAMS, 9, b"\x01") + record(STDIN, 9, b"x") + record(STDIN, 9) + get(), (Answer(1),)),
    # 4.1, 4.2: management records
    "values are asked for": Case(
        names("FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"),
        (Values({"FCGI_MAX_CONNS": "42", "FCGI_MAX_REQS": "42", "FCGI_MPXS_CONNS": "1"}),), True),
    "only known values are answered": Case(
        names("FCGI_MAX_REQS", "FCGI_NO_SUCH", "", "\xff\udcfe"), (Values({"FCGI_MAX_REQS": "42"}),), True),
    "no values are asked for": Case(record(GET_VALUES, 0), (Values({}),), True),
    "values within a request": Case(
        begin(1) + names("FCGI_MPXS_CONNS") + params(ENV) + record(STDIN, 1),
        (Values({"FCGI_MPXS_CONNS": "1"}), Answer(1))),
    "values that are cut off": Case(record(GET_VALUES, 0, b"\x0e\x00FCGI"), (), False, "connection closed"),
    "an unknown management record": Case(record(99, 0, b"what") + KEPT, (Unknown(99), Answer(1)), True),
    "each unknown management record is answered": Case(
        record(12, 0) + record(255, 0), (Unknown(12), Unknown(255)), True),
    "an unknown record of a request is ignored": Case(
        begin(1) + record(99, 1, b"what") + params(ENV) + record(77, 5) + record(STDIN, 1), (Answer(1),)),
    # 5.1, 6: roles
    "the authorizer role": Case(
        begin(1, AUTHORIZER, KEEP_CONN) + params(ENV) + record(STDIN, 1), (Answer(1, ENV, b"authorizer"),), True),
    "the authorizer role, closed": Case(ask() + record(STDIN, 1), (Answer(1, ENV, b"authorizer"),)),
    # 6.3: it gets no STDIN; lighttpd does not end the stream either when the client has sent a body.
    "an authorizer is asked when its params are whole": Case(ask(), (Answer(1, ENV, b"authorizer"),)),
    "an authorizer is asked on a kept connection": Case(
        ask(1, KEEP_CONN) + ask(2, KEEP_CONN) + KEPT, (Answer(1, ENV, b"authorizer"), Answer(2, ENV, b"authorizer"),
                                                       Answer(1)), True),
    "an authorizer has no body": Case(
        begin(1, AUTHORIZER, KEEP_CONN) + record(STDIN, 1, bytes(MAX_BODY + 1)[:65535]) * 2 + record(STDIN, 1)
        + params(ENV) + KEPT, (Answer(1, ENV, b"authorizer"), Answer(1)), True),
    "too much params for an authorizer": Case(
        begin(1, AUTHORIZER) + params({"A": "x" * (MAX_PARAMS - 5)}), (Answer(1, {}, b"authorizer", False, 431),)),
    "the filter role in one piece": Case(
        begin(1, FILTER, KEEP_CONN) + params(ENV) + record(STDIN, 1) + get(), (Ended(1, 0, UNKNOWN_ROLE), Answer(1))),
    "a role nobody knows": Case(begin(1, 999), (Ended(1, 0, UNKNOWN_ROLE),)),
    # what ends a connection
    "another version": Case(record(BEGIN_REQUEST, 1, b"\0\1\0\0\0\0\0\0", version=2), (), False, "version 2"),
    "another version after a request": Case(KEPT + record(STDIN, 1, version=0), (Answer(1),), False, "version 0"),
    "another version within a request": Case(
        begin(1) + params(ENV) + record(STDIN, 1, version=9), (), False, "version 9"),
    "http": Case(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", (), False, "version 71"),
    "a short begin": Case(record(BEGIN_REQUEST, 1, b"\0\1\0"), (), False, "BEGIN_REQUEST with 3 bytes"),
    "a long begin": Case(record(BEGIN_REQUEST, 1, bytes(9)), (), False, "BEGIN_REQUEST with 9 bytes"),
    "a begin with id 0": Case(begin(0), (), False, "request id 0"),
    "an id begun twice": Case(begin(7) + begin(7), (), False, "request id 7 was begun twice"),
}
# Input that ends too early; the peer closes after it.
TRUNCATED = {
    "within a header": begin(1)[:3],
    "within a content": begin(1)[:10],
    "within padding": record(PARAMS, 1, b"", 9)[:-1],
    "before params": begin(1),
    "before the end of params": begin(1) + record(PARAMS, 1, encode(ENV)),
    "before the end of stdin": post(b"body")[:-8],
    "before the end of a body on disk": post(BIG)[:-8],
    "after a request that was answered": KEPT + begin(2),
}


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


class Line:
    """A server, one connection of it, and the other end, which a test holds."""

    def __init__(self, respond=None, **limits):
        values = dict(max_params=MAX_PARAMS, max_body=MAX_BODY, body_memory=BODY_MEMORY, temp_dir=None,
                      send_memory=1 << 24, max_pairs=MAX_PAIRS)
        values.update(limits)
        self.log, logger = Lines(), logging.Logger("conformance", logging.INFO)
        logger.addHandler(self.log)
        self.bodies = []
        self.server = Server(respond or self.echo, Limits(**values), logger, CONNECTIONS, CONNECTIONS,
                             self.authorize)
        ours, self.peer = socket.socketpair()
        # The answers of a whole case must fit, because nobody reads before the end.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 21)
        self.peer.settimeout(10)
        self.connection = Connection(ours, self.server)
        self.connection.seat = Seat(0)

    def echo(self, values, body, problem, seat):
        on_disk = not isinstance(body, bytes)
        if on_disk:
            self.bodies.append(body)
            body = body.read()
        said = {"values": [[k.decode("latin-1"), v.decode("latin-1")] for k, v in decode(values).items()],
                "size": len(body), "sum": hashlib.sha256(body).hexdigest(), "on_disk": on_disk,
                "problem": problem}
        return Reply(b"Content-Type: application/json\r\n", b"\r\n" + json.dumps(said).encode())

    def authorize(self, values, body, problem, seat):
        assert body == b""
        return self.echo(values, b"authorizer", problem, seat)

    def feed(self, data, step=0):
        """Send in pieces; the server takes each before the next comes."""
        for at in range(0, len(data), step or 65536):
            if not self.connection.open:
                return
            self.peer.sendall(data[at:at + (step or 65536)])
            self.take()

    def take(self):
        while self.connection.open and self.connection.receive():
            pass

    def received(self):
        """All records that came back; waits for the end if the connection was closed."""
        data = b""
        self.peer.setblocking(not self.connection.open)
        try:
            while True:
                piece = self.peer.recv(1 << 20)
                if not piece:
                    break
                data += piece
        except (BlockingIOError, ConnectionResetError):
            pass
        found, position = [], 0
        while position < len(data):
            record = records.cut(data, position)
            assert record is not None, "%d bytes are left" % (len(data) - position)
            assert record.version == 1
            found.append(record)
            position = record.end
        return found

    def close(self):
        self.connection.close()
        self.peer.close()


@pytest.fixture
def line():
    made = []

    def make(*arguments, **limits):
        made.append(Line(*arguments, **limits))
        return made[-1]
    yield make
    for one in made:
        one.close()


def understood(found):
    """Records of a server as answers; fails where streams are not as the specification wants them."""
    answers, stdout, ended = [], {}, {}
    for record in found:
        if record.type == GET_VALUES_RESULT:
            assert record.request_id == 0
            answers.append(Values({k.decode(): v.decode() for k, v in decode(record.content).items()}))
        elif record.type == UNKNOWN_TYPE:
            assert record.request_id == 0 and record.content[1:] == bytes(7)
            answers.append(Unknown(record.content[0]))
        elif record.type == STDOUT:
            assert not ended.get(record.request_id), "output after the end of the stream"
            ended[record.request_id] = not record.content
            stdout.setdefault(record.request_id, []).append(record.content)
        else:
            assert record.type == END_REQUEST, record
            app_status, protocol_status = struct.unpack("!LB3x", record.content)
            output = b"".join(stdout.pop(record.request_id, []))
            if output:
                assert ended.pop(record.request_id), "STDOUT was not ended"
                assert (app_status, protocol_status) == (0, 0)
                answers.append((record.request_id, json.loads(output.partition(b"\r\n\r\n")[2])))
            else:
                answers.append(Ended(record.request_id, app_status, protocol_status))
    assert not stdout, "a request was not ended"
    return answers


def expected(answer):
    if isinstance(answer, Answer):
        return answer.request_id, {
            "values": [list(item) for item in answer.values.items()], "size": len(answer.body),
            "sum": hashlib.sha256(answer.body).hexdigest(), "on_disk": answer.on_disk, "problem": answer.problem}
    return answer


@pytest.mark.parametrize("step", [0, 1, 7], ids=["whole", "byte by byte", "in sevens"])
@pytest.mark.parametrize("name", CASES)
def test_the_corpus(line, name, step):
    case, made = CASES[name], line()
    # A large body byte by byte shows nothing that a small one does not, and takes seconds.
    step = 4093 if step and len(case.sent) > 40_000 else step
    made.feed(case.sent, step)
    assert understood(made.received()) == [expected(answer) for answer in case.answers]
    assert made.connection.open == case.stays
    assert [case.log in line for line in made.log.lines] == ([True] if case.log else []), made.log.lines
    assert all(body.closed for body in made.bodies), "a temporary file stays open"


@pytest.mark.parametrize("step", [0, 1, 7], ids=["whole", "byte by byte", "in sevens"])
@pytest.mark.parametrize("name", TRUNCATED)
def test_input_that_is_cut_off_closes_the_connection_with_one_line_in_the_log(line, name, step):
    made = line()
    made.feed(TRUNCATED[name], step if len(TRUNCATED[name]) < 40_000 else 0)
    assert made.connection.open and not made.log.lines
    made.peer.shutdown(socket.SHUT_WR)
    made.take()
    assert not made.connection.open
    assert len(made.log.lines) == 1 and "middle of a request" in made.log.lines[0]
    assert [answer for answer in understood(made.received())] == (
        [expected(Answer(1))] if name.startswith("after") else [])


@pytest.mark.parametrize("sent", [b"", KEPT], ids=["never used", "between requests"])
def test_a_connection_that_ends_between_requests_is_closed_without_a_word(line, sent):
    made = line()
    made.feed(sent)
    made.peer.shutdown(socket.SHUT_WR)
    made.take()
    assert not made.connection.open and not made.log.lines


@pytest.mark.parametrize("flags", [0, KEEP_CONN])
def test_no_request_to_an_authorizer_ends_without_output_which_lighttpd_takes_for_allowed(line, flags):
    made = line()
    made.feed(b"".join(begin(number, RESPONDER, KEEP_CONN) for number in range(1, MAX_INTERLEAVED + 1)))
    made.feed(ask(999, flags))
    found = made.received()
    # The stream is ended before the request is (section 3.3); a fuzzer found that it was not.
    assert [(record.type, record.request_id) for record in found] == [(STDOUT, 999)] * 2 + [(END_REQUEST, 999)]
    assert found[0].content.startswith(b"Status: 503 ") and not found[1].content
    assert struct.unpack("!LB3x", found[2].content) == (0, OVERLOADED)
    assert made.connection.open


def test_a_server_without_an_authorizer_denies(line):
    made = line()
    made.connection.server = Server(made.echo, made.server.limits, made.server.logger, 1, 1)
    made.feed(ask())
    assert made.received()[0].content.startswith(b"Status: 503 ")


def test_a_broken_connection_harms_no_other(line):
    good, bad = line(), line()
    good.feed(KEPT + begin(2, RESPONDER, KEEP_CONN))
    bad.feed(begin(1) + b"\x02nonsense")
    good.feed(params(ENV, 2) + record(STDIN, 2))
    assert understood(good.received()) == [expected(Answer(1)), expected(Answer(2))]
    assert good.connection.open and not bad.connection.open


@pytest.mark.parametrize("size", [0, 1, 7, 8, 65_500, 65_528, 65_535, 65_536, 70_000, 1 << 20])
def test_replies_of_any_size_arrive_whole(line, size):
    content = bytes(index % 253 for index in range(size))
    made = line(lambda *request: Reply(b"Content-Type: x/y\r\n", b"\r\n" + content, b"oops" if size % 2 else b""))
    made.feed(get())
    found = made.received()
    output = b"".join(record.content for record in found if record.type == STDOUT)
    assert output == b"Content-Type: x/y\r\n\r\n" + content
    assert b"".join(record.content for record in found if record.type == STDERR) == (b"oops" if size % 2 else b"")
    assert [record.type for record in found][-2:] == [STDOUT, END_REQUEST] and found[-2].content == b""
    assert not made.connection.open


def test_the_connection_closes_after_the_request_when_the_server_drains(line):
    made = line()
    made.feed(KEPT)
    made.server.draining = True
    made.feed(get(2, KEEP_CONN))
    assert understood(made.received()) == [expected(Answer(1)), expected(Answer(2))]
    assert not made.connection.open


def test_a_fault_of_the_handler_closes_the_connection_and_is_not_hidden(line):
    def fail(*request):
        raise ZeroDivisionError
    for sent in (get(), post(b"x"), post(BIG)):
        made = line(fail)
        with pytest.raises(ZeroDivisionError):
            made.feed(sent)
        assert not made.connection.open


def test_a_protocol_error_found_by_the_handler_closes_the_connection(line):
    def refuse(*request):
        raise ProtocolError("params are cut off")
    made = line(refuse)
    made.feed(get())
    assert made.received() == [] and made.log.lines == ["connection closed: params are cut off"]


def test_a_peer_that_leaves_before_its_answer_is_not_an_error(line):
    made = line()
    made.peer.sendall(get())
    made.peer.close()
    made.take()
    assert not made.connection.open
    assert all("not delivered" in text for text in made.log.lines)


def test_params_without_end_close_the_connection(line):
    made = line()
    made.feed(begin(1))
    piece = record(PARAMS, 1, bytes(65535)) * 16
    for _ in range(80):
        if not made.connection.open:
            break
        made.feed(piece)
    assert not made.connection.open
    assert len(made.log.lines) == 1 and "MaxParamsSize" in made.log.lines[0]


def test_a_full_disk_is_507_and_the_connection_goes_on(line, tmp_path):
    made = line(temp_dir=str(tmp_path))
    # Python ignores SIGXFSZ, so a write beyond the limit fails as on a full disk.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        made.feed(post(BIG, flags=KEEP_CONN))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    made.feed(KEPT)
    assert understood(made.received()) == [expected(Answer(1, ENV, b"", False, 507)), expected(Answer(1))]
    assert len(made.log.lines) == 1 and "TempDir" in made.log.lines[0]


def test_bodies_that_arrive_share_their_memory(line):
    first, second = line(body_memory=MAX_BODY, receive_memory=150_000), line(body_memory=MAX_BODY)
    second.server.limits, second.server.bodies = first.server.limits, first.server.bodies
    body = bytes(80_000)
    first.feed(post(body)[:-8])
    second.feed(post(body))
    assert understood(second.received()) == [expected(Answer(1, ENV, body, True))]
    first.feed(post(body)[-8:])
    assert understood(first.received()) == [expected(Answer(1, ENV, body))]
    assert not first.server.bodies


def test_a_connection_that_ends_gives_the_memory_of_its_body_back(line):
    made = line(body_memory=MAX_BODY)
    made.feed(post(bytes(80_000))[:-8])
    assert len(made.server.bodies) == 1
    made.connection.close()
    assert not made.server.bodies


def test_a_temp_dir_that_is_missing_is_507(line, tmp_path):
    made = line(temp_dir=str(tmp_path / "missing"))
    made.feed(post(BIG))
    assert understood(made.received()) == [expected(Answer(1, ENV, b"", False, 507))]


def test_bodies_on_disk_have_no_name(line, tmp_path):
    made = line(temp_dir=str(tmp_path))
    made.feed(post(BIG)[:-8])
    assert list(tmp_path.iterdir()) == []


def test_a_refused_body_without_end_closes_the_connection(line):
    made = line(max_body=10)
    made.feed(begin(1) + params(ENV))
    piece = pack(STDIN, 1, bytes(65528)) * 16
    for _ in range(80):
        if not made.connection.open:
            break
        made.feed(piece)
    assert not made.connection.open
    assert len(made.log.lines) == 1 and "MaxPostSize" in made.log.lines[0]
