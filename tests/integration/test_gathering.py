"""Bodies that come after their params: the fast path reads them to where they belong, and answers as Python does.

The Gather alone, on a pair of sockets; then uploads of all kinds to two workers, with FastPath and without.
"""
from __future__ import annotations

import contextlib
import os
import random
import resource
import select
import signal
import socket
import time
from types import SimpleNamespace

import pytest
from harness import PATIENCE, accepts, wait_until
from test_fastpath import both, exchange, stopped, unread
from test_native import leading, make
from test_poller import connected
from test_worker import Worker

from luafcgid2 import fastpath, records
from luafcgid2.body import SMALL
from luafcgid2.params import encode
from luafcgid2.records import HEADER_SIZE, KEEP_CONN, STDIN, begin, header
from luafcgid2.relay import Relay
from luafcgid2.seat import Seat
from luafcgid2.timeouts import PROGRESS

pytestmark = pytest.mark.skipif(not fastpath.BUILT, reason="the fast path is not built here")
END = header(STDIN, 1, 0)
MEGABYTE = 1 << 20


def gather(*arguments):
    return fastpath._fastpath.Gather(*arguments)


def cut(body, size, padding=0):
    """`body` in STDIN records of `size` bytes."""
    parts = [body[start:start + size] for start in range(0, len(body), size)]
    return b"".join(header(STDIN, 1, len(part), padding) + part + b"p" * padding for part in parts)


def cut_by_chance(body, chance):
    """The same in records of many sizes."""
    found, start = [], 0
    while start < len(body):
        size = min(chance.choice([1, 7, 1000, 8000, 8000, 8000, 32768, 65535]), len(body) - start)
        found.append(cut(body[start:start + size], size, chance.choice([0, 0, 0, 3, 255])))
        start += size
    return b"".join(found)


@contextlib.contextmanager
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(PATIENCE)
        yield ours, theirs


def pour(target, data, pieces):
    """Send `data` in `pieces`, filling `target` after each, until it wants no more."""
    with pair() as (ours, theirs):
        for start, stop in zip([0, *pieces], [*pieces, len(data)]):
            theirs.sendall(data[start:stop])
            taken = target.fill(ours.fileno())
            if target.done:
                return
            assert taken == stop - start


@pytest.mark.parametrize("size, padding", [(32768, 0), (65535, 1), (65528, 0), (100, 4), (1, 0), (4096, 255)])
def test_a_body_in_records_of_one_size_is_put_together(size, padding):
    body = random.Random(size).randbytes(60000 if size == 1 else 150001)
    data = cut(body, size, padding) + END
    found = gather(1, b"params", len(body), data[:20000])
    # Less than a socket takes, whatever the size of its buffer.
    pour(found, data[20000:], range(30000, len(data) - 20000, 30000))
    assert (found.content(), found.rest) == (body, END)
    assert (found.flags, found.params, found.held, found.size) == (1, b"params", len(body), len(body))


@pytest.mark.parametrize("seed", range(60))
def test_a_body_in_records_of_many_sizes_is_put_together_whatever_the_pieces(seed):
    chance = random.Random(seed)
    body = chance.randbytes(chance.randrange(1, 120000))
    behind = chance.choice([END, END + b"more", header(9, 0, 0), header(STDIN, 2, 5), header(STDIN, 1, 1), b"\2" * 8])
    data = cut_by_chance(body, chance) + behind
    first = chance.choice([0, 1, 8, chance.randrange(len(data))])
    pieces = sorted(chance.randrange(len(data) - first) for _ in range(chance.randrange(8)))
    found = gather(0, b"", len(body), data[:first])
    if found.rest is None:
        pour(found, data[first:], [piece for piece in pieces if piece])
    assert found.content() == body
    assert found.done and len(found.rest) >= HEADER_SIZE and behind.startswith(found.rest)
    assert (found.pouring, found.header) == (None, b"")


def test_more_than_was_announced_is_left_to_others():
    body = bytes(range(256)) * 40
    found = gather(0, b"", 10000, cut(body[:9000], 1000))
    pour(found, cut(body[9000:10240], 1240), [])
    assert found.content() == body[:9000]
    assert found.rest == header(STDIN, 1, 1240) + body[9000:10240][:len(found.rest) - HEADER_SIZE]


def test_what_has_come_of_a_record_can_be_told_at_any_point():
    data = cut(b"a" * 5000, 5000, 3) + cut(b"b" * 5000, 5000)
    for length in range(0, len(data), 7):
        found = gather(0, b"", 10000, data[:length])
        whole = max(0, min(5000, length - 8)) + max(0, length - 5019)
        assert (found.size, found.content()) == (whole, (b"a" * 5000 + b"b" * 5000)[:whole])
        if 8 <= length < 5011:
            assert found.pouring == (1, max(0, 5008 - length), min(3, 5011 - length))
        elif 5019 <= length < 10019:
            assert found.pouring == (1, 10019 - length, 0)
        else:
            assert found.pouring is None
        assert found.header == (data[:length] if length < 8 else data[5011:length] if 5011 < length < 5019 else b"")


def test_the_end_of_the_input_and_a_broken_connection_are_told():
    found = gather(0, b"", 10000, b"")
    with pair() as (ours, theirs):
        theirs.sendall(cut(bytes(500), 500)[:300])
        assert (found.fill(ours.fileno()), found.ended) == (300, False)
        theirs.close()
        assert (found.fill(ours.fileno()), found.ended, found.rest) == (0, True, None)
        assert found.fill(ours.fileno()) == 0
    with pytest.raises(OSError):
        gather(0, b"", 10, b"").fill(-1)
    for wrong in ((0, b"", 0, b""), (0, "", 1, b""), (0, b"", 1, None), (0, b"", 1)):
        with pytest.raises((ValueError, TypeError)):
            gather(*wrong)


def test_progress_is_what_the_timeouts_call_so():
    found = gather(0, b"", 10000, b"")
    with pair() as (ours, theirs):
        theirs.sendall(header(STDIN, 1, 10000) + bytes(PROGRESS - 1))
        found.fill(ours.fileno())
        before = found.moved
        assert found.since_mark == PROGRESS - 1
        theirs.sendall(b"x")
        found.fill(ours.fileno())
        assert found.since_mark == 0 and found.moved > before


SCRIPTS = {
    "count.lua": "function main(env) Send(#Receive() .. ' ' .. (env.CONTENT_LENGTH or '')) end",
    "form.lua": "function main(env) Send(lf.post().a or 'none') end",
    # Short answers: what a client does not read keeps the rest of its upload waiting.
    "sum.lua": "function main() local body, sum = Receive(), 0 for at = 1, #body, 7 do "
               "sum = (sum * 31 + body:byte(at)) % 2147483647 end Send(#body .. ' ' .. sum) end",
}


def answer_to(body):
    """What sum.lua says."""
    total = 0
    for byte in body[::7]:
        total = (total * 31 + byte) % 2147483647
    return b"%d %d" % (len(body), total)


@contextlib.contextmanager
def receivers(**options):
    with both(**options) as workers:
        for worker in workers:
            for name, source in SCRIPTS.items():
                with open(os.path.join(worker.folder, name), "w") as file:
                    file.write(source)
        yield workers


def opening(worker, name="sum.lua", flags=0, length=None, **more):
    """The records up to the params' end."""
    params = {**worker.params(name), "REQUEST_METHOD": "POST", **more}
    if length is not None:
        params["CONTENT_LENGTH"] = str(length)
    return begin(1, records.RESPONDER, flags) + records.pack(records.PARAMS, 1, encode(params)) + header(4, 1, 0)


BODY = random.Random(1).randbytes(300001)
UPLOADS = {
    "as announced": lambda w: opening(w, length=len(BODY)) + cut(BODY, 32768) + END,
    "in large records": lambda w: opening(w, length=len(BODY)) + cut(BODY, 65528, 7) + END,
    "in small records": lambda w: opening(w, length=5000) + cut(BODY[:5000], 10) + END,
    "twice": lambda w: (opening(w, flags=1, length=len(BODY)) + cut(BODY, 8000) + END) * 2,
    "longer than announced": lambda w: opening(w, length=200000) + cut(BODY, 32768) + END,
    "longer than announced, in one record": lambda w: opening(w, length=5000) + cut(BODY[:9000], 9000) + END,
    "shorter than announced": lambda w: opening(w, length=len(BODY) + 5) + cut(BODY, 32768) + END,
    "not announced": lambda w: opening(w) + cut(BODY, 32768) + END,
    "announced in a header's value": lambda w: (
        opening(w, HTTP_X="\x0e\x06CONTENT_LENGTH200000") + cut(BODY, 32768) + END),
    "announced with signs": lambda w: opening(w, CONTENT_LENGTH="+300001") + cut(BODY, 32768) + END,
    "announced as more than can be": lambda w: opening(w, CONTENT_LENGTH="9" * 100) + cut(BODY, 32768) + END,
    "announced twice": lambda w: opening(w, CONTENT_LENGTH="5", length=len(BODY)) + cut(BODY, 32768) + END,
    "nothing of it": lambda w: opening(w, length=len(BODY)) + END,
    "over MaxPostSize": lambda w: opening(w, length=1500000) + cut(bytes(1500000), 32768) + END,
    "over BodyMemory": lambda w: opening(w, length=600000) + cut(BODY + BODY[:299999], 32768) + END,
    "another id in the middle": lambda w: (
        opening(w, length=len(BODY)) + cut(BODY[:100000], 32768) + begin(2) + records.pack(
            records.PARAMS, 2, encode(w.params("hello.lua"))) + records.tail(2) + cut(BODY[100000:], 32768) + END),
    "an unknown record in the middle": lambda w: (
        opening(w, length=len(BODY)) + cut(BODY[:100000], 32768) + header(77, 0, 5) + b"other"
        + cut(BODY[100000:], 32768) + END),
    "aborted": lambda w: opening(w, length=len(BODY)) + cut(BODY[:100000], 32768) + header(2, 1, 0),
    "begun again": lambda w: opening(w, length=len(BODY)) + cut(BODY[:100000], 32768) + begin(1),
    "another version": lambda w: opening(w, length=len(BODY)) + cut(BODY[:100000], 32768) + b"\2" + bytes(7),
    "cut off": lambda w: opening(w, length=len(BODY)) + cut(BODY, 32768)[:200000],
    "no such script": lambda w: opening(w, "absent.lua", length=len(BODY)) + cut(BODY, 32768) + END,
    "an error": lambda w: opening(w, "error.lua", length=len(BODY)) + cut(BODY, 32768) + END,
    "an authorizer": lambda w: (
        opening(w, length=len(BODY)).replace(begin(1), begin(1, records.AUTHORIZER)) + cut(BODY, 32768) + END),
    "a form": lambda w: (opening(w, "form.lua", length=200002, CONTENT_TYPE="application/x-www-form-urlencoded")
                         + cut(b"a=" + b"x" * 200000, 32768) + END),
    "counted": lambda w: opening(w, "count.lua", length=len(BODY)) + cut(BODY, 32768) + END,
    "counted, and a small one behind": lambda w: (
        opening(w, "count.lua", flags=1, length=len(BODY)) + cut(BODY, 32768) + END
        + opening(w, "count.lua", length=4) + cut(b"post", 4) + END),
}


def pieces_of(data, chance):
    """Cut anywhere, where a header is likely to be hit, too."""
    places = sorted({chance.randrange(1, len(data)) for _ in range(chance.randrange(4))} | {chance.randrange(1, 700)})
    return [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)])]


@pytest.mark.parametrize("options", [{}, {"max_requests_per_connection": 3}, {"script_max_memory": 8 << 20},
                                     {"receive_memory": 100000}])
@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
def test_each_upload_is_answered_as_by_python(options, kept):
    chance = random.Random(3)
    with receivers(max_post_size=MEGABYTE, body_memory=500000, **options) as workers:
        for name, make_upload in UPLOADS.items():
            for _ in range(3):
                seed, answers = chance.random(), []
                for worker in workers:
                    pieces = pieces_of(make_upload(worker), random.Random(seed))
                    if kept:
                        pieces.insert(0, worker.records(flags=KEEP_CONN))
                    answers.append(exchange(worker, *pieces))
                assert answers[0] == answers[1], name
            if name in ("as announced", "in large records"):
                assert content_of(answers[0]).endswith(answer_to(BODY))
        fast, plain = ([line.partition("] ")[2] for line in worker.log_text().splitlines() if "connection" in line]
                       for worker in workers)
        assert len(fast) == len(plain)


def content_of(answer):
    """Of all STDOUT records of request 1."""
    found, position = [], 0
    while position < len(answer):
        record = records.cut(answer, position)
        found.append(record.content if (record.type, record.request_id) == (records.STDOUT, 1) else b"")
        position = record.end
    return b"".join(found)


def test_an_upload_is_gathered(tmp_path, monkeypatch):
    with connected(tmp_path) as (poller, client):
        relay, taken = Relay(), []
        fast, taken_up = make(poller, relay), fastpath.Watched.take_up
        poller._server.respond = lambda params, body, problem, seat: b"Status: 200\r\n\r\n%d" % len(body)

        def take_up(connection, gathered):
            more = taken_up(connection, gathered)
            taken.append(gathered)
            return more

        monkeypatch.setattr(fastpath.Watched, "take_up", take_up)
        with leading(poller, relay, fast) as start:
            # Before anybody looks: where nothing has come yet at the first look, Python reads what comes next.
            client.sendall(begin(1) + records.pack(4, 1, encode({"CONTENT_LENGTH": "100000"})) + header(4, 1, 0))
            start(1)
            wait_until(lambda: taken, "the upload is taken up")
            assert poller._server.bodies == {taken[0]}
            client.sendall(cut(bytes(100000), 32768) + END)
            assert b"100000" in client.recv(4096)
        assert taken[0].rest == END and not poller._server.bodies


def test_what_comes_behind_an_upload_that_just_fills_a_read_is_served():
    with receivers() as workers, workers[0].client() as client:
        worker = workers[0]
        # The fast path serves scripts that have a state.
        for name in ("hello.lua", "sum.lua"):
            assert client.request(worker.params(name)).status == 200
        size = 65536 - len(opening(worker, flags=KEEP_CONN, length=50000)) - 3 * HEADER_SIZE - len(END)
        data = opening(worker, flags=KEEP_CONN, length=size) + cut(bytes(size), 30000) + END
        assert len(data) == 65536
        with stopped(worker):
            client.send_raw(data + worker.records(flags=KEEP_CONN))
        assert client.read_response().body == answer_to(bytes(size))
        assert client.read_response().body == b"hello"


@contextlib.contextmanager
def uploading(worker, length=200000, sent=50000, flags=0):
    """A connection with an upload under way, of which what was sent is read."""
    with worker.client() as client:
        client.send_raw(opening(worker, "count.lua", flags, length) + cut(bytes(sent), 10000))
        wait_until(lambda: not unread(client.socket), "what was sent is read")
        yield client


def test_an_upload_that_stops_is_closed_after_read_timeout():
    with Worker(read_timeout=1) as worker, uploading(worker) as client:
        began = time.monotonic()
        assert client.read_record() is None
        assert time.monotonic() - began < PATIENCE / 2
        wait_until(lambda: "nothing came for ReadTimeout (1 s) in the middle" in worker.log_text(), "the log says so")


def test_an_upload_that_trickles_is_closed_after_read_timeout():
    with Worker(read_timeout=3) as worker, uploading(worker) as client:
        with contextlib.suppress(OSError):
            for _ in range(int(PATIENCE * 20)):
                client.send_raw(cut(b"x", 1))
                time.sleep(0.05)
        wait_until(lambda: "fewer than 1024 bytes came in ReadTimeout (3 s)" in worker.log_text(), "the log says so")


def test_an_upload_that_moves_on_may_take_longer_than_read_timeout():
    with Worker(read_timeout=3) as worker, uploading(worker, 100000, 50000) as client:
        with open(os.path.join(worker.folder, "count.lua"), "w") as file:
            file.write(SCRIPTS["count.lua"])
        for _ in range(25):
            # What takes long is what is tested.
            time.sleep(0.2)
            client.send_raw(cut(bytes(2000), 2000))
        client.send_raw(END)
        assert client.read_response().body == b"100000 100000"


def test_an_upload_that_finds_no_room_among_the_connections_is_overloaded():
    with Worker(max_connections=1) as worker, worker.client() as first:
        first.send_raw(worker.records()[:30])
        wait_until(lambda: not unread(first.socket), "it is the one")
        with worker.client() as second:
            second.send_raw(opening(worker, length=200000) + cut(bytes(9000), 9000))
            kind, _request_id, content = second.read_record()
            assert (kind, content) == (records.END_REQUEST, records.END_BODY.pack(0, records.OVERLOADED))
            assert second.read_record() is None


@pytest.mark.parametrize("memory, length, filed", [(100000, 200000, True), (1000000, 200000, False)])
def test_an_upload_goes_to_a_file_where_the_memory_for_bodies_is_full(memory, length, filed):
    def files():
        links = ["/proc/%d/fd/%s" % (worker.pid, number) for number in os.listdir("/proc/%d/fd" % worker.pid)]
        return [where for where in map(os.readlink, links) if where.endswith("(deleted)") and "memfd" not in where]

    with Worker(receive_memory=memory) as worker:
        with open(os.path.join(worker.folder, "count.lua"), "w") as file:
            file.write(SCRIPTS["count.lua"])
        sent = length * 9 // 10
        with uploading(worker, length, sent) as client:
            assert len(files()) == filed
            client.send_raw(cut(bytes(length - sent), 30000) + END)
            assert client.read_response().body == b"%d %d" % (length, length)
        assert not files()


def test_uploads_that_are_given_up_leave_nothing(tmp_path):
    with connected(tmp_path) as (poller, _client):
        relay, seat = Relay(), Seat(0)
        fast = make(poller, relay)
        for keep in (0, KEEP_CONN):
            ours, theirs = socket.socketpair()
            theirs.sendall(cut(bytes(30000), 9000))
            fast.welcome(ours.detach(), gather(keep, b"x", 100000, b""), seat)
            [connection] = [one for one in poller._connections.values() if one.gather is not None]
            assert connection.busy and connection.partial and len(poller._server.bodies) == 1
            theirs.close()
            poller.serve(connection, select.EPOLLIN | select.EPOLLRDHUP, seat)
            assert not connection.open and not poller._server.bodies and connection.gather is None


def test_an_upload_under_way_is_finished_by_a_worker_that_leaves():
    with Worker() as worker:
        with open(os.path.join(worker.folder, "count.lua"), "w") as file:
            file.write(SCRIPTS["count.lua"])
        with uploading(worker, 60000, 50000, KEEP_CONN) as client:
            worker.signal(signal.SIGTERM)
            wait_until(lambda: not accepts(worker.address), "it leaves")
            client.send_raw(cut(bytes(10000), 10000) + END)
            assert client.read_response().body == b"60000 60000"
        assert worker.exit_code() == 0


def test_a_body_for_which_there_is_no_memory_is_taken_as_it_comes():
    limit = 1 << 30
    with Worker(body_memory=limit, max_post_size=limit, receive_memory=limit) as worker:
        assert worker.ask().body == b"hello"
        resource.prlimit(worker.pid, resource.RLIMIT_AS, (limit // 2, limit // 2))
        with open(os.path.join(worker.folder, "count.lua"), "w") as file:
            file.write(SCRIPTS["count.lua"])
        with worker.client() as client:
            client.send_raw(opening(worker, "count.lua", length=9 * limit // 10) + cut(bytes(5000), 2500) + END)
            assert client.read_response().body == b"5000 %d" % (9 * limit // 10)
        assert "unexpected" not in worker.log_text()


class Upload(SimpleNamespace):
    """In the place of a Gather."""

    __hash__ = object.__hash__


@pytest.mark.parametrize("size, counted", [(SMALL, False), (SMALL + 1, True)])
def test_only_large_uploads_count_for_receive_memory(tmp_path, size, counted):
    with connected(tmp_path) as (poller, _client):
        seat = Seat(0)
        poller.poll()
        poller.step(seat, lambda: True)
        [connection] = poller._connections.values()
        assert not connection.take_up(gather(0, b"x", size, b""))
        assert len(poller._server.bodies) == counted


@pytest.mark.parametrize("method", ["fill", "content"])
def test_a_connection_for_whose_upload_memory_runs_out_is_closed(tmp_path, method):
    def fail(*_arguments):
        raise MemoryError

    with connected(tmp_path) as (poller, client):
        seat = Seat(0)
        poller.poll()
        poller.step(seat, lambda: True)
        [connection] = poller._connections.values()
        upload = Upload(rest=None, ended=False, done=False, held=SMALL + 1, size=1, flags=0, params=b"", pouring=None,
                        header=b"", fill=lambda _fd: 0, content=fail, since_mark=0, moved=0.0)
        assert not connection.take_up(upload) and poller._server.bodies == {upload}
        setattr(upload, method, fail)
        upload.rest, upload.done = (None, False) if method == "fill" else (END, True)
        with pytest.raises(MemoryError):
            connection.receive()
        assert client.recv(1) == b"" and not connection.open and not poller._server.bodies
