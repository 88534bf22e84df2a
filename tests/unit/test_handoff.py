"""Connections that go from one worker to another: whole, unread, and not into programs of scripts."""
from __future__ import annotations

import os
import socket

from luafcgid2.handoff import Handoff


def test_a_connection_arrives_with_what_nobody_has_read():
    handoff = Handoff()
    ours, theirs = socket.socketpair()
    theirs.sendall(b"a request")
    assert handoff.give(ours.fileno(), served=True)
    ours.close()
    fd, served = handoff.take()
    with socket.socket(fileno=fd) as taken, theirs:
        assert (taken.recv(100), served) == (b"a request", True)
        assert not os.get_inheritable(fd)


def test_it_is_told_whether_a_request_was_answered():
    handoff = Handoff()
    with socket.socket() as sock:
        handoff.give(sock.fileno(), served=False)
    fd, served = handoff.take()
    os.close(fd)
    assert served is False


def test_an_empty_queue_gives_nothing_at_once():
    assert Handoff().take() is None


def test_a_full_queue_says_so_at_once_and_loses_nothing():
    handoff, given = Handoff(), 0
    with socket.socket() as sock:
        while handoff.give(sock.fileno(), served=True):
            given += 1
    assert given > 8
    taken = 0
    while (found := handoff.take()) is not None:
        os.close(found[0])
        taken += 1
    assert taken == given


def test_the_next_master_goes_on_with_the_same_queue():
    handoff = Handoff()
    heir = Handoff([os.dup(fd) for fd in handoff.fds])
    with socket.socket() as sock:
        handoff.give(sock.fileno(), served=True)
    assert handoff.take() and heir.take() is None
    assert not any(map(os.get_inheritable, heir.fds))
