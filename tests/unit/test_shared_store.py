"""The shared dictionary keeps its protocol in every store: see luafcgid2/sessions/shared_store.py."""
from __future__ import annotations

import math
import sqlite3
import struct
from contextlib import closing

import pytest
from stores import eventually, in_threads, make_store  # noqa: F401

from luafcgid2.errors import SessionError
from luafcgid2.sessions import shared_sqlite

MANY = 1 << 20
SOON = 0.05
EVERYTHING = bytes(range(256))


@pytest.fixture
def shared(make_store):  # noqa: F811
    return make_store().shared(MANY)


def same(found, value):
    return type(found) is type(value) and found == value


# What is stored

@pytest.mark.parametrize("value", [
    b"", b"s3:abc", EVERYTHING, b"5", b"1.5", b"x" * 200_000, 0, 5, -7, 2 ** 63 - 1, -2 ** 63, 2 ** 53 + 1,
    0.0, 5.0, 0.1, -1.5e300, 5e-324, 1.7976931348623157e308, float(2 ** 60)])
def test_a_value_comes_back_as_it_was(shared, value):
    shared.set(b"key", value, 0.0)
    assert same(shared.get(b"key"), value)


def test_a_key_may_be_any_bytes(shared):
    for key in (b"", b"\0", EVERYTHING, "schlüssel".encode(), b"a*b?[c]\\"):
        shared.set(key, key, 0.0)
        assert shared.get(key) == key
        assert shared.delete(key)


def test_an_unknown_key_has_nothing(shared):
    assert shared.get(b"nothing") is None
    assert shared.ttl(b"nothing") is None
    assert shared.delete(b"nothing") is False
    assert shared.keys(b"", 0) == []


def test_set_replaces_value_type_and_time(shared):
    shared.set(b"key", b"text", SOON)
    shared.set(b"key", 1.5, 0.0)
    assert (shared.get(b"key"), shared.ttl(b"key")) == (1.5, 0.0)
    shared.set(b"key", b"again", 1000.0)
    assert shared.get(b"key") == b"again" and 900 < shared.ttl(b"key") <= 1000


def test_add_stores_only_where_nothing_is(shared):
    assert shared.add(b"key", b"first", 0.0) is True
    assert shared.add(b"key", b"second", 5.0) is False
    assert (shared.get(b"key"), shared.ttl(b"key")) == (b"first", 0.0)
    shared.delete(b"key")
    assert shared.add(b"key", 2, 1000.0) is True
    assert shared.get(b"key") == 2 and 900 < shared.ttl(b"key") <= 1000


def test_delete_removes_once(shared):
    shared.set(b"key", 1, 0.0)
    assert shared.delete(b"key") is True
    assert shared.delete(b"key") is False
    assert shared.get(b"key") is None


def test_every_worker_sees_every_write_at_once(make_store):  # noqa: F811
    one, two = make_store().shared(MANY), make_store().shared(MANY)
    one.set(b"key", b"1", 0.0)
    assert two.get(b"key") == b"1"
    assert two.incr(b"n", 5, 0, 0.0) == 5
    assert one.incr(b"n", 1, None, 0.0) == 6
    two.delete(b"key")
    assert one.get(b"key") is None


def test_what_was_stored_is_there_after_closing(make_store):  # noqa: F811
    store = make_store()
    store.shared(MANY).set(b"key", 7, 0.0)
    store.close()
    assert store.shared(MANY).get(b"key") == 7


# Counting

@pytest.mark.parametrize("start, by, end", [
    (5, 1, 6), (5, -7, -2), (2 ** 53, 1, 2 ** 53 + 1), (2 ** 63 - 2, 1, 2 ** 63 - 1), (-2 ** 63, 5, -2 ** 63 + 5),
    (1.5, 1.5, 3.0), (1, 0.5, 1.5), (1.0, 1, 2.0), (0.1, 0.2, 0.1 + 0.2), (1e300, 1, 1e300), (-0.5, 0.5, 0.0)])
def test_incr_gives_and_keeps_the_sum(shared, start, by, end):
    shared.set(b"key", start, 0.0)
    assert same(shared.incr(b"key", by, None, 0.0), end)
    assert same(shared.get(b"key"), end)


def test_incr_of_nothing_starts_at_init_or_does_nothing(shared):
    assert shared.incr(b"key", 5, None, 0.0) is None
    assert shared.get(b"key") is None
    assert shared.incr(b"key", 5, 100, 0.0) == 105
    assert shared.incr(b"key", 5, 100, 0.0) == 110
    assert same(shared.incr(b"half", 1, 0.5, 0.0), 1.5)
    assert shared.ttl(b"key") == 0.0


def test_incr_sets_the_time_of_a_new_entry_only(shared):
    shared.incr(b"key", 1, 0, 1000.0)
    assert 900 < shared.ttl(b"key") <= 1000
    shared.incr(b"key", 1, 0, 5000.0)
    assert 900 < shared.ttl(b"key") <= 1000
    shared.incr(b"key", 1, 0, 0.0)
    assert 900 < shared.ttl(b"key") <= 1000
    shared.set(b"ever", 1, 0.0)
    shared.incr(b"ever", 0.5, 0, 1000.0)
    assert shared.ttl(b"ever") == 0.0


@pytest.mark.parametrize("value", [b"5", b"i5;", b"text", b""])
def test_incr_of_what_is_no_number_is_an_error_that_names_the_key(shared, value):
    shared.set(b"a key", value, 0.0)
    for by in (1, 0.5):
        with pytest.raises(SessionError, match='"a key" is not a number'):
            shared.incr(b"a key", by, 0, 0.0)
    assert shared.get(b"a key") == value


@pytest.mark.parametrize("start, by", [(2 ** 63 - 1, 1), (-2 ** 63, -1), (1.7e308, 1.7e308), (-1.7e308, -1.7e308)])
def test_a_sum_that_cannot_be_kept_is_an_error_that_names_the_key(shared, start, by):
    shared.set(b"a key", start, 0.0)
    with pytest.raises(SessionError, match='"a key" would become too large'):
        shared.incr(b"a key", by, None, 0.0)
    assert same(shared.get(b"a key"), start)
    with pytest.raises(SessionError, match="too large"):
        shared.incr(b"new", by, start, 0.0)
    assert shared.get(b"new") is None


def test_an_error_shows_a_long_key_shortened_and_on_one_line(shared):
    key = b"line\nbreak" + b"x" * 500
    shared.set(key, b"", 0.0)
    with pytest.raises(SessionError) as caught:
        shared.incr(key, 1, None, 0.0)
    assert "line\\nbreak" in str(caught.value) and len(str(caught.value)) < 250


def test_no_increment_is_lost_among_threads_and_stores(make_store):  # noqa: F811
    stores = [make_store().shared(MANY) for _ in range(2)]
    in_threads(lambda number: [stores[number % 2].incr(b"n", 1, 0, 0.0) for _ in range(50)], 8)
    assert stores[0].get(b"n") == 400


def test_of_many_that_add_one_wins(make_store):  # noqa: F811
    stores = [make_store().shared(MANY) for _ in range(2)]
    won = []
    in_threads(lambda number: won.append(number) if stores[number % 2].add(b"key", number, 0.0) else None, 8)
    assert won == [stores[0].get(b"key")]


# Time

def test_an_entry_is_invisible_when_its_time_is_over(shared):
    shared.set(b"text", b"x", SOON)
    shared.set(b"number", 1, SOON)
    shared.incr(b"counter", 1, 0, SOON)
    eventually(lambda: shared.get(b"text") is shared.get(b"number") is shared.get(b"counter") is None)
    assert shared.keys(b"", 0) == []
    assert shared.ttl(b"text") is None
    assert shared.delete(b"text") is False
    assert shared.incr(b"number", 1, None, 0.0) is None
    assert shared.incr(b"counter", 1, 10, 0.0) == 11
    assert shared.add(b"text", b"y", 0.0) is True


def test_the_remaining_time_goes_down_and_is_never_0(shared):
    shared.set(b"key", b"x", 100.0)
    first = shared.ttl(b"key")
    eventually(lambda: shared.ttl(b"key") < first)
    shared.set(b"key", b"x", SOON)
    left = SOON
    while left is not None:
        assert 0 < left <= SOON
        left = shared.ttl(b"key")


@pytest.mark.parametrize("ttl", [0.001, 1e9])
def test_the_least_and_the_greatest_time_are_accepted(shared, ttl):
    shared.set(b"key", b"x", ttl)
    shared.incr(b"n", 1, 0, ttl)
    shared.add(b"other", b"x", ttl)
    assert (shared.get(b"key") == b"x") or ttl < 1


# Keys

def test_keys_gives_those_with_the_prefix(shared):
    names = [b"a", b"ab", b"abc", b"b", b"a*", b"a\xff", b"a\xff\xff", b"a\xff\xffz", b"\xff", b"\xff\xffx", b"["]
    for name in names:
        shared.set(name, b"", 0.0)
    for prefix in names + [b"", b"a\xff\xff\xff", b"a?", b"*"]:
        assert sorted(shared.keys(prefix, 0)) == sorted(name for name in names if name.startswith(prefix))


def test_keys_gives_at_most_the_limit(shared):
    for number in range(30):
        shared.set(b"key%d" % number, number, 0.0)
    found = shared.keys(b"key", 10)
    assert len(set(found)) == len(found) == 10 and all(shared.get(key) is not None for key in found)
    assert len(shared.keys(b"", 0)) == 30


def test_shared_entries_are_apart_from_sessions(make_store):  # noqa: F811
    store = make_store()
    store.shared(MANY).set(b"key", b"x", 0.0)
    assert store.load(b"key", 0) is None


# Bounds.  Redis bounds itself in its own way: these are the promises of the store that has a clock to turn.

class Clock:
    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def small(make_store, clock):  # noqa: F811
    if make_store.kind != "sqlite":
        pytest.skip("its server evicts")
    found = make_store().shared(10_000)
    found.clock = clock
    return found


def file_of(make_store):  # noqa: F811
    return make_store().path


def size_in(make_store):  # noqa: F811
    """(what the store believes, what is there) in bytes."""
    with closing(sqlite3.connect(file_of(make_store))) as connection:
        real = "SELECT coalesce(sum(%s), 0) FROM shared" % shared_sqlite.SIZE
        return (connection.execute("SELECT bytes FROM shared_size").fetchone()[0],
                connection.execute(real).fetchone()[0])


def test_the_store_counts_its_bytes_right(small, make_store, clock):  # noqa: F811
    for number in range(20):
        small.set(b"k%d" % number, b"x" * number * 10, 60.0 if number % 2 else 0.0)
    small.set(b"k3", 5, 0.0)
    small.incr(b"k3", 1.5, None, 0.0)
    small.incr(b"new", 1, 0, 10.0)
    small.set(b"k4", b"", 0.0)
    small.delete(b"k5")
    small.add(b"k6", b"much longer than it was", 0.0)
    believed, real = size_in(make_store)
    assert believed == real > 1000
    clock.now += 61
    small.add(b"k7", b"anew", 0.0)
    small.sweep(100, 60)
    believed, real = size_in(make_store)
    assert believed == real
    for key in small.keys(b"", 0):
        small.delete(key)
    assert size_in(make_store) == (0, 0)


def test_the_bound_holds_and_the_newest_entry_stays(small, make_store):  # noqa: F811
    for number in range(300):
        small.set(b"%d" % number, b"x" * (number * 37 % 900), 0.0)
        assert small.get(b"%d" % number) is not None
        believed, real = size_in(make_store)
        assert believed == real <= 10_000
    assert len(small.keys(b"", 0)) > 5


def test_an_entry_as_large_as_the_bound_drives_out_all_others(small):
    small.set(b"a", b"x" * 100, 0.0)
    small.set(b"big", b"x" * 9_997, 0.0)
    assert small.keys(b"", 0) == [b"big"]


def test_what_is_over_goes_first(small, clock):
    small.set(b"first", b"x" * 4000, 0.0)
    small.set(b"over", b"x" * 4000, 5.0)
    clock.now += 1000
    small.set(b"newest", b"x" * 5000, 0.0)
    assert sorted(small.keys(b"", 0)) == [b"first", b"newest"]


def test_then_what_was_not_used_for_longest_goes(small, clock):
    for name in (b"read", b"unread", b"written"):
        small.set(name, b"x" * 3000, 0.0)
    clock.now += 2 * shared_sqlite.COARSE
    small.get(b"read")
    small.set(b"written", b"y" * 3000, 0.0)
    small.set(b"newest", b"x" * 3000, 0.0)
    assert sorted(small.keys(b"", 0)) == [b"newest", b"read", b"written"]


def test_a_counter_in_use_stays(small, clock):
    small.incr(b"n", 1, 0, 0.0)
    for round in range(10):
        clock.now += 2 * shared_sqlite.COARSE
        small.incr(b"n", 1, 0, 0.0)
        small.set(b"filler%d" % round, b"x" * 6000, 0.0)
    assert small.get(b"n") == 11


def test_of_those_used_alike_the_first_stored_goes(small):
    for name in (b"first", b"second", b"third", b"newest"):
        small.set(name, b"x" * 3000, 0.0)
    assert sorted(small.keys(b"", 0)) == [b"newest", b"second", b"third"]


def test_reading_writes_nothing_and_a_sweep_notes_it_once(small, make_store, clock):  # noqa: F811
    with closing(sqlite3.connect(file_of(make_store))) as watcher:
        def version():
            return watcher.execute("PRAGMA data_version").fetchone()[0]
        small.set(b"key", b"x", 0.0)
        clock.now += 10 * shared_sqlite.COARSE
        before = version()
        for _ in range(10):
            small.get(b"key")
        small.ttl(b"key"), small.keys(b"", 0)
        assert version() == before
        small.sweep(100, 60)
        after = version()
        assert after != before
        small.get(b"key")
        small.sweep(100, 60)
        assert version() == after


def test_a_sweep_removes_what_is_over_in_batches_and_takes_turns(small, make_store, clock):  # noqa: F811
    other = make_store().shared(10_000)
    other.clock = clock
    for number in range(25):
        small.set(b"%d" % number, b"x", 5.0)
    small.set(b"stays", b"x", 0.0)
    assert small.sweep(10, 60) == 0
    clock.now += 6
    assert small.sweep(10, 60) == 10
    assert other.sweep(10, 60) == 0
    assert [small.sweep(10, 60), small.sweep(10, 60), small.sweep(10, 60)] == [10, 5, 0]
    small.set(b"again", b"x", 5.0)
    clock.now += 6
    assert [small.sweep(10, 60), other.sweep(10, 60)] == [0, 0]
    clock.now += 60
    assert other.sweep(10, 60) == 1
    assert small.keys(b"", 0) == [b"stays"]


def test_a_file_of_the_first_format_gets_the_tables_it_lacks(make_store, small):  # noqa: F811
    store = make_store()
    store.check()
    path = file_of(make_store)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("DROP TABLE shared; DROP TABLE shared_size; PRAGMA user_version = 1;"
                                 "DELETE FROM turns WHERE job = 'shared'")
    store.close()
    store.check()
    store.shared(MANY).set(b"key", 1, 0.0)
    assert store.shared(MANY).get(b"key") == 1


def test_a_store_that_fails_is_an_error_that_names_it(make_store, small, tmp_path):  # noqa: F811
    path = file_of(make_store)
    with open(path, "wb") as file:
        file.write(struct.pack("d", math.pi) * 1000)
    for work in (lambda: small.get(b"key"), lambda: small.incr(b"key", 1, 0, 0.0)):
        with pytest.raises(SessionError, match="session store %s(:| ).*not a database" % path):
            work()
