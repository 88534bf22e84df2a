"""What one hello request costs a worker, as counts that do not depend on the machine: system calls, calls of Python."""
from __future__ import annotations

import collections
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from typing import Dict, Iterator, List

import pytest
from harness import PATIENCE, wait_until
from test_worker import Worker

from luafcgid2 import config, records, wiring
from luafcgid2.log import NAME
from luafcgid2.params import encode
from luafcgid2.relay import Relay
from luafcgid2.runtime import Engine
from luafcgid2.scoreboard import Scoreboard
from luafcgid2.seat import Seat

REQUESTS = 200
# System calls of a whole request, at most.  Where connections come in bursts, the last accept finds nothing; Python
# asks for the name of each socket that it is given.
ON_ITS_OWN = {"accept4": 2, "recvfrom": 1, "sendto": 1, "close": 1}
KEPT = {"recvfrom": 1, "sendto": 1}
IN_PYTHON = {"getsockname": 1}
# Of all threads, to clean up and to wake up again; and of the main thread, to see whether a slow one is stuck.
A_REST = 16
# Calls of Python functions, and of C functions from Python: lookups by name, clocks, the socket, the crossing.
PYTHON_CALLS = {"call": 16, "c_call": 22}
KEPT_PYTHON_CALLS = {"call": 22, "c_call": 26}
# The fast path comes back for the next connections only.
FAST_CALLS = {"call": 1, "c_call": 1}


class Trace:
    """strace on a worker, while `with` lasts; `calls` is name -> how often; `rests`: how often the worker looked into
    /proc: it cleans up when it is long until the next request, or one request takes long."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self._path = worker, os.path.join(worker.folder, "trace")

    def __enter__(self) -> Trace:
        with open(self._path + ".told", "wb") as told:
            self._process = subprocess.Popen(["strace", "-f", "-o", self._path, "-p", str(self._worker.pid)],
                                             stdin=subprocess.DEVNULL, stdout=told, stderr=told)
        wait_until(lambda: "attached" in open(self._path + ".told").read(), "strace is attached")
        return self

    def __exit__(self, *failure: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(PATIENCE)
        with open(self._path) as file:
            text = file.read()
        self.calls = collections.Counter(re.findall(r"^\d+ +(\w+)\(", text, re.MULTILINE))
        self.rests = text.count('"/proc/')


def looks(calls: Dict[str, int]) -> int:
    """Those that wait: how many depends on who is faster."""
    return sum(calls[name] for name in ("epoll_wait", "futex", "poll", "sched_yield", "clock_nanosleep"))


def no_more_than(wanted: Dict[str, int], trace: Trace) -> None:
    """At most so often a request as `wanted` says, and at least once; of all others together one in ten requests."""
    calls = trace.calls
    for name, number in wanted.items():
        # What starts and ends, and a connection whose request was late.
        assert REQUESTS - 5 <= calls[name] <= number * REQUESTS * 1.1 + 10, (name, calls)
    others = sum(calls.values()) - looks(calls) - sum(calls[name] for name in wanted)
    assert others <= REQUESTS * 0.1 + 10 + A_REST * trace.rests and trace.rests < REQUESTS / 2, (trace.rests, calls)


@pytest.mark.parametrize("fast", [True, False])
def test_a_request_on_a_connection_of_its_own_costs_few_system_calls(fast: bool) -> None:
    with Worker(fast_path=fast) as worker:
        worker.ask()
        with Trace(worker) as trace:
            for _ in range(REQUESTS):
                assert worker.ask().status == 200
    no_more_than(ON_ITS_OWN if fast else {**ON_ITS_OWN, **IN_PYTHON}, trace)


@pytest.mark.parametrize("fast", [True, False])
def test_a_request_on_a_kept_connection_costs_two(fast: bool) -> None:
    with Worker(fast_path=fast) as worker, worker.client() as kept:
        kept.request(worker.params("hello.lua"))
        with Trace(worker) as trace:
            for _ in range(REQUESTS):
                assert kept.request(worker.params("hello.lua")).status == 200
    no_more_than(KEPT, trace)


def count_calls(kept: bool, fast: bool) -> Dict[str, float]:
    """Python's calls for each of REQUESTS requests that wait, by the parts of a worker in this thread."""
    with tempfile.TemporaryDirectory(prefix="lf2-") as folder, socket.socket(socket.AF_UNIX) as listener:
        script = os.path.join(folder, "hello.lua")
        with open(script, "w") as file:
            file.write("function main() Send('hello') end")
        settings = config.defaults(listen=folder + "/sock", session_store="sqlite://%s/state.db" % folder,
                                   fast_path=fast)
        listener.bind(settings.listen)
        listener.listen(REQUESTS)
        listener.setblocking(False)
        flags = records.KEEP_CONN if kept else 0
        data = (records.begin(1, records.RESPONDER, flags) + records.pack(records.PARAMS, 1, encode(
            {"SCRIPT_FILENAME": script, "DOCUMENT_ROOT": folder, "REQUEST_METHOD": "GET"})) + records.tail(1))
        return _count(settings, listener, data, kept)


def _count(settings: config.Config, listener: socket.socket, data: bytes, kept: bool) -> Dict[str, float]:
    logger, board = logging.getLogger(NAME + ".counted"), Scoreboard(1, 1)
    sessions = wiring.make_sessions(settings, logger)
    pool = wiring.make_pool(settings, Engine(settings.lua_version), board, sessions, logger)
    responder, relay = wiring.make_responder(settings, pool, board, logger), Relay()
    server = wiring.make_server(settings, responder.respond, logger)
    poller, seat = wiring.make_poller(settings, listener, server, logger), Seat(0, board.slot(0).lines[0])
    fast = wiring.make_fastpath(settings, poller, server, responder, pool, relay, board, None, logger)
    assert bool(fast) == settings.fast_path
    wait = fast.run if fast else poller.wait
    poller.accept_connections()
    clients: List[socket.socket] = []

    def serve(number: int) -> None:
        done = seat.requests + number
        # The fast path polls again when all are served.
        waker = threading.Thread(target=lambda: [wait_until(lambda: seat.requests >= done, "all"), poller.wake()])
        waker.start()
        while seat.requests < done:
            # What a thread of a worker does.
            if poller.idle:
                wait(seat, relay.epoch)
            poller.step(seat, lambda: not pool.pending)
            if pool.pending:
                pool.spare_time()
        waker.join()

    def come() -> Iterator[socket.socket]:
        for _ in range(REQUESTS):
            client = socket.socket(socket.AF_UNIX)
            client.connect(settings.listen)
            clients.append(client)
            yield client
    for _ in range(2):
        if not (kept and clients):
            for client in come():
                client.sendall(data)
            serve(REQUESTS)
    if kept:
        for client in clients[-REQUESTS:]:
            client.sendall(data)
    else:
        for client in come():
            client.sendall(data)
    found: Dict[str, int] = collections.Counter()
    sys.setprofile(lambda frame, event, argument: found.update((event,)))
    try:
        serve(REQUESTS)
    finally:
        sys.setprofile(None)
        for client in clients:
            client.close()
    return {event: found[event] / REQUESTS for event in PYTHON_CALLS}


@pytest.mark.parametrize("kept, fast, most", [(False, False, PYTHON_CALLS), (True, False, KEPT_PYTHON_CALLS),
                                              (False, True, FAST_CALLS), (True, True, FAST_CALLS)])
def test_a_request_makes_few_calls_of_python(kept: bool, fast: bool, most: Dict[str, int]) -> None:
    found: List[Dict[str, float]] = []
    # In a thread of its own: the profile function is a thread's, and coverage has one, too.
    thread = threading.Thread(target=lambda: found.append(count_calls(kept, fast)))
    thread.start()
    thread.join(PATIENCE)
    assert all(found[0][event] <= most[event] for event in most), found
