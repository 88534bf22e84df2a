"""The last failed requests are kept in memory, without secrets, whatever becomes of who wrote them."""
from __future__ import annotations

import io
import os

import pytest

from luafcgid2 import kept
from luafcgid2.kept import Kept
from luafcgid2.masks import masked
from luafcgid2.params import encode


@pytest.fixture
def memory():
    """Room for the master and two workers, three entries each; it is found through our own pid."""
    found = Kept(2, 3)
    yield found
    os.close(found._fd)


def keep(writer, number, **more):
    writer.keep(500, "message %d" % number, "traceback", 0.25, {b"SCRIPT_FILENAME": b"/x.lua"}, **more)


def test_what_was_kept_is_read_in_the_order_of_time(memory):
    keep(memory.writer(1), 1)
    keep(memory.writer(0), 2, body=b"body")
    memory.writer(-1).keep(0, "died", "", 0, {}, script=b"/y.lua")
    first, second, third = kept.read(os.getpid())
    assert (first.id, first.message, first.traceback, first.seconds) == ("2.1", b"message 1", b"traceback", 0.25)
    assert (second.id, second.status, second.body, second.size) == ("1.1", 500, b"body", 4)
    assert (third.id, third.status, third.script) == ("0.1", 0, b"/y.lua")


def test_only_the_last_ones_stay(memory):
    for number in range(1, 6):
        keep(memory.writer(number % 2), number)
    assert [entry.message for entry in kept.read(os.getpid())] == [b"message 3", b"message 4", b"message 5"]


def test_a_successor_in_the_slot_goes_on_counting(memory):
    keep(memory.writer(0), 1)
    keep(memory.writer(0), 2)
    assert [entry.id for entry in kept.read(os.getpid())] == ["1.1", "1.2"]


def test_an_entry_that_was_half_written_is_skipped(memory):
    keep(memory.writer(0), 1)
    keep(memory.writer(0), 2)
    os.pwrite(memory._fd, b"?", kept._ring(1, 3) + 8 + kept._HEAD.size + 10)
    assert [entry.id for entry in kept.read(os.getpid())] == ["1.2"]


def test_a_large_request_is_cut_and_says_so(memory):
    writer = memory.writer(0)
    writer.keep(500, "m" * 10000, "t" * 10000, 0, {b"N%d" % number: b"v" * 3000 for number in range(20)},
                io.BytesIO(b"x" * 100000))
    entry, = kept.read(os.getpid())
    assert entry.cut and entry.size == 100000 and entry.body == b"x" * kept.BODY
    assert 0 < len(encode(entry.params)) <= kept.PARAMS and entry.message == b"m" * kept.MESSAGE
    writer.keep(500, "m", "", 0, {b"N": b"v"}, b"small")
    assert not kept.read(os.getpid())[1].cut


def test_the_largest_entry_fits():
    names = 5 * 30 + 100
    assert kept._HEAD.size + kept.PARAMS + kept.BODY + kept.MESSAGE + kept.TRACEBACK + 1024 + names < kept.ENTRY


def test_none_are_kept_where_the_option_is_0():
    assert Kept(2, 0).writer(0) is None
    with pytest.raises(LookupError):
        kept.read(os.getpid())


def test_secrets_are_never_written(memory):
    memory.writer(0).keep(500, "", "", 0, {b"HTTP_COOKIE": b"session=abcdef; b=ghijkl",
                                           b"HTTP_AUTHORIZATION": b"Basic c2VjcmV0"})
    assert kept.read(os.getpid())[0].params == {b"HTTP_COOKIE": b"session=***; b=***",
                                                b"HTTP_AUTHORIZATION": b"Basic ***"}
    content = os.pread(memory._fd, 1 << 20, 0)
    assert not any(secret in content for secret in (b"abcdef", b"ghijkl", b"c2VjcmV0"))


@pytest.mark.parametrize("name, value, expected", [
    (b"HTTP_COOKIE", b"only", b"***"), (b"HTTP_COOKIE", b"", b""), (b"HTTP_AUTHORIZATION", b"abc", b"***"),
    (b"HTTP_PROXY_AUTHORIZATION", b"Bearer x y", b"Bearer ***"), (b"HTTP_X_API_KEY", b"k", b"***"),
    (b"HTTP_X_CSRF_TOKEN", b"k", b"***"), (b"DB_PASSWORD", b"k", b"***"), (b"HTTP_ACCEPT", b"k", b"k")])
def test_a_secret_is_known_by_its_name(name, value, expected):
    assert masked({name: value}) == {name: expected}
