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
from luafcgid2.records import KEEP_CONN, begin
from luafcgid2.relay import Relay
from luafcgid2.seat import Seat
from luafcgid2.worker import Worker

pytestmark = pytest.mark.skipif(not fastpath.BUILT, reason="the fast path is not built here")
REQUEST = begin(1, records.RESPONDER, KEEP_CONN) + records.pack(records.PARAMS, 1, b"\1\1ab") + records.tail(1)


def make(poller, relay):
    """A FastPath that knows no routes."""
    pool, responder = SimpleNamespace(queues=([], [], []), pending=False), SimpleNamespace(
        routes=SimpleNamespace(known={}))
    fast = fastpath.FastPath(poller, poller._server, responder, pool, relay, memoryview(bytearray(1024)).cast("Q"),
                             False, ())
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
    with connected(tmp_path) as (poller, client):
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
    with connected(tmp_path) as (poller, client), contextlib.ExitStack() as stack:
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


def test_a_class_that_has_lost_a_slot_is_told_as_what_an_installation_of_another_version_is(tmp_path, monkeypatch):
    monkeypatch.setattr(fastpath, "Relay", type("Relay", (), {}))
    with connected(tmp_path) as (poller, _client), pytest.raises(TypeError, match="has no slot epoch"):
        make(poller, Relay())
