"""The fast path in one process, with a server whose every answer is the same: what none of its threads may lose."""
from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from types import SimpleNamespace

import pytest
from test_poller import connected

from luafcgid2 import fastpath, records
from luafcgid2.entry import Entry
from luafcgid2.interrupt import Target
from luafcgid2.params import encode
from luafcgid2.records import KEEP_CONN, begin
from luafcgid2.relay import Relay
from luafcgid2.routes import Route, Routes
from luafcgid2.scoreboard import STATE
from luafcgid2.seat import Seat
from luafcgid2.state import LuaState
from luafcgid2.worker import Worker

pytestmark = pytest.mark.skipif(not fastpath.BUILT, reason="the fast path is not built here")
REQUEST = begin(1, records.RESPONDER, KEEP_CONN) + records.pack(records.PARAMS, 1, b"\1\1ab") + records.tail(1)


def make(poller, relay, routes=None, checkin=None, cells=None):
    """A FastPath that knows no routes; `checkin`: what becomes of a state that is not pooled."""
    pool, responder = SimpleNamespace(queues=([], [], []), checkin=checkin), SimpleNamespace(routes=routes or Routes())
    fast = fastpath.FastPath(poller, poller._server, responder, pool, relay,
                             cells or memoryview(bytearray(1024)).cast("Q"), False, ())
    poller.reclaim, poller.make_lock = fast.reclaim, fast.make_lock
    return fast


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@contextlib.contextmanager
def leading(poller, relay, fast):
    """Gives what starts the leader of an epoch."""
    threads = []

    def start(epoch):
        worker, seat = Worker.__new__(Worker), Seat(epoch)
        worker._poller, worker._relay, worker._fast, worker._pool = poller, relay, fast, SimpleNamespace(pending=False)
        worker._logger = logging.Logger("worker", logging.CRITICAL)
        relay.epoch = epoch
        threads.append(threading.Thread(target=worker._lead, args=(seat, epoch), daemon=True))
        threads[-1].start()
        wait_until(lambda: seat.polling or seat.serial)

    try:
        yield start
    finally:
        relay.epoch = 99
        while any(thread.is_alive() for thread in threads):
            poller.wake()
            time.sleep(0.001)


def test_a_connection_with_the_number_that_the_closed_listener_had_is_served(tmp_path):
    with connected(tmp_path) as (poller, _client):
        relay = Relay()
        fast = make(poller, relay)
        poller.stop_accepting()
        ours, theirs = socket.socketpair()
        with ours, theirs, leading(poller, relay, fast) as start:
            os.dup2(ours.fileno(), poller._listener_fd)
            seat, sock = Seat(0), poller.socket_of(poller._listener_fd)
            poller._adopt(poller._make(sock, poller._server, poller._connections, seat), seat)
            start(1)
            theirs.settimeout(10)
            theirs.sendall(REQUEST)
            assert b"hello" in theirs.recv(4096)
            sock.detach()


def test_what_is_ready_when_a_thread_leads_no_more_is_dealt_with_by_who_leads(tmp_path):
    with connected(tmp_path) as (poller, _client), contextlib.ExitStack() as stack:
        relay = Relay()
        fast = make(poller, relay)
        start = stack.enter_context(leading(poller, relay, fast))

        def respond(*_request):
            if relay.epoch == 1:
                # It runs long, and the next leader waits already when this one has polled, as it may by chance.
                fast.reclaim()
                in_hand = [poller._ready.popleft() for _ in range(len(poller._ready))]
                start(2)
                poller._ready.extend(in_hand)
            return b"Status: 200 OK\r\n\r\nhello"

        poller._server.respond = respond
        pairs = [socket.socketpair() for _ in range(3)]
        for ours, theirs in pairs:
            stack.enter_context(theirs)
            theirs.settimeout(10)
            poller._adopt(poller._make(poller.socket_of(ours.detach()), poller._server, poller._connections, Seat(0)),
                          Seat(0))
            theirs.sendall(REQUEST)
        start(1)
        for _ours, theirs in pairs:
            assert b"hello" in theirs.recv(4096)


def script(routes, name, handle, host=None):
    """Make known a script with one state, which is not pooled; the records that ask for it."""
    wanted = (name, b"/")
    entry = Entry(SimpleNamespace(path=name, root=b"/"), None, 0)
    state = LuaState.__new__(LuaState)
    state.version = state.running = state._allowance = None
    state.entry, state.pooled, state.broken, state.served = entry, False, False, False
    state._handle, state._target, state._host = handle, Target(None), host
    entry.idle.append(state)
    routes.learn(Route(float("inf"), 0, wanted, entry, name))
    params = encode({b"SCRIPT_FILENAME": name, b"DOCUMENT_ROOT": b"/"})
    return begin(1, records.RESPONDER, KEEP_CONN) + records.pack(records.PARAMS, 1, params) + records.tail(1)


@contextlib.contextmanager
def asking(poller, *requests):
    """Kept connections by which these have come; the web server's ends."""
    with contextlib.ExitStack() as stack:
        found = []
        for data in requests:
            ours, theirs = socket.socketpair()
            stack.enter_context(theirs).settimeout(10)
            connection = poller._make(poller.socket_of(ours.detach()), poller._server, poller._connections, Seat(0))
            poller._adopt(connection, Seat(0))
            theirs.sendall(data)
            found.append(theirs)
        yield found


def test_an_answer_is_its_own_where_the_end_of_its_state_runs_code_that_lets_another_thread_in(tmp_path):
    class Ends:
        def __del__(self):
            fast.run(Seat(1), 0)

    def second(*_arguments):
        relay.epoch = 1
        return b"Status: 200 OK\r\n\r\nsecond"

    with connected(tmp_path) as (poller, _client):
        relay, routes = Relay(), Routes()
        fast = make(poller, relay, routes, lambda state: None)
        poller.stop_accepting()
        requests = [script(routes, b"/first", lambda *_: b"Status: 200 OK\r\n\r\nfirst", Ends()),
                    script(routes, b"/second", second)]
        with asking(poller, *requests) as clients:
            fast.run(Seat(0), 0)
            assert b"first" in clients[0].recv(4096)
            assert b"second" in clients[1].recv(4096)


@pytest.mark.parametrize("fault", ["before the script", "after it"])
def test_after_a_fault_of_ours_nothing_is_left_half_done(tmp_path, fault):
    cells = memoryview(bytearray(1024)).cast("Q")
    back, ran = [], []

    def run(*_arguments):
        ran.append(1)
        seat.requests = "no number"
        return b"Status: 200 OK\r\n\r\nfirst"

    with connected(tmp_path) as (poller, _client):
        relay, routes, seat = Relay(), Routes(), Seat(0)
        fast = make(poller, relay, routes, lambda state: back.append(state.running), cells)
        poller.stop_accepting()
        with asking(poller, script(routes, b"/first", run)) as [client]:
            [connection] = poller._connections.values()
            if fault == "before the script":
                seat.bytes_in = "no number"
            with pytest.raises(TypeError):
                fast.run(seat, 0)
            assert client.recv(4096) == b"", "the web server does not wait"
        assert (back, len(ran)) == ([None], int(fault == "after it"))
        assert (seat.serving, seat.state, cells[seat._base + STATE]) == (False, None, 0)
        assert not connection.open and connection.lock.acquire(False)
        assert (poller.count(), poller._waiting) == (0, set())


def test_a_class_that_has_lost_a_slot_is_told_as_what_an_installation_of_another_version_is(tmp_path, monkeypatch):
    monkeypatch.setattr(fastpath, "Relay", type("Relay", (), {}))
    with connected(tmp_path) as (poller, _client), pytest.raises(TypeError, match="has no slot epoch"):
        make(poller, Relay())
