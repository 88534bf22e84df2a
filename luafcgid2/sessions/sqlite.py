"""Sessions in one SQLite file, shared by all workers of a machine: the connections.

In: the path out of `sqlite:///path`, calls of the Store protocol.  Out: the protocol's answers, or
SessionError that names the file.  session.py calls it.  It keeps one connection per thread, made on first use and never
carried over a fork.  WAL with synchronous=NORMAL: a commit survives the death of any process; a power cut may
lose the last ones but never the file (https://sqlite.org/wal.html).  The SQL itself is in statements.py.
"""
from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import threading
import time
from typing import Any, Callable, List, Optional, Tuple, TypeVar
from collections.abc import Iterator

from ..errors import ConfigError, SessionError
from . import Change, Loaded, Store, statements
from .shared_sqlite import SqliteShared

BUSY_SECONDS = 5.0
# A file that was removed or replaced is noticed this late; asking the kernel costs as much as a look-up.
LOOK_SECONDS = 1.0
# This must come before the first table, and would take the write lock each time.
NEW_FILE = "PRAGMA auto_vacuum = INCREMENTAL"
# The cache is small since every thread has one.
PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA cache_size = -512",
    "PRAGMA journal_size_limit = 4194304",
)

Result = TypeVar("Result")


class SqliteStore(Store):
    """Sessions in the file `path`, which must be absolute (ConfigError)."""

    def __init__(self, path: str, logger: logging.Logger) -> None:
        if not os.path.isabs(path) or path.endswith("/"):
            raise ConfigError("SessionStore %r must name a file by its absolute path, as in "
                              "sqlite:///var/lib/luafcgid2/state.db" % ("sqlite://" + path))
        self.path = "/" + path.lstrip("/")
        self._logger = logger
        self._local = threading.local()
        self._lock = threading.Lock()
        self._all: List[_Connection] = []
        self._sweeping = False

    def check(self) -> None:
        self._write(statements.next_turn)

    def load(self, key: bytes, now: int) -> Optional[Loaded]:
        return self._run(statements.load, key, now)

    def commit(self, change: Change) -> Tuple[str, object]:
        return self._write(statements.apply, change)

    def sweep(self, now: int, limit: int, every: int) -> int:
        # Reading first: while nothing has expired, nothing is written.
        if not self._run(statements.any_expired, now):
            self._sweeping = False
            return 0
        removed = self._write(statements.sweep, now, limit, every, self._sweeping)
        self._sweeping = removed == limit
        if removed:
            self._run(statements.shrink)
        return removed

    def shared(self, max_bytes: int) -> SqliteShared:
        return SqliteShared(self._run, self._write, max_bytes)

    def close(self) -> None:
        own = os.getpid()
        with self._lock:
            # A parent's connection is the parent's business: it stays, open and unused.
            closing = [known for known in self._all if known.owner == own]
            self._all = [known for known in self._all if known.owner != own]
            self._local = threading.local()
        for known in closing:
            known.sqlite.close()

    def _run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        known = self._connection()
        try:
            return work(known.sqlite, *arguments)
        except sqlite3.Error as error:
            # After an error of the file, a new connection has the better chance.
            if not isinstance(error, sqlite3.IntegrityError) and "locked" not in str(error):
                self._drop(known)
            raise SessionError("session store %s: %s" % (self.path, error)) from error

    def _write(self, work: Callable[..., Result], *arguments: Any) -> Result:
        found: Result = self._run(transaction, work, *arguments)
        return found

    def _connection(self) -> _Connection:
        """This thread's connection; a new one after a fork, or when the file was removed or replaced."""
        known: Optional[_Connection] = getattr(self._local, "known", None)
        if known is not None and known.owner == os.getpid():
            if time.monotonic() < known.seen + LOOK_SECONDS or self._in_place(known):
                return known
            self._drop(known)
        try:
            known = _Connection(self.path)
        except (sqlite3.Error, OSError) as error:
            raise SessionError("session store %s cannot be used: %s" % (self.path, error)) from error
        self._local.known = known
        with self._lock:
            self._all.append(known)
        return known

    def _in_place(self, known: _Connection) -> bool:
        try:
            if known.file == _file(self.path):
                known.seen = time.monotonic()
                return True
        except OSError:
            self._logger.warning("session store %s: the file was removed; making a new one", self.path)
        return False

    def _drop(self, known: _Connection) -> None:
        self._local.known = None
        with self._lock:
            if known in self._all:
                self._all.remove(known)
        known.sqlite.close()


class _Connection:
    """A connection of this process, of which file, and when that file was last seen in its place."""

    def __init__(self, path: str) -> None:
        with _made(path):
            self.owner = os.getpid()
            self.file = _file(path)
            self.seen = time.monotonic()
            self.sqlite = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                _prepare(self.sqlite)
            except BaseException:
                self.sqlite.close()
                raise


@contextlib.contextmanager
def _made(path: str) -> Iterator[None]:
    """Make the file unless it exists.  SQLite gives its -wal and -shm files the mode of the main file.

    What is left of a removed file goes, since SQLite cannot read it with a new one.  The lock on the
    directory keeps one worker from taking another's new files for leftovers, and lets one connection at a
    time prepare the file: SQLite does not wait for others when it switches to WAL.
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            for leftover in (path + "-wal", path + "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(leftover)
            # Only a new file may be opened and closed here: closing any descriptor of a file that this process
            # has open with SQLite drops SQLite's locks, and the next worker to leave removes the write-ahead
            # log under our feet (https://sqlite.org/howtocorrupt.html, 2.2).
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        yield
    finally:
        os.close(lock)


def _file(path: str) -> Tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _prepare(connection: sqlite3.Connection) -> None:
    if statements.format_of(connection) == 0:
        connection.execute(NEW_FILE)
    for pragma in PRAGMAS:
        connection.execute(pragma)
    if statements.format_of(connection) < statements.FORMAT:
        transaction(connection, statements.create)
    found = statements.format_of(connection)
    if found != statements.FORMAT:
        raise sqlite3.DatabaseError("its format is %d, this luafcgid2 knows %d" % (found, statements.FORMAT))


def transaction(connection: sqlite3.Connection, work: Callable[..., Result], *arguments: Any) -> Result:
    """`work` between BEGIN IMMEDIATE and COMMIT.

    IMMEDIATE takes the write lock before anything is read, so that no transaction fails halfway because
    another one wrote.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection, *arguments)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result
