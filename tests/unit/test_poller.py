"""The connections of one worker, in one thread: what comes in the middle of a look at them is not lost."""
from __future__ import annotations

import logging
import socket

from luafcgid2 import records
from luafcgid2.body import Limits
from luafcgid2.complaints import Complaints
from luafcgid2.fcgi import Server
from luafcgid2.poller import Poller
from luafcgid2.records import KEEP_CONN, begin
from luafcgid2.seat import Seat
from luafcgid2.timeouts import Timeouts


def test_a_request_that_comes_while_the_main_thread_looks_at_its_connection_is_served(tmp_path):
    logger, seat = logging.Logger("poller", logging.CRITICAL), Seat(0)
    complaints = Complaints(logger)
    server = Server(lambda *request: b"X: 1\r\n\r\nhello", Limits(8192, 1 << 20, 1 << 20, None, 1 << 20), logger, 1, 1)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "sock"))
        listener.listen(1)
        listener.setblocking(False)
        poller = Poller(listener, server, 9, Timeouts(0, 0, 0, 9, complaints), complaints)
        poller.accept_connections()
        client.connect(str(tmp_path / "sock"))
        client.settimeout(10)
        poller.poll()
        while not poller.idle:
            poller.step(seat, lambda: True)
        [connection] = poller._connections.values()
        client.sendall(begin(1, records.RESPONDER, KEEP_CONN) + records.tail(1))
        # What a thread does that finds the lock taken.
        connection.pending = True
        assert poller.close_idle(seat) == 2, "the connection, and that it is ready"
        poller.poll()
        while not poller.idle:
            poller.step(seat, lambda: True)
        assert b"hello" in client.recv(4096)
        connection.close()
