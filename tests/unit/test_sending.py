"""A web server that reads slowly, or not at all: its answer waits, and nobody waits for it."""
from __future__ import annotations

import os
import resource
import socket

import pytest
from test_conformance import ENV, Line, Reply, get, names, params, record

from luafcgid2 import records
from luafcgid2.records import KEEP_CONN, STDIN, STDOUT, begin

SIZE = 1 << 20


class Slow(Line):
    """A connection whose socket takes little at a time; answers are `size` bytes that are told apart by id."""

    def __init__(self, size=SIZE, **limits):
        super().__init__(self.answer, **limits)
        self.size, self.ran = size, 0
        self.connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    def content(self, number):
        return b"X: %d\r\n\r\n" % number + bytes((index + number) % 251 for index in range(self.size))

    def answer(self, *request):
        self.ran += 1
        return Reply(b"", self.content(self.ran))

    def read_all(self):
        """What comes while the server sends whenever there is room, as (output, kinds of the records)."""
        data = b""
        self.peer.setblocking(False)
        while True:
            try:
                piece = self.peer.recv(100_000)
                if not piece:
                    break
                data += piece
            except BlockingIOError:
                if not self.connection.open or self.connection.outbox is None:
                    break
                self.take()
        found, position = [], 0
        while position < len(data):
            found.append(records.cut(data, position))
            position = found[-1].end
        return b"".join(one.content for one in found if one.type == STDOUT), [one.type for one in found]


@pytest.fixture
def slow():
    made = []

    def make(**options):
        made.append(Slow(**options))
        return made[-1]
    yield make
    for one in made:
        one.close()


def files():
    return len(os.listdir("/proc/self/fd"))


def test_a_reader_that_stops_costs_no_wait_and_gets_all_once_it_reads(slow):
    made = slow()
    # Returns although nobody reads.
    made.feed(get())
    assert made.connection.open and made.connection.outbox.size > SIZE // 2
    output, kinds = made.read_all()
    assert output == made.content(1) and kinds[-1] == records.END_REQUEST
    assert not made.connection.open and not made.server.outboxes


def test_nothing_more_is_read_while_an_answer_waits(slow):
    made = slow()
    kept = get(flags=KEEP_CONN)
    made.feed(kept * 3)
    assert made.ran == 1, "memory would grow with each request"
    output, _kinds = made.read_all()
    assert made.ran == 3 and made.connection.open and made.connection.served
    assert output == b"".join(made.content(number) for number in (1, 2, 3))
    assert not made.server.outboxes and made.connection.seat.bytes_in == 3 * len(kept)


def test_a_connection_with_a_waiting_answer_is_not_taken_for_idle(slow):
    made = slow()
    made.feed(get(flags=KEEP_CONN))
    assert not made.connection.served
    made.read_all()
    assert made.connection.served


def test_another_request_of_the_connection_goes_on_after_a_waiting_answer(slow):
    made = slow()
    made.feed(begin(2) + params(ENV, 2) + get())
    made.feed(record(STDIN, 2))
    output, kinds = made.read_all()
    assert kinds.count(records.END_REQUEST) == 2 and output == made.content(1) + made.content(2)
    assert not made.connection.open


def test_while_draining_the_connection_is_closed_after_its_answer(slow):
    made = slow()
    made.feed(get(flags=KEEP_CONN))
    made.server.draining = True
    assert made.read_all()[0] == made.content(1)
    assert not made.connection.open


def test_answers_to_management_records_pile_up_for_nobody(slow):
    made = slow()
    made.feed(names("FCGI_MAX_CONNS") * 2000)
    assert made.connection.outbox.memory < 100
    assert made.read_all()[1] == [records.GET_VALUES_RESULT] * 2000


def test_a_reader_that_leaves_frees_its_answer(slow):
    made = slow()
    made.feed(get(flags=KEEP_CONN))
    made.peer.close()
    made.take()
    assert not made.connection.open and not made.server.outboxes
    assert all("not delivered" in line for line in made.log.lines)


def test_beyond_send_memory_answers_wait_in_files_without_a_name(slow, tmp_path):
    made = slow(send_memory=0, temp_dir=str(tmp_path))
    before = files()
    made.feed(get(flags=KEEP_CONN))
    assert made.connection.outbox.memory == 0 and made.connection.outbox.size > SIZE // 2
    assert files() == before + 1 and not os.listdir(tmp_path)
    assert made.read_all()[0] == made.content(1)
    assert files() == before and made.connection.served


def test_a_full_disk_never_stops_a_server_whose_readers_are_slow(slow, tmp_path):
    made = slow(send_memory=0, temp_dir=str(tmp_path))
    before = files()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        made.feed(get())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not made.connection.open and not made.server.outboxes and files() == before - 1
    assert len(made.log.lines) == 1 and "TempDir" in made.log.lines[0]


def test_one_answer_may_be_larger_than_send_memory(slow):
    made = slow(send_memory=1000)
    made.feed(get())
    assert made.connection.outbox.memory > 1000
    assert made.read_all()[0] == made.content(1)
