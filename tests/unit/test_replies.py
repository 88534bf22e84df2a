"""A reply as records: STDERR before the end of STDOUT, both ended, END_REQUEST last, nothing lost or copied."""
from __future__ import annotations

import select
import socket
import threading

import pytest

from luafcgid2 import records
from luafcgid2.replies import STDERR_LIMIT, Reply, frame
from luafcgid2.sending import IOV_MAX, Outbox, send_now

HEAD = b"Status: 200 OK\r\nContent-Type: text/html\r\n"
SIZES = (0, 1, 65_486, 65_487, 65_488, 65_535, 65_536, 70_000, 131_056, 1 << 20)


def cut_all(data):
    found, position = [], 0
    while position < len(data):
        record = records.cut(data, position)
        assert record is not None, "%d bytes are left" % (len(data) - position)
        found.append(record)
        position = record.end
    return found


def streams(found):
    """kind -> content, after a check of the order that the specification asks for."""
    kinds = [record.type for record in found]
    assert kinds[-1] == records.END_REQUEST and kinds.count(records.END_REQUEST) == 1
    contents = {}
    for kind in (records.STDOUT, records.STDERR):
        parts = [record.content for record in found if record.type == kind]
        if parts:
            assert parts[-1] == b"" and b"" not in parts[:-1], "a stream is ended once, by an empty record"
        contents[kind] = b"".join(parts)
    assert records.STDOUT in kinds
    if records.STDERR in kinds:
        last_stdout = len(kinds) - 1 - kinds[::-1].index(records.STDOUT)
        assert kinds.index(records.STDERR) < last_stdout
    return contents


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stderr", [b"", b"traceback"])
@pytest.mark.parametrize("request_id", [1, 2, 65535])
def test_a_reply_of_any_size_is_framed_right(size, stderr, request_id):
    rest = b"\r\n" + bytes(index % 251 for index in range(size))
    found = cut_all(b"".join(frame(request_id, Reply(HEAD, rest, stderr))))
    assert {(record.version, record.request_id) for record in found} == {(1, request_id)}
    contents = streams(found)
    assert contents[records.STDOUT] == HEAD + rest
    assert contents[records.STDERR] == stderr
    assert found[-1].content == bytes(8), "the application's and the protocol's status are 0"


def test_a_small_reply_is_one_buffer():
    assert len(frame(1, Reply(HEAD, b"\r\nhello", b"and an error"))) == 1


def test_a_large_body_is_not_copied():
    rest = bytes(1 << 20)
    views = [piece for piece in frame(1, Reply(HEAD, rest)) if isinstance(piece, memoryview) and piece.obj is rest]
    assert sum(len(view) for view in views) == len(rest)


@pytest.mark.parametrize("sizes", [(1,), (65_528, 65_528), (65_536,) * 5, (1, 200_000, 0, 3), (40_000,) * 9, (0, 0)])
def test_a_body_in_parts_fills_the_records(sizes):
    parts = tuple(bytes([65 + number]) * size for number, size in enumerate(sizes))
    reply = Reply(HEAD + b"\r\n", parts)
    found = cut_all(b"".join(frame(1, reply)))
    assert streams(found)[records.STDOUT] == HEAD + b"\r\n" + b"".join(parts)
    lengths = [len(record.content) for record in found if record.type == records.STDOUT]
    assert all(length == records.MAX_CONTENT for length in lengths[:-2])
    assert reply.size == len(HEAD) + 2 + sum(sizes)


@pytest.mark.parametrize("size", [65_527, 65_528, 65_529, 200_000])
def test_headers_longer_than_a_record_are_split(size):
    contents = streams(cut_all(b"".join(frame(1, Reply(b"h" * size, b"rest")))))
    assert contents[records.STDOUT] == b"h" * size + b"rest"


def test_stderr_is_cut_to_what_a_web_server_takes():
    contents = streams(cut_all(b"".join(frame(1, Reply(HEAD, b"\r\n", b"e" * 100_000)))))
    assert contents[records.STDERR] == b"e" * STDERR_LIMIT


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def read_all(sock, into):
    while True:
        data = sock.recv(65536)
        if not data:
            return
        into.append(data)


def send_all(sock, buffers):
    """As a connection does: what the socket takes at once, then the rest each time there is room."""
    left = send_now(sock, buffers)
    if not left:
        return
    box = Outbox(left, False)
    room = select.poll()
    room.register(sock, select.POLLOUT)
    while not box.send(sock):
        assert room.poll(30000), "there is no room for 30 seconds"


@pytest.mark.parametrize("size", SIZES + (5 << 20,))
def test_every_byte_is_sent_in_order(pair, size):
    ours, theirs = pair
    reply = Reply(HEAD, b"\r\n" + bytes(index % 251 for index in range(size)))
    received = []
    reader = threading.Thread(target=read_all, args=(theirs, received))
    reader.start()
    send_all(ours, frame(1, reply))
    ours.shutdown(socket.SHUT_WR)
    reader.join(30)
    assert b"".join(received) == b"".join(bytes(piece) for piece in frame(1, reply))


def test_more_buffers_than_one_call_takes_are_sent(pair):
    ours, theirs = pair
    buffers = [b"%06d" % index for index in range(3 * IOV_MAX)]
    received = []
    reader = threading.Thread(target=read_all, args=(theirs, received))
    reader.start()
    send_all(ours, list(buffers))
    ours.shutdown(socket.SHUT_WR)
    reader.join(30)
    assert b"".join(received) == b"".join(buffers)


@pytest.mark.parametrize("count", [1, 2])
def test_a_peer_that_does_not_read_is_not_waited_for(pair, count):
    sent = [bytes(8 << 20)] * count
    left = send_now(pair[0], list(sent))
    assert 0 < sum(map(len, left)) < sum(map(len, sent))


def test_a_peer_that_is_gone_is_an_os_error(pair):
    ours, theirs = pair
    theirs.close()
    with pytest.raises(OSError):
        send_now(ours, [b"x"])
