"""The SQLite store's file: who may read it, that it stays small, and a clear word when it cannot be used.

What every store promises is in test_session_store.py.
"""
from __future__ import annotations

import logging
import os
import sqlite3
import stat
from contextlib import closing

import pytest
from stores import NOW, created, in_threads

from luafcgid2.errors import ConfigError, SessionError
from luafcgid2.sessions import STORED, open_store

LOGGER = logging.getLogger("test-sessions")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "made" / "state.db"


@pytest.fixture
def store(path):
    with closing(open_store("sqlite://%s" % path, LOGGER)) as opened:
        yield opened


def rows(path, statement):
    with closing(sqlite3.connect(str(path))) as connection:
        return connection.execute(statement).fetchall()


def test_directory_and_files_are_for_the_owner_only(store, path):
    store.commit(created())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_many_threads_may_make_the_file_at_once(path):
    stores = [open_store("sqlite://%s" % path, LOGGER) for _ in range(6)]
    in_threads(lambda number: stores[number].check(), 6)
    in_threads(lambda number: stores[number].commit(created(b"%d" % number)), 6)
    assert all(stores[0].load(b"%d" % number, NOW) for number in range(6))
    for each in stores:
        each.close()


def test_making_a_store_opens_nothing(path):
    open_store("sqlite://%s" % path, LOGGER)
    assert not path.parent.exists()


def test_a_removed_file_is_noticed_and_made_anew(store, path, monkeypatch, caplog):
    monkeypatch.setattr("luafcgid2.sessions.sqlite.LOOK_SECONDS", 0.0)
    store.commit(created())
    for file in path.parent.iterdir():
        file.unlink()
    assert store.load(b"key", NOW) is None
    assert "was removed" in caplog.text and str(path) in caplog.text
    store.commit(created())
    assert rows(path, "SELECT count(*) FROM sessions") == [(1,)]


@pytest.mark.parametrize("url", ["", "state.db", "sqlite:/x", "mongo://host", "sqlite3:///x"])
def test_an_unknown_scheme_is_a_config_error_that_lists_the_known(url):
    with pytest.raises(ConfigError, match="sqlite://"):
        open_store(url, LOGGER)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite://state.db", "sqlite://:memory:", "sqlite:///", "sqlite:///x/"])
def test_a_path_that_is_not_an_absolute_file_is_a_config_error(url):
    with pytest.raises(ConfigError, match="absolute path"):
        open_store(url, LOGGER)


def test_a_file_that_is_no_database_is_an_error_that_names_it(store, path):
    path.parent.mkdir()
    path.write_bytes(b"this is no database, and long enough to be looked at " * 100)
    with pytest.raises(SessionError, match="not a database") as caught:
        store.check()
    assert str(path) in str(caught.value)


def test_a_directory_that_cannot_be_made_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with closing(open_store("sqlite://%s/file/state.db" % tmp_path, LOGGER)) as store:
        with pytest.raises(SessionError) as caught:
            store.check()
        assert "%s/file/state.db" % tmp_path in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_directory_is_an_error_that_names_the_file(store, path):
    path.parent.mkdir(mode=0o500)
    with pytest.raises(SessionError, match=str(path)):
        store.check()


def test_a_file_of_a_later_format_is_refused(store, path):
    store.check()
    store.close()
    with closing(sqlite3.connect(str(path))) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SessionError, match="format is 99"):
        store.check()


def test_a_store_works_again_once_the_cause_is_gone(store, path):
    path.parent.mkdir()
    path.write_bytes(b"rubbish " * 1000)
    with pytest.raises(SessionError):
        store.load(b"key", NOW)
    path.unlink()
    assert store.load(b"key", NOW) is None


def test_a_writer_that_cannot_get_the_lock_says_so(store, path, monkeypatch):
    monkeypatch.setattr("luafcgid2.sessions.sqlite.BUSY_SECONDS", 0.05)
    store.commit(created())
    with closing(sqlite3.connect(str(path), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SessionError, match="locked"):
            store.commit(created(b"other"))
        assert store.load(b"key", NOW) is not None
        other.execute("ROLLBACK")
    assert store.commit(created(b"other"))[0] == STORED


def test_a_sweep_removes_the_expired_in_batches_and_nothing_else(store, path):
    for number in range(25):
        store.commit(created(b"old%d" % number, NOW - 1, {(b"realm", b"a"): b"1"}))
    store.commit(created(b"young"))
    assert [store.sweep(NOW, 10, 60) for _ in range(4)] == [10, 10, 5, 0]
    assert rows(path, "SELECT count(*) FROM sessions") == [(1,)]
    assert rows(path, "SELECT count(*) FROM variables") == [(1,)]
    assert store.load(b"young", NOW) is not None


def test_of_two_workers_that_sweep_one_wins_the_turn(store, path):
    for number in range(5):
        store.commit(created(b"old%d" % number, NOW - 1))
    with closing(open_store("sqlite://%s" % path, LOGGER)) as other:
        assert store.sweep(NOW, 3, 60) == 3
        assert other.sweep(NOW, 3, 60) == 0
        assert other.sweep(NOW + 60, 3, 60) == 2


def test_a_sweep_that_finds_nothing_writes_nothing(store, path):
    store.commit(created())
    before = rows(path, "SELECT next FROM turns")
    assert store.sweep(NOW, 10, 60) == 0
    assert rows(path, "SELECT next FROM turns") == before


def test_a_clock_set_back_does_not_stop_the_sweep(store):
    store.commit(created(b"a", NOW - 1))
    assert store.sweep(NOW + 1_000_000, 10, 60) == 1
    store.commit(created(b"b", NOW - 1))
    assert store.sweep(NOW, 10, 60) == 1


def test_the_file_shrinks_after_the_sweep(store, path):
    for number in range(300):
        store.commit(created(b"old%d" % number, NOW - 1, {(b"realm", b"a"): b"x" * 8000}))
    before = rows(path, "PRAGMA page_count")[0][0]
    while store.sweep(NOW, 50, 60):
        pass
    assert rows(path, "PRAGMA page_count")[0][0] < before / 2
