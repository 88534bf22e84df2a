"""Every kind of session store, for promises that all of them keep.

A test takes the fixture `make_store` (import it from here): each call gives one more store object on the same
data, as another worker would have it; all are closed afterwards.  A kind is a function that takes the test's
`request` and a folder and is a context manager giving such a maker.  `make_store.kind` is its name;
`make_store.contents()` gives all that is stored, (number of sessions, bytes).
"""
from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time

import pytest

from luafcgid2.sessions import Change, open_store

LOGGER = logging.getLogger("test-stores")
# Far enough away that no server removes by its own clock what these tests look for.
NOW = 4_000_000_000
LATER = NOW + 3600


def maker(url, kind, contents):
    """A context manager: the function that opens stores at `url`."""
    @contextlib.contextmanager
    def opened():
        with contextlib.ExitStack() as stack:
            def make():
                return stack.enter_context(contextlib.closing(open_store(url, LOGGER)))
            make.kind, make.contents = kind, contents
            yield make
    return opened()


def sqlite(request, folder):
    path = os.path.join(str(folder), "state.db")

    def contents():
        with contextlib.closing(sqlite3.connect(path)) as connection:
            count = connection.execute("SELECT count(*) FROM sessions").fetchone()[0]
        return count, b"".join(file.read_bytes() for file in folder.iterdir())
    return maker("sqlite://" + path, "sqlite", contents)


def redis(request, folder):
    server = request.getfixturevalue("redis_server")
    url = server.url()
    prefix = url.rpartition("=")[2].encode()

    def contents():
        with server.client as client:
            keys = list(client.scan_iter(prefix + b":*"))
            hashes = [client.hgetall(key) for key in keys if key.startswith(prefix + b":s:")]
        return len(hashes), b"".join(keys) + b"".join(field + value for each in hashes for field, value in each.items())
    return maker(url, "redis", contents)


KINDS = {"sqlite": sqlite, "redis": redis}


@pytest.fixture(params=sorted(KINDS))
def make_store(request, tmp_path):
    with KINDS[request.param](request, tmp_path) as make:
        yield make


def in_threads(work, count):
    """work(0) to work(count - 1), each in a thread; fails if one of them does."""
    problems = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:
            problems.append(error)
    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems


def eventually(condition, seconds=10.0):
    """Wait until `condition()` is true; fail if it is not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in %g seconds" % seconds
        time.sleep(0.005)


def created(key=b"key", expires=LATER, sets=None):
    """A change that stores a new session with one realm."""
    change = Change()
    change.key, change.identity, change.expires, change.header = key, b"identity", expires, True
    change.sets = {(b"realm", None): None, **(sets or {})}
    return change


def changed(handle, key=b"key", sets=None, clears=None, new_key=None, expires=LATER):
    """A change of a stored session; with `new_key` its header too."""
    change = Change()
    change.handle, change.expected, change.key = handle, key, new_key or key
    change.header, change.identity, change.expires = new_key is not None, b"identity", expires
    change.sets, change.clears = sets or {}, clears or {}
    return change
