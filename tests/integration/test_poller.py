"""The connections of one worker, in one thread: what comes in the middle of a look at them is not lost."""
from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import threading
from types import SimpleNamespace

import pytest

from luafcgid2 import records
from luafcgid2.body import Limits
from luafcgid2.complaints import Complaints
from luafcgid2.fcgi import Server
from luafcgid2.poller import Poller
from luafcgid2.records import KEEP_CONN, begin
from luafcgid2.relay import Relay
from luafcgid2.seat import Seat
from luafcgid2.timeouts import Timeouts
from luafcgid2.watched import Watched
from luafcgid2.worker import Worker


@contextlib.contextmanager
def connected(folder):
    """(poller, client) of a worker without threads whose every answer is the same."""
    logger = logging.Logger("poller", logging.CRITICAL)
    complaints = Complaints(logger)
    server = Server(lambda *request: b"X: 1\r\n\r\nhello", Limits(8192, 1 << 20, 1 << 20, None, 1 << 20), logger, 1, 1)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(folder / "sock"))
        listener.listen(1)
        listener.setblocking(False)
        poller = Poller(listener, server, 9, Timeouts(0, 0, 0, 9, complaints), complaints)
        poller.accept_connections()
        client.connect(str(folder / "sock"))
        client.settimeout(10)
        yield poller, client
        for connection in list(poller._connections.values()):
            connection.close()


def serve(poller, seat):
    """What is ready, once."""
    poller.poll()
    while not poller.idle:
        poller.step(seat, lambda: True)


def test_a_request_that_comes_while_the_main_thread_looks_at_its_connection_is_served(tmp_path):
    seat = Seat(0)
    with connected(tmp_path) as (poller, client):
        serve(poller, seat)
        [connection] = poller._connections.values()
        client.sendall(begin(1, records.RESPONDER, KEEP_CONN) + records.tail(1))
        # What a thread does that finds the lock taken.
        connection.pending = True
        assert poller.close_idle(seat) == 2, "the connection, and that it is ready"
        serve(poller, seat)
        assert b"hello" in client.recv(4096)


def test_a_thread_that_begins_to_poll_while_the_main_thread_has_a_request_in_hand_is_woken_for_it(tmp_path):
    seat, worker = Seat(0), Worker.__new__(Worker)
    with connected(tmp_path) as (poller, client):
        worker._poller, worker._relay, worker._monitor = poller, Relay(), SimpleNamespace(tick=int)
        worker._slot, worker._alert, worker._relay.leader = SimpleNamespace(busy=0), 0, seat
        client.sendall(begin(1) + records.tail(1))
        for _look in range(2):
            # All threads are busy: the connection is taken, its request is left to them.
            poller.stand_in(Seat(1), lambda params: False, True, False)
        in_hand = [poller._ready.popleft() for _ in range(len(poller._ready))]
        assert len(in_hand) == 1
        thread = threading.Thread(target=serve, args=(poller, seat), daemon=True)
        seat.polling = True
        thread.start()
        poller._ready.extend(in_hand)
        worker._look(0, 0)
        thread.join(10)
        alive = thread.is_alive()
        os.write(poller._wake_write, b"x")
        assert not alive
        assert b"hello" in client.recv(4096)


@pytest.mark.parametrize("look", [lambda poller: poller._make_room(), lambda poller: poller.check_times()],
                         ids=["for room", "at its time"])
def test_a_request_that_comes_while_somebody_looks_at_its_connection_is_left_to_a_thread(tmp_path, monkeypatch, look):
    def edge(connection):
        # What a thread does that finds the lock taken.
        connection.pending = True
        return False
    with connected(tmp_path) as (poller, client):
        serve(poller, Seat(0))
        [connection] = poller._connections.values()
        connection.served, connection.deadline = True, 0.0
        poller._waiting.add(connection)
        monkeypatch.setattr(Watched, "quiet", property(edge))
        look(poller)
        assert list(poller._ready) == [(connection.fileno(), 0)]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_an_accept_without_descriptors_costs_a_kept_connection_only_if_somebody_waits(tmp_path, number):
    with connected(tmp_path) as (poller, client), socket.socket(socket.AF_UNIX) as other:
        client.sendall(begin(1, records.RESPONDER, KEEP_CONN) + records.tail(1))
        serve(poller, Seat(0))
        [connection] = poller._connections.values()
        # What the kernel says before it looks whether anybody waits.
        poller.accept_failed(OSError(number, "no descriptors"))
        assert connection.open and not poller.paused_until
        other.connect(str(tmp_path / "sock"))
        poller.accept_failed(OSError(number, "no descriptors"))
        assert not connection.open and not poller.paused_until
        poller.accept_failed(OSError(number, "no descriptors"))
        assert poller.paused_until


def test_two_threads_may_be_told_of_one_wake(tmp_path):
    with connected(tmp_path) as (poller, _client):
        poller.wake()
        for _thread in range(2):
            poller.poll()
        while not poller.idle:
            poller.step(Seat(0), lambda: True)
        poller.wake()
        serve(poller, Seat(0))
