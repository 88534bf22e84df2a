"""The fast path in one process, with a server whose every answer is the same: what none of its threads may lose."""
from __future__ import annotations

import contextlib
import logging
import os
import select
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
        wait_until(lambda: seat.polling)

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
            seat, theirs = Seat(0), theirs
            sock = poller.socket_of(os.dup(ours.fileno()))
            os.close(sock.detach())
            sock = poller.socket_of(poller._listener_fd)
            poller._adopt(poller._make(sock, poller._server, poller._connections, seat), seat)
            start(1)
            theirs.settimeout(10)
            theirs.sendall(REQUEST)
            assert b"hello" in theirs.recv(4096)
            sock.detach()


def test_what_a_thread_has_polled_that_leads_no_more_is_dealt_with_by_who_leads(tmp_path):
    with connected(tmp_path) as (poller, client), contextlib.ExitStack() as stack:
        relay = Relay()
        fast = make(poller, relay)
        start = stack.enter_context(leading(poller, relay, fast))
        start(1)
        # It waits, as it would if it were appointed just as a long request of the first one ends.
        start(2)
        # Ready at once, so that one thread polls them all: mostly the one that has waited for longer.
        one, other = os.pipe()
        same = [os.dup(one) for _ in range(8)]
        for fd in same:
            poller._epoll.register(fd, select.EPOLLIN | select.EPOLLET)
            stack.callback(os.close, fd)
        os.write(other, b"x")
        wait_until(lambda: poller.idle and not fast.queued)
        os.close(one)
        os.close(other)


def test_a_class_that_has_lost_a_slot_is_told_as_what_an_installation_of_another_version_is(tmp_path, monkeypatch):
    monkeypatch.setattr(fastpath, "Relay", type("Relay", (), {}))
    with connected(tmp_path) as (poller, _client), pytest.raises(TypeError, match="has no slot epoch"):
        make(poller, Relay())
