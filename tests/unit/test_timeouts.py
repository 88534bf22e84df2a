"""Who holds a connection and for how long: the rules of HeaderTimeout, ReadTimeout and SendTimeout, with no clock."""
from __future__ import annotations

import logging
import socket
import threading
from math import inf

import pytest
from test_conformance import ENV, KEPT, Lines, get, params, post, record

from luafcgid2.body import Limits
from luafcgid2.complaints import Complaints
from luafcgid2.fcgi import Server
from luafcgid2.records import KEEP_CONN, PARAMS, STDIN, begin
from luafcgid2.seat import Seat
from luafcgid2.timeouts import CHECK_PAUSE, PROGRESS, Timeouts
from luafcgid2.watched import Counted, Watched


class Visit:
    """One connection at times that the test says."""

    def __init__(self, header=10, read=20, send=30, kind=Watched, size=10, max_requests=0):
        self.log, logger = Lines(), logging.Logger("timeouts", logging.INFO)
        logger.addHandler(self.log)
        limits = Limits(8192, 1 << 20, 1 << 20, None, 1 << 24, 1000, max_requests)
        server = Server(lambda *request: b"X: 1\r\n\r\n" + bytes(size), limits, logger, 1, 1)
        self.ours, self.peer = socket.socketpair()
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.connection = kind(self.ours, server, {}, Seat(0))
        self.connection.lock = threading.Lock()
        self.timeouts = Timeouts(header, read, send, 9, Complaints(logger))

    def at(self, now, data=b""):
        """`data` comes, and is looked at, at `now`; whether the connection stays within the time-outs."""
        if data:
            self.peer.sendall(data)
        while self.connection.open and self.connection.receive():
            pass
        if self.connection.open and (self.connection.partial or not self.connection.served):
            self.timeouts.wait_for(self.connection, now)
        else:
            self.timeouts.waiting.discard(self.connection)

    def check(self, now):
        """Whether it is still open after a look at `now`."""
        self.timeouts.close_overdue(now)
        return self.connection.open

    def close(self):
        self.connection.close()
        self.peer.close()


@pytest.fixture
def visit():
    made = []

    def make(**options):
        made.append(Visit(**options))
        return made[-1]
    yield make
    for one in made:
        one.close()


def test_a_connection_that_never_says_anything_is_closed(visit):
    made = visit()
    made.at(100)
    assert made.check(109.9) and not made.check(110.5)
    assert "HeaderTimeout (10 s)" in made.log.lines[0]


def test_a_trickle_of_params_is_bounded_from_its_first_byte_on(visit):
    made = visit()
    for number, byte in enumerate(get()[:50]):
        if not made.check(100 + number):
            break
        made.at(100 + number, bytes((byte,)))
    assert not made.connection.open and number == 10
    assert made.log.lines == ["connection closed: the params of a request were not whole after HeaderTimeout (10 s)"]


def test_a_trickle_on_a_kept_connection_is_bounded_from_its_request_on(visit):
    made = visit()
    made.at(100, KEPT)
    assert made.check(900)
    made.at(1000, KEPT[:10])
    made.at(1009, KEPT[10:12])
    assert made.check(1009)
    made.at(1009.5, KEPT[12:])
    assert made.check(2000), "between requests there is no limit"
    made.at(3000, KEPT[:10])
    assert made.check(3009) and not made.check(3010.5)


def test_the_body_has_more_time_than_the_params_while_it_moves(visit):
    made = visit()
    made.at(100, begin(1, flags=KEEP_CONN) + params(ENV))
    for now in range(110, 300, 15):
        made.at(now, record(STDIN, 1, bytes(PROGRESS)))
        assert made.check(now + 14)
    made.at(300, record(STDIN, 1))
    assert made.connection.served and not made.timeouts.waiting


def test_a_body_that_stops_is_closed_after_read_timeout(visit):
    made = visit()
    made.at(100, post(bytes(5000))[:-8])
    assert made.check(119) and not made.check(120.5)
    assert made.log.lines == ["connection closed: nothing came for ReadTimeout (20 s) in the middle of a request"]


def test_a_body_that_trickles_is_closed_after_read_timeout(visit):
    made = visit()
    made.at(100, begin(1) + params(ENV) + record(STDIN, 1, b"x"))
    for now in range(101, 120):
        made.at(now, record(STDIN, 1, b"x"))
        assert made.check(now)
    assert not made.check(120.5)
    assert made.log.lines == ["connection closed: fewer than 1024 bytes came in ReadTimeout (20 s)"]


def test_a_request_that_begins_behind_a_long_body_has_its_own_time(visit):
    made = visit()
    made.at(100, begin(1, flags=KEEP_CONN) + params(ENV))
    made.at(115, record(STDIN, 1, bytes(5000)))
    made.at(130, record(STDIN, 1) + KEPT[:30])
    assert made.check(139) and not made.check(140.5)


def test_one_of_two_requests_that_trickles_is_bounded(visit):
    made = visit()
    made.at(100, begin(1, flags=KEEP_CONN) + params(ENV) + begin(2, flags=KEEP_CONN))
    made.at(105, record(STDIN, 1, bytes(5000)) + record(PARAMS, 2, b"\x01"))
    assert made.check(109) and not made.check(110.5)


def test_a_reader_that_takes_nothing_is_closed_after_send_timeout(visit):
    made = visit(size=1 << 20)
    made.at(100, KEPT)
    assert made.check(129.9) and not made.check(130.5)
    assert made.log.lines == [
        "connection closed: the web server took nothing of an answer for SendTimeout (30 s)"]


def test_a_reader_that_takes_something_now_and_then_stays(visit):
    made = visit(size=1 << 18)
    made.at(100, KEPT)
    now = 100
    while made.connection.outbox is not None:
        made.peer.recv(8192)
        # An event of another kind is no progress.
        made.at(now)
        assert made.check(now + 29)
        now += 29
    assert made.check(now + 1000) and not made.timeouts.waiting


def test_what_comes_after_a_waiting_answer_has_its_own_time(visit):
    made = visit(size=1 << 18)
    made.at(100, KEPT)
    made.at(100, KEPT[:10])
    made.peer.setblocking(False)
    while made.connection.outbox is not None:
        made.peer.recv(1 << 20)
        made.at(125)
    made.at(126)
    assert made.connection.partial
    assert made.check(134) and not made.check(136.5)


def test_without_time_outs_nothing_is_waited_for(visit):
    made = visit(header=0, read=0, send=0)
    made.at(100, KEPT[:30])
    assert not made.timeouts.waiting and made.connection.deadline == inf


def test_bytes_that_nobody_has_read_yet_are_no_silence(visit):
    made = visit()
    made.at(100, KEPT[:30])
    made.peer.sendall(KEPT[30:])
    assert made.check(500), "no thread had time for it"
    made.at(500)
    assert made.connection.served


def test_a_thousand_connections_that_are_closed_at_once_are_one_line(visit):
    made = visit()
    made.at(100)
    others = []
    for _ in range(3):
        one = visit()
        one.timeouts = made.timeouts
        one.at(100)
        others.append(one)
    assert not made.check(200) and not any(one.connection.open for one in others)
    assert made.log.lines == ["4 connections closed: the params of a request were not whole after HeaderTimeout (10 s)"]


def test_a_look_at_a_thousand_connections_is_taken_a_few_times_a_second(visit):
    made = visit()
    made.at(100)
    made.check(109.99)
    assert made.check(110 + CHECK_PAUSE / 2)
    assert not made.check(111)


def test_a_connection_is_closed_after_max_requests_per_connection(visit):
    made = visit(kind=Counted, max_requests=3)
    made.at(100, KEPT * 2)
    assert made.connection.open
    made.at(100, KEPT)
    assert not made.connection.open
