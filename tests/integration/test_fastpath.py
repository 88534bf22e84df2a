"""The fast path answers what Python answers, byte for byte, and what it leaves to Python gets there.

Each input goes to two workers, with FastPath and without.
"""
from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import signal
import socket
import struct
import termios

import pytest
from harness import PATIENCE, wait_until
from test_desk import PAGES, status
from test_worker import Held, Worker

from luafcgid2 import fastpath, records
from luafcgid2.params import encode

pytestmark = pytest.mark.skipif(not fastpath.BUILT, reason="the fast path is not built here")
SCRIPTS = {
    "env.lua": "function main(env) local lines = {} for name, value in pairs(env) do lines[#lines + 1] = name .. '=' "
               ".. value end table.sort(lines) Send(table.concat(lines, '\\n')) end",
    "status.lua": "function main(env) RespStatus(env.QUERY_STRING) Send('said') end",
    "flush.lua": "function main() Send('one') Flush() Send('two') end",
    "flush_error.lua": "function main() Send('one') Flush() error('late') end",
    "large.lua": "function main() Send(('x'):rep(70000)) end",
    "huge.lua": "function main() for n = 1, 40 do Send(('x'):rep(20000)) end end",
    "slow.lua": "function main() local t = os.clock() while os.clock() - t < 0.003 do end Send('slow') end",
    "memory.lua": "function main() local t = {} for n = 1, 20000 do t[n] = {} end Kept = t Send('grown') end",
    "greedy.lua": "function main() local t = {} for n = 1, 1e6 do t[n] = ('x'):rep(1000) .. n end Send('no') end",
    "exit.lua": "function main() os.exit(3) end",
    "nothing.lua": "function main() end",
    "head.lua": "function main(env) Header('X-Long', ('x'):rep(env.QUERY_STRING)) Send(('x'):rep(32000)) end",
    "size.lua": "function main(env) Send(('x'):rep(env.QUERY_STRING)) end",
    "session.lua": "function main() Session.count = (Session.count or 0) + 1 Send(Session.count) end",
}


@contextlib.contextmanager
def both(**options):
    """Two workers that differ in nothing else, whose answers do not say how long they took."""
    options.setdefault("elapsed_time_header", False)
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(fast_path=fast, **options)) for fast in (True, False)]
        for worker in workers:
            for name, source in SCRIPTS.items():
                with open(os.path.join(worker.folder, name), "w") as file:
                    file.write(source)
        yield workers


def request(worker, name, body=b"", flags=0, role=records.RESPONDER, **more):
    """The bytes of a request."""
    params = encode({**worker.params(name), **more})
    return (records.begin(1, role, flags) + records.pack(records.PARAMS, 1, params)
            + records.pack(records.PARAMS, 1) + (records.pack(records.STDIN, 1, body) if body else b"")
            + records.pack(records.STDIN, 1))


def exchange(worker, *pieces, until=None):
    """What the worker answers to pieces that are sent one by one; `until`: the size of what a kept connection gets."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(worker.address)
        found = b""
        # What is refused may have been answered before.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                client.sendall(piece)
            if until is None:
                client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while until is None or len(found) < until:
                data = client.recv(1 << 20)
                if not data:
                    break
                found += data
        return told(found, worker)


def told(found, worker):
    """An answer without what differs from worker to worker."""
    return found.replace(worker.folder.encode(), b"FOLDER")


CASES = {
    "hello": lambda w: request(w, "hello.lua"),
    "env": lambda w: request(w, "env.lua", HTTP_COOKIE="a=b; c=d", HTTP_HOST="x", QUERY_STRING="q=1"),
    "post": lambda w: request(w, "echo.lua", b"some body", REQUEST_METHOD="POST", CONTENT_LENGTH="9"),
    "post that fills a record": lambda w: request(w, "echo.lua", b"y" * 65535, REQUEST_METHOD="POST"),
    "head": lambda w: request(w, "hello.lua", REQUEST_METHOD="HEAD"),
    "error": lambda w: request(w, "error.lua"),
    "status 404": lambda w: request(w, "status.lua", QUERY_STRING="404"),
    "status 503": lambda w: request(w, "status.lua", QUERY_STRING="503"),
    "no such script": lambda w: request(w, "absent.lua"),
    "another role": lambda w: request(w, "hello.lua", role=3),
    "an authorizer": lambda w: request(w, "hello.lua", role=records.AUTHORIZER),
    "flush": lambda w: request(w, "flush.lua"),
    "flush, then an error": lambda w: request(w, "flush_error.lua"),
    "large": lambda w: request(w, "large.lua"),
    "huge": lambda w: request(w, "huge.lua"),
    "slow": lambda w: request(w, "slow.lua"),
    "memory": lambda w: request(w, "memory.lua"),
    "exit": lambda w: request(w, "exit.lua"),
    "nothing sent": lambda w: request(w, "nothing.lua"),
    "session": lambda w: request(w, "session.lua"),
    "a name in a value": lambda w: request(w, "hello.lua", HTTP_X="\x0f\x04SCRIPT_FILENAME/etc"),
    "another root": lambda w: request(w, "hello.lua", DOCUMENT_ROOT="/nowhere"),
    "long values": lambda w: request(w, "env.lua", HTTP_X="x" * 5000),
    "flags that nobody knows": lambda w: request(w, "hello.lua", flags=6),
    "padding": lambda w: (records.begin(1) + records.pack(records.PARAMS, 1, encode(w.params("hello.lua")))
                          .replace(b"\0\0\x0f", b"\x05\0\x0f", 1) + bytes(5) + records.tail(1)),
    "id 2": lambda w: (records.begin(2) + records.pack(records.PARAMS, 2, encode(w.params("hello.lua")))
                       + records.tail(2)),
    "params that are cut off": lambda w: (records.begin(1) + records.pack(
        records.PARAMS, 1, encode(w.params("hello.lua"))[:-1]) + records.tail(1)),
    "no params": lambda w: records.begin(1) + records.tail(1),
    "another version": lambda w: b"\2" + request(w, "hello.lua")[1:],
    "nothing": lambda w: b"",
    "two requests": lambda w: request(w, "hello.lua", flags=1) + request(w, "echo.lua", b"second"),
}


def test_each_case_is_answered_as_by_python():
    with both() as workers:
        for name, make in CASES.items():
            for _ in range(4):
                fast, plain = (exchange(worker, make(worker)) for worker in workers)
                assert fast == plain, name
        assert b"hello" in exchange(workers[0], request(workers[0], "hello.lua"))
        # Each was one request, and one error, to both.
        fast, plain = ([line for line in worker.log_text().splitlines() if "rror" in line] for worker in workers)
        assert len(fast) == len(plain)


def test_each_case_is_answered_as_by_python_where_memory_is_limited():
    with both(script_max_memory=8 << 20) as workers:
        for name, make in [("greedy", lambda w: request(w, "greedy.lua")), *CASES.items()]:
            for _ in range(3):
                fast, plain = (exchange(worker, make(worker)) for worker in workers)
                assert fast == plain, name


def test_each_case_is_answered_as_by_python_on_a_kept_connection():
    with both() as workers:
        for name, make in CASES.items():
            kept = [[request(worker, "hello.lua", flags=1)] * 2 + [make(worker)] for worker in workers]
            fast, plain = (exchange(worker, *pieces) for worker, pieces in zip(workers, kept))
            assert fast == plain, name


def test_damaged_requests_are_answered_as_by_python():
    chance = random.Random(7)
    with both() as workers:
        for number in range(300):
            makes = chance.choice(["hello.lua", "echo.lua"]), chance.choice([b"", b"some body"]), chance.getrandbits(1)
            data = [request(worker, name=makes[0], body=makes[1], flags=makes[2]) for worker in workers]
            # The folders' names are equally long: only what differs in them is left as it is.
            assert len(data[0]) == len(data[1])
            same = [place for place, (one, other) in enumerate(zip(*data)) if one == other]
            place, what = chance.choice(same if chance.getrandbits(1) else same[:24]), bytes([chance.randrange(256)])
            damaged = [one[:place] + what + one[place + 1:] for one in data]
            if chance.getrandbits(2) == 0:
                damaged = [one[:place] for one in data]
            fast, plain = (exchange(worker, one) for worker, one in zip(workers, damaged))
            assert fast == plain, (number, place, what, damaged[0])


def test_an_answer_says_how_long_its_script_ran():
    with both(elapsed_time_header=True) as workers:
        for worker in workers:
            for name, least in (("hello.lua", 0), ("slow.lua", 3), ("slow.lua", 3)):
                found = re.findall(rb"X-ElapsedTime: (\d+)\r\n", exchange(worker, request(worker, name)))
                assert len(found) == 1 and int(found[0]) >= least


def test_both_count_the_same():
    with both(**PAGES) as workers:
        counts = []
        for worker in workers:
            for name in ("hello.lua", "error.lua", "status.lua", "large.lua", "hello.lua"):
                exchange(worker, request(worker, name, QUERY_STRING="503"))
            with worker.client() as client:
                for body in (b"", b"", b"body"):
                    client.request(worker.params("echo.lua"), body)
            wait_until(lambda worker=worker: sum(found["requests"] for found in status(worker)["scripts"]) == 8,
                       "the counts are published")
            page = status(worker)
            scripts = {os.path.basename(found["script"]): (found["requests"], found["errors"])
                       for found in page["scripts"]}
            counts.append((page["errors"], scripts))
        assert counts[0] == counts[1]
        assert counts[0] == (2, {"hello.lua": (2, 0), "error.lua": (1, 1), "status.lua": (1, 1), "large.lua": (1, 0),
                                 "echo.lua": (3, 0)})


@contextlib.contextmanager
def stopped(worker):
    """What is sent meanwhile is there at once when the worker looks."""
    worker.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.signal(signal.SIGCONT)


@contextlib.contextmanager
def behind_a_long_one(worker, **more):
    """A request that waits until its pipe is opened, and eleven others that came at the same time, each on a kept
    connection: (the pipe's Held, the connections).  `more`: what is different in the params of the sixth."""
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(worker.client()) for _ in range(12)]
        for client in kept:
            assert client.request(worker.params("hello.lua")).body == b"hello"
        held = Held(worker, 1)
        with stopped(worker):
            for number, client in enumerate(kept):
                params = worker.params("hello.lua") if number else worker.params("wait.lua", held.path)
                if number == 5:
                    params.update(more)
                client.send_raw(records.begin(1, records.RESPONDER, records.KEEP_CONN)
                                + records.pack(records.PARAMS, 1, encode(params)) + records.tail(1))
        yield held, kept


def test_what_came_with_a_long_request_is_served_by_another_thread():
    with Worker(worker_threads=2) as worker, behind_a_long_one(worker) as (held, kept):
        for client in kept[1:]:
            assert client.read_response().body == b"hello"
        with open(held.path, "w"):
            assert kept[0].read_response().body == b"waited"


def test_what_came_with_a_long_request_is_served_after_it_where_there_is_no_other_thread():
    with Worker(worker_threads=1, ping_path="/ping") as worker, behind_a_long_one(
            worker, SCRIPT_NAME="/ping") as (held, kept):
        wait_until(held.running, "the first one runs")
        assert b"pong" in kept[5].read_response().body, "the main thread answers this one"
        with open(held.path, "w"):
            assert kept[0].read_response().body == b"waited"
        for client in kept[1:5] + kept[6:]:
            assert client.read_response().body == b"hello"


@pytest.mark.parametrize("keep", [0, 1])
def test_a_client_that_reads_nothing_and_one_that_has_left_harm_nobody(keep):
    with both() as workers:
        for worker in workers:
            for _ in range(30):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(worker.address)
                    client.sendall(request(worker, "huge.lua", flags=keep))
            slow = socket.socket(socket.AF_UNIX)
            slow.connect(worker.address)
            slow.settimeout(PATIENCE)
            small = request(worker, "hello.lua", flags=1)
            # Until the socket's buffer is full: answers wait, nothing is read any more.
            slow.setblocking(False)
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while sent < 5000:
                    slow.sendall(small)
                    sent += 1
            assert worker.ask().body == b"hello"
            slow.close()
            assert worker.ask().body == b"hello"
            assert "unexpected" not in worker.log_text()


def test_requests_one_behind_the_other_are_all_answered():
    with both() as workers:
        for worker in workers:
            with worker.client() as client:
                for _ in range(40):
                    for _ in range(10):
                        client.send_raw(worker.records(flags=records.KEEP_CONN))
                    for _ in range(10):
                        assert client.read_response().body == b"hello"


def unread(client):
    """How many bytes of what was sent the worker has not read."""
    return struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)))[0]


def test_an_answer_that_found_no_room_on_a_kept_connection_is_sent_once_there_is_some():
    with both() as workers:
        for worker in workers:
            with worker.client() as client:
                data = request(worker, "size.lua", flags=records.KEEP_CONN, QUERY_STRING="30000")
                # One of these counts is that of the answers that fit, and one.
                for count in range(1, 11):
                    for _ in range(count):
                        client.send_raw(data)
                        with contextlib.suppress(AssertionError):
                            # Each is read as a whole; behind one whose answer waits nothing is read.
                            wait_until(lambda client=client: not unread(client.socket), "it is read", 0.3)
                    for _ in range(count):
                        assert len(client.read_response().body) == 30000


def test_an_answer_that_just_fits_into_a_record_is_framed_as_by_python():
    with both() as workers:
        def sizes(size):
            return [exchange(worker, request(worker, "head.lua", QUERY_STRING=str(size))) for worker in workers]

        # Header and footer of the records are 32 bytes.
        rest = len(sizes(30000)[0]) - 32 - 30000
        for total in range(65520, 65540):
            # Not each is a plain one: the heap grows.
            for _ in range(4):
                fast, plain = sizes(total - rest)
                assert fast == plain, total
