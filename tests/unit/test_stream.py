"""stream.py by itself, over a socket pair: the host functions that the prelude calls."""
from __future__ import annotations

import os
import socket
import threading
from types import SimpleNamespace

import pytest

from luafcgid2 import delivery, records
from luafcgid2.delivery import cut_off
from luafcgid2.seat import Seat
from luafcgid2.stream import Streams

HEAD = b"Status: 201 Created\r\n\r\n"


class Thread:
    """The seat of this thread, which answers request 7 over one end of a socket pair."""

    def __init__(self, timeout=0.0):
        self.seat = Seat(0)
        self.seat.ident, self.seat.state, self.seat.request_id = threading.get_ident(), object(), 7
        self.seat.sock, self.peer = socket.socketpair()
        self.streams = Streams([Seat(1), self.seat], timeout)

    def received(self):
        """(type, request id, content) of the records that have come."""
        data, position, found = self.peer.recv(1 << 20, socket.MSG_DONTWAIT), 0, []
        while position < len(data):
            record = records.cut(data, position)
            found.append((record.type, record.request_id, record.content))
            position = record.end
        return found


@pytest.fixture
def thread():
    made = Thread()
    yield made
    made.streams.close_file()
    made.seat.sock.close()
    made.peer.close()


def test_the_first_piece_says_status_and_where_the_body_begins(thread):
    assert thread.streams.push(HEAD + b"body") is None
    assert thread.streams.push(b"more") is None
    assert (thread.seat.stream.status, thread.seat.stream.body) == (201, 8)
    assert thread.received() == [(records.STDOUT, 7, HEAD + b"body"), (records.STDOUT, 7, b"more")]
    assert thread.seat.bytes_out == len(HEAD) + 8


def test_a_large_piece_becomes_several_records(thread):
    thread.seat.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    data = HEAD + bytes(records.MAX_CONTENT)
    assert thread.streams.push(data) is None
    assert [len(content) for _, _, content in thread.received()] == [records.MAX_CONTENT, len(HEAD)]


def test_nothing_is_ready_without_a_connection_or_a_running_script(thread):
    assert thread.streams.ready()
    for name in ("sock", "state"):
        value = getattr(thread.seat, name)
        setattr(thread.seat, name, None)
        assert not thread.streams.ready(), name
        setattr(thread.seat, name, value)
    thread.seat.ident += 1
    assert not thread.streams.ready()


def test_a_peer_that_has_left_is_told_and_stays_gone(thread):
    assert thread.streams.push(HEAD) is None
    thread.peer.close()
    problem = thread.streams.push(b"x")
    assert problem.startswith(b"the client has gone away (")
    assert thread.streams.push(b"y") == problem and thread.seat.stream.gone


def test_a_peer_that_takes_nothing_is_gone_after_the_time_out():
    thread = Thread(timeout=0.3)
    with thread.seat.sock, thread.peer:
        problem = thread.streams.push(HEAD + bytes(1 << 24))
        assert b"it took nothing for SendTimeout, 0.3 s" in problem and thread.seat.stream.gone
        # Who waits for a client is no script that hangs.
        assert thread.seat.started > 0


@pytest.mark.parametrize("name, kind", [
    ("a.css", b"text/css"), ("a.html", b"text/html"), ("a.tar.gz", b"application/octet-stream"),
    ("a", b"application/octet-stream"), ("a.unknown-kind", b"application/octet-stream")])
def test_the_type_is_that_of_the_name(thread, tmp_path, name, kind):
    (tmp_path / name).write_bytes(b"12345")
    assert thread.streams.open_file(os.fsencode(tmp_path / name)) == (5, kind)


def test_a_file_is_sent_to_the_length_that_was_told(thread, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    size, _ = thread.streams.open_file(os.fsencode(path))
    thread.streams.push(HEAD)
    with open(path, "ab") as file:
        file.write(b"678")
    assert thread.streams.send_file(size) is None
    assert thread.received()[1:] == [(records.STDOUT, 7, b"12345")]


def test_a_file_that_became_shorter_leaves_an_answer_that_cannot_be_completed(thread, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    size, _ = thread.streams.open_file(os.fsencode(path))
    thread.streams.push(HEAD)
    path.write_bytes(b"1")
    assert thread.streams.send_file(size) == b"the file has become shorter while it was sent"
    assert thread.seat.stream.problem and not thread.seat.stream.gone
    assert thread.streams.push(b"x") == thread.seat.stream.problem


def test_a_web_server_gets_the_time_to_begin_an_answer_that_is_cut_off(thread, monkeypatch):
    pauses = []

    def sleep(seconds):
        with pytest.raises(BlockingIOError):
            thread.received()
        pauses.append(seconds)
    monkeypatch.setattr(delivery, "time", SimpleNamespace(sleep=sleep))
    cut_off(thread.seat.sock, 7, BrokenPipeError())
    assert not pauses
    cut_off(thread.seat.sock, 7, ConnectionAbortedError())
    assert pauses == [delivery.PAUSE] and thread.received() == [(records.ABORT_REQUEST, 7, b"")]


def test_only_an_answer_that_was_begun_is_cut_off(thread):
    cut_off(thread.seat.sock, 7, BrokenPipeError())
    cut_off(thread.seat.sock, 7, ConnectionAbortedError())
    assert thread.received() == [(records.ABORT_REQUEST, 7, b"")]
    thread.peer.close()
    cut_off(thread.seat.sock, 7, ConnectionAbortedError())
