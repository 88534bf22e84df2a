"""AllowedClients: who may connect over TCP."""
from __future__ import annotations

import contextlib
import logging
import socket

import pytest
from test_conformance import Lines

from luafcgid2.allowed import BURST, Allowed, clients
from luafcgid2.complaints import Complaints
from luafcgid2.errors import ListenError


@pytest.fixture
def door():
    """make(allowed, family) -> (Allowed, connect(), lines of the log)."""
    with contextlib.ExitStack() as stack:
        def make(allowed, family=socket.AF_INET, where="127.0.0.1", mapped=False):
            listener = stack.enter_context(socket.socket(family))
            if mapped:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(("::" if mapped else where, 0))
            listener.listen(128)
            listener.setblocking(False)
            log, logger = Lines(), logging.Logger("allowed", logging.INFO)
            logger.addHandler(log)

            def connect():
                return stack.enter_context(socket.create_connection((where, listener.getsockname()[1]), 10))
            return Allowed(listener, allowed, Complaints(logger)), connect, log.lines
        yield make


@pytest.mark.parametrize("allowed", [["127.0.0.1"], ["127.0.0.0/8"], ["192.0.2.1", "127.0.0.1"], ["127.9.9.9/8"]])
def test_a_client_on_the_list_is_let_in(door, allowed):
    listener, connect, lines = door(allowed)
    with connect() as client:
        fd, peer = listener.accept()
        with socket.socket(fileno=fd):
            assert peer == client.getsockname()
    assert not lines


def test_a_client_that_is_not_on_the_list_is_closed_at_once_and_said_so_once(door):
    listener, connect, lines = door(["192.0.2.1", "127.0.0.2/32", "::1"])
    for _ in range(3):
        client = connect()
        with pytest.raises(BlockingIOError):
            listener.accept()
        assert client.recv(1) == b""
    assert lines == ["connection closed: 127.0.0.1 is not in AllowedClients"]


def test_a_flood_of_refused_clients_gives_others_their_turn(door):
    listener, connect, _lines = door(["192.0.2.1"])
    clients = [connect() for _ in range(BURST + 1)]
    with pytest.raises(ConnectionAbortedError):
        listener.accept()
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert len(clients) == BURST + 1


def test_an_ipv4_client_of_an_ipv6_listener_is_known_by_its_ipv4_address(door):
    listener, connect, _lines = door(["127.0.0.1"], socket.AF_INET6, mapped=True)
    with connect():
        with socket.socket(fileno=listener.accept()[0]) as found:
            assert found.getpeername()[0] == "::ffff:127.0.0.1"


def test_a_web_server_that_starts_us_may_say_who_it_is():
    environ = {"FCGI_WEB_SERVER_ADDRS": "127.0.0.1,192.0.2.7"}
    assert clients((), environ) == ["127.0.0.1", "192.0.2.7"]
    assert clients(("::1",), environ) == ("::1",)
    assert not clients((), {}) and not clients((), {"FCGI_WEB_SERVER_ADDRS": ""})
    with pytest.raises(ListenError, match="FCGI_WEB_SERVER_ADDRS = 'nobody'"):
        clients((), {"FCGI_WEB_SERVER_ADDRS": "nobody"})


def test_complaints_are_counted_while_they_are_not_logged(monkeypatch):
    log, logger = Lines(), logging.Logger("complaints", logging.INFO)
    logger.addHandler(log)
    complaints = Complaints(logger)
    for _ in range(3):
        complaints.say("full", "no room")
    complaints.say("other", "another kind")
    monkeypatch.setattr("luafcgid2.complaints.PAUSE", 0)
    complaints._kinds["full"] = 0, complaints._kinds["full"][1]
    complaints.say("full", "no room")
    assert log.lines == ["no room", "another kind", "no room (and 2 more since the last line)"]
