"""Every session store keeps what it acknowledged, for all workers alike; see the protocol in luafcgid2.sessions."""
from __future__ import annotations

import pytest
from stores import LATER, NOW, changed, created, in_threads, make_store  # noqa: F401

from luafcgid2.errors import SessionError
from luafcgid2.sessions import GONE, MOVED, STORED, Change

EVERYTHING = bytes(range(256))


@pytest.fixture
def store(make_store):  # noqa: F811
    return make_store()


def test_what_was_stored_is_found_with_every_byte(store):
    everything = bytes(range(256))
    store.commit(created(everything, sets={(everything, everything): everything, (b"realm", b""): b""}))
    found = store.load(everything, NOW)
    assert (found.identity, found.expires) == (b"identity", LATER)
    assert found.realms == {everything: {everything: everything}, b"realm": {b"": b""}}


def test_an_unknown_key_finds_nothing(store):
    assert store.load(b"nobody", NOW) is None


def test_a_session_is_gone_at_the_second_of_its_expiry(store):
    store.commit(created())
    assert store.load(b"key", LATER - 1) is not None
    assert store.load(b"key", LATER) is None


def test_a_session_without_variables_is_found(store):
    change = created()
    change.sets = {}
    store.commit(change)
    assert store.load(b"key", NOW).realms == {}


def test_an_empty_realm_stays_known(store):
    store.commit(created())
    assert store.load(b"key", NOW).realms == {b"realm": {}}


def test_none_erases_and_a_clear_comes_before_the_sets(store):
    _, handle = store.commit(created(sets={(b"realm", b"a"): b"1", (b"realm", b"b"): b"2", (b"x", b"c"): b"3"}))
    store.commit(changed(handle, sets={(b"realm", b"a"): None}))
    assert store.load(b"key", NOW).realms == {b"realm": {b"b": b"2"}, b"x": {b"c": b"3"}}
    store.commit(changed(handle, clears={b"realm": True, b"x": False}, sets={(b"realm", b"d"): b"4"}))
    assert store.load(b"key", NOW).realms == {b"realm": {b"d": b"4"}}


def test_two_requests_that_set_different_variables_both_win(store):
    _, handle = store.commit(created())
    in_threads(lambda number: [store.commit(changed(handle, sets={(b"realm", b"%d.%d" % (number, turn)): b"x"}))
                               for turn in range(25)], 8)
    assert len(store.load(b"key", NOW).realms[b"realm"]) == 200


def test_two_requests_that_create_sessions_both_win(store):
    in_threads(lambda number: [store.commit(created(b"%d.%d" % (number, turn))) for turn in range(10)], 8)
    assert all(store.load(b"%d.%d" % (number, turn), NOW) for number in range(8) for turn in range(10))


def test_a_deleted_session_takes_no_late_write_and_its_handle_is_not_used_again(store, make_store):  # noqa: F811
    _, handle = store.commit(created(sets={(b"realm", b"a"): b"1"}))
    delete = Change()
    delete.deletes = [handle]
    assert store.commit(delete) == (STORED, None)
    _, other = store.commit(created(b"other"))
    assert other != handle
    assert store.commit(changed(handle, sets={(b"realm", b"late"): b"1"})) == (GONE, None)
    assert store.load(b"key", NOW) is None
    count, stored = make_store.contents()
    assert count == 1 and b"late" not in stored


def test_a_new_key_ends_the_old_one_and_late_writes_follow_the_session(store):
    _, handle = store.commit(created())
    assert store.commit(changed(handle, new_key=b"new")) == (STORED, handle)
    assert store.load(b"key", NOW) is None
    status, _ = store.commit(changed(handle, sets={(b"realm", b"late"): b"1"}))
    assert status == MOVED
    assert store.load(b"new", NOW).realms == {b"realm": {b"late": b"1"}}


def test_expiry_never_moves_back(store):
    _, handle = store.commit(created())
    change = changed(handle, expires=LATER - 10)
    change.header = True
    store.commit(change)
    assert store.load(b"key", NOW).expires == LATER


def test_a_change_that_fails_leaves_nothing_behind(store, make_store):  # noqa: F811
    store.commit(created())
    with pytest.raises(SessionError, match="UNIQUE|in use"):
        store.commit(created(sets={(b"realm", b"a"): b"1"}))
    assert store.load(b"key", NOW).realms == {b"realm": {}}
    assert make_store.contents()[0] == 1


def test_another_worker_sees_every_commit(store, make_store):  # noqa: F811
    _, handle = store.commit(created())
    other = make_store()
    assert other.load(b"key", NOW).realms == {b"realm": {}}
    store.commit(changed(handle, sets={(b"realm", b"a"): b"1"}))
    assert other.load(b"key", NOW).realms == {b"realm": {b"a": b"1"}}


def test_what_was_stored_is_there_after_closing(store):
    store.commit(created())
    store.close()
    assert store.load(b"key", NOW) is not None


def test_no_two_pairs_of_realm_and_name_are_confused(store):
    pairs = [(b"a", b"bc"), (b"ab", b"c"), (b"", b"abc"), (b"abc", b""), (b"a\0", b"b"), (b"a", b"\0b"),
             (b"\0\0\0\1a", b"x"), (b"", b"\0\0\0\1ax"), (b"r", b""), (b"", b"i"), (EVERYTHING, EVERYTHING)]
    store.commit(created(sets={pair: b"%d" % number for number, pair in enumerate(pairs)}))
    found = store.load(b"key", NOW).realms
    assert [found[realm][name] for realm, name in pairs] == [b"%d" % number for number in range(len(pairs))]
    assert sum(map(len, found.values())) == len(pairs)


def test_a_clear_spares_realms_of_similar_names(store):
    _, handle = store.commit(created(sets={(realm, b"x"): b"1" for realm in (b"a", b"ab", b"", b"a\0")}))
    store.commit(changed(handle, clears={b"a": False}))
    assert sorted(store.load(b"key", NOW).realms) == [b"", b"a\0", b"ab", b"realm"]


def test_a_session_may_be_large(store):
    sets = {(b"realm", b"%d" % number): b"x" * 100 for number in range(5000)}
    sets[b"realm", b"big"] = EVERYTHING * 4000
    _, handle = store.commit(created(sets=sets))
    assert store.load(b"key", NOW).realms[b"realm"] == {name: value for (_, name), value in sets.items()}
    store.commit(changed(handle, clears={b"realm": True}))
    assert store.load(b"key", NOW).realms == {b"realm": {}}


def test_a_session_follows_through_several_new_keys(store):
    _, handle = store.commit(created(sets={(b"realm", b"a"): b"1"}))
    other = store.load(b"key", NOW).handle
    assert store.commit(changed(handle, new_key=b"second")) == (STORED, handle)
    assert store.commit(changed(handle, key=b"second", new_key=b"third")) == (STORED, handle)
    assert store.commit(changed(handle, key=b"third", sets={(b"realm", b"own"): b"1"}))[0] == STORED
    assert store.commit(changed(other, sets={(b"realm", b"late"): b"1"}))[0] == MOVED
    assert sorted(store.load(b"third", NOW).realms[b"realm"]) == [b"a", b"late", b"own"]
    assert store.load(b"key", NOW) is store.load(b"second", NOW) is None


def test_of_two_requests_that_change_the_key_the_first_wins(store):
    _, handle = store.commit(created())
    assert store.commit(changed(handle, new_key=b"first"))[0] == STORED
    assert store.commit(changed(handle, new_key=b"second", sets={(b"realm", b"late"): b"1"}))[0] == MOVED
    assert store.load(b"first", NOW).realms == {b"realm": {b"late": b"1"}}
    assert store.load(b"second", NOW) is None


def test_a_session_may_be_deleted_by_the_handle_it_had_before_its_key_changed(store, make_store):  # noqa: F811
    _, handle = store.commit(created())
    store.commit(changed(handle, new_key=b"new"))
    delete = Change()
    delete.deletes = [handle, handle]
    assert store.commit(delete) == (STORED, None)
    assert store.load(b"new", NOW) is None
    assert make_store.contents()[0] == 0
    assert store.commit(changed(handle, sets={(b"realm", b"late"): b"1"}))[0] == GONE


def test_one_change_may_delete_a_session_and_store_the_next(store, make_store):  # noqa: F811
    _, old = store.commit(created())
    change = created(b"next")
    change.deletes = [old]
    status, handle = store.commit(change)
    assert status == STORED and handle != old
    assert store.load(b"key", NOW) is None and store.load(b"next", NOW) is not None
    assert make_store.contents()[0] == 1


def test_a_change_that_fails_deletes_nothing(store):
    _, old = store.commit(created(b"old"))
    store.commit(created())
    change = created()
    change.deletes = [old]
    with pytest.raises(SessionError):
        store.commit(change)
    assert store.load(b"old", NOW) is not None


def test_a_usable_store_passes_the_check(store):
    store.check()
    store.check()
