"""What workers tell the master through the pipe, whole or in pieces, and what is no message."""
from __future__ import annotations

import os

import pytest

from luafcgid2.decisions import Strike
from luafcgid2.ready import MESSAGE_BYTES, BootPipe, Reporter


@pytest.fixture
def pipe():
    with BootPipe() as made:
        yield made


def drain(pipe):
    """hear() until nothing comes any more."""
    strikes, changed = list(pipe.strikes), list(pipe.changed)
    pipe.strikes.clear()
    pipe.changed.clear()
    return strikes, changed


def test_nothing_told_is_nothing_heard(pipe):
    assert pipe.hear() == (0, "") and drain(pipe) == ([], [])


def test_workers_that_serve_are_counted_and_the_last_error_is_kept(pipe):
    os.write(pipe.write_fd, b"11")
    pipe.cannot("no Lua")
    pipe.cannot("no\0store: \udcff")
    os.write(pipe.write_fd, b"1")
    assert pipe.hear() == (3, "no store: \\udcff")


@pytest.mark.parametrize("strike", [
    Strike(b"/www/a.lua", "timeout", 12345), Strike(b"/www/b\n=#!1.lua", "memory", 0),
    Strike(b"/\xff\xfe", "death", 2 ** 64 - 1)], ids=lambda strike: strike.reason)
def test_a_strike_arrives_as_it_was_told(pipe, strike):
    Reporter(pipe.write_fd).strike(strike)
    assert pipe.hear() == (0, "")
    assert drain(pipe) == ([strike], [])


def test_messages_of_all_kinds_keep_their_order_and_do_not_mix(pipe):
    reporter = Reporter(pipe.write_fd)
    os.write(pipe.write_fd, b"1")
    reporter.strike(Strike(b"/a.lua", "timeout", 1))
    reporter.changed(b"/b.lua")
    pipe.cannot("why")
    reporter.strike(Strike(b"/c.lua", "memory", 2))
    os.write(pipe.write_fd, b"1")
    assert pipe.hear() == (2, "why")
    assert drain(pipe) == ([Strike(b"/a.lua", "timeout", 1), Strike(b"/c.lua", "memory", 2)], [b"/b.lua"])


def test_a_message_that_comes_byte_by_byte_is_heard_once_it_is_whole(pipe):
    for byte in b"#t%016x/a.lua\0" % 7:
        assert drain(pipe) == ([], [])
        os.write(pipe.write_fd, bytes([byte]))
        assert pipe.hear() == (0, "")
    assert drain(pipe) == ([Strike(b"/a.lua", "timeout", 7)], [])


@pytest.mark.parametrize("garbage", [
    b"\0", b"xyz", b"#\0", b"#t\0", b"#t0000/a.lua\0", b"#x%016x/a.lua\0" % 1, b"#t%016xno-slash\0" % 1,
    b"#tzzzzzzzzzzzzzzzz/a.lua\0", bytes(range(256)).replace(b"1", b"").replace(b"!", b"").replace(b"=", b""),
    b"#" + b"x" * (MESSAGE_BYTES + 2)], ids=range(10))
def test_what_is_no_message_is_skipped_and_the_next_one_is_heard(pipe, garbage):
    os.write(pipe.write_fd, garbage)
    assert pipe.hear()[0] == 0
    os.write(pipe.write_fd, b"\0")
    pipe.hear()
    Reporter(pipe.write_fd).strike(Strike(b"/a.lua", "timeout", 1))
    os.write(pipe.write_fd, b"1")
    assert pipe.hear()[0] == 1
    assert drain(pipe) == ([Strike(b"/a.lua", "timeout", 1)], [])


def test_random_bytes_never_raise(pipe):
    for _ in range(300):
        os.write(pipe.write_fd, os.urandom(1000))
        pipe.hear()
    assert all(strike.path.startswith(b"/") for strike in pipe.strikes)


def test_a_worker_never_waits_for_a_master_that_does_not_read(pipe):
    reporter = Reporter(pipe.write_fd)
    for _ in range(10000):
        reporter.strike(Strike(b"/" + b"a" * 100, "timeout", 1))
    pipe.hear()
    strikes, _ = drain(pipe)
    assert 0 < len(strikes) < 10000
    assert set(strikes) == {Strike(b"/" + b"a" * 100, "timeout", 1)}


def test_a_worker_whose_master_is_gone_is_not_harmed():
    fd, write_fd = os.pipe()
    os.close(fd)
    Reporter(write_fd).strike(Strike(b"/a.lua", "timeout", 1))
    os.close(write_fd)


def test_a_path_that_would_break_the_message_is_not_told(pipe):
    reporter = Reporter(pipe.write_fd)
    reporter.changed(b"/a\0b")
    reporter.changed(b"/" + b"x" * 5000)
    reporter.changed(b"/ok.lua")
    pipe.hear()
    assert drain(pipe) == ([], [b"/ok.lua"])
