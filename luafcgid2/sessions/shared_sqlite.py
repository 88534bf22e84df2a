"""The shared dictionary in the file of the SQLite store.

In: two ways to run work on this thread's connection, one inside a write transaction; calls of the SharedStore
protocol.  Out: its answers.  sqlite.py makes it and turns sqlite3.Error into SessionError.  The tables are in
statements.py.  BEGIN IMMEDIATE makes each call atomic among all processes, with SQLite 3.34 too, which has no
RETURNING.  Times are the wall clock's, so that they hold over a restart.

Reading writes nothing: which entries were read is remembered here, coarsely, and written when entries have to
go, or when the worker is idle.
"""
from __future__ import annotations

import math
import sqlite3
import time
from typing import Any, Callable, Iterable, List, Optional, Protocol, Set, Tuple, TypeVar

from . import statements
from .shared_store import NUMBER_BYTES, Number, SharedStore, Value, size_of, total

Connection = sqlite3.Connection
Result = TypeVar("Result")

# Which of two entries was used last is known to so many seconds.
COARSE = 300
# Entries that one worker remembers to have read; beyond it they look older than they are.
MAX_TOUCHED = 4096
# Of max_bytes, this part is freed beyond what is needed, so that not every write has to make room.
SLACK = 16
SIZE = "length(key) + CASE typeof(value) WHEN 'blob' THEN length(value) ELSE %d END" % NUMBER_BYTES
# B608: what is put together are constants of this module; values go by placeholders.
# The value is read where it is a number; None stands for bytes.
LOOK = ("SELECT id, %s, expires, used, CASE typeof(value) WHEN 'blob' THEN NULL ELSE value END"
        " FROM shared WHERE key = ?" % SIZE)  # nosec B608
OVER = "SELECT id, %s FROM shared WHERE expires < 9e999 AND expires <= ?" % SIZE  # nosec B608
OLDEST = "SELECT id, %s FROM shared WHERE id <> ? ORDER BY used" % SIZE  # nosec B608


class Run(Protocol):
    """Returns what work(connection, *arguments) does."""

    def __call__(self, work: Callable[..., Result], *arguments: Any) -> Result: ...


class SqliteShared(SharedStore):
    """`read(work, *arguments)` returns what work(connection, *arguments) does; `write` does so in a transaction.

    `clock` returns seconds since 1970.
    """

    def __init__(self, read: Run, write: Run, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._read, self._write = read, write
        self._max_bytes = max_bytes
        self.clock = clock
        self._touched: Set[bytes] = set()
        self._sweeping = False

    def get(self, key: bytes) -> Optional[Value]:
        return self._read(self._get, key)

    def set(self, key: bytes, value: Value, ttl: float) -> None:
        self._write(self._set, key, value, ttl, False)

    def add(self, key: bytes, value: Value, ttl: float) -> bool:
        return self._write(self._set, key, value, ttl, True)

    def incr(self, key: bytes, by: Number, init: Optional[Number], ttl: float) -> Optional[Number]:
        return self._write(self._incr, key, by, init, ttl)

    def delete(self, key: bytes) -> bool:
        return self._write(self._delete, key)

    def keys(self, prefix: bytes, limit: int) -> List[bytes]:
        return self._read(_keys, prefix, limit, self.clock())

    def ttl(self, key: bytes) -> Optional[float]:
        found = self._read(_expires, key)
        left = found - self.clock() if found is not None else 0.0
        return None if left <= 0 else 0.0 if left == math.inf else left

    def sweep(self, limit: int, every: int) -> int:
        if self._touched:
            self._write(self._stamp)
        # Reading first: while nothing is over, nothing is written.
        if self._read(_first_over, self.clock()) is None:
            self._sweeping = False
            return 0
        removed = self._write(self._sweep, limit, every)
        self._sweeping = removed == limit
        if removed:
            self._read(statements.shrink)
        return removed

    def _get(self, connection: Connection, key: bytes) -> Optional[Value]:
        look = "SELECT value, expires, used FROM shared WHERE key = ?"
        row = connection.execute(look, (key,)).fetchone()
        if row is None:
            return None
        value: Value = row[0]
        expires, used = row[1:]
        now = self.clock()
        if expires <= now:
            return None
        if used < now // COARSE and len(self._touched) < MAX_TOUCHED:
            self._touched.add(key)
        return value

    def _set(self, connection: Connection, key: bytes, value: Value, ttl: float, absent: bool) -> bool:
        now = self.clock()
        row = connection.execute(LOOK, (key,)).fetchone()
        if absent and row is not None and row[2] > now:
            return False
        self._put(connection, row, key, value, now + ttl if ttl else math.inf, int(now // COARSE))
        return True

    def _incr(self, connection: Connection, key: bytes, by: Number, init: Optional[Number],
              ttl: float) -> Optional[Number]:
        now = self.clock()
        row = connection.execute(LOOK, (key,)).fetchone()
        if row is None or row[2] <= now:
            if init is None:
                return None
            value, expires = init, now + ttl if ttl else math.inf
        else:
            expires, value = row[2], row[4]
        value = total(key, value, by)
        self._put(connection, row, key, value, expires, int(now // COARSE))
        return value

    def _put(self, connection: Connection, row: Optional[Tuple[Any, ...]], key: bytes, value: Value, expires: float,
             used: int) -> None:
        """Write an entry; `row` is what LOOK gave for its key, so that only what changes is written."""
        if row is None:
            insert = "INSERT INTO shared (key, value, expires, used) VALUES (?, ?, ?, ?)"
            number = connection.execute(insert, (key, value, expires, used)).lastrowid
            self._grow(connection, size_of(key, value), number)
            return
        number, size, old_expires, old_used = row[:4]
        if (expires, used) == (old_expires, old_used):
            connection.execute("UPDATE shared SET value = ? WHERE id = ?", (value, number))
        else:
            update = "UPDATE shared SET value = ?, expires = ?, used = ? WHERE id = ?"
            connection.execute(update, (value, expires, used, number))
        self._grow(connection, size_of(key, value) - size, number)

    def _grow(self, connection: Connection, by: int, number: Optional[int]) -> None:
        """Account for `by` bytes more; if they are too many, other entries than `number` go."""
        if not by:
            return
        connection.execute("UPDATE shared_size SET bytes = bytes + ?", (by,))
        if by > 0:
            excess = connection.execute("SELECT bytes FROM shared_size").fetchone()[0] - self._max_bytes
            if excess > 0:
                self._make_room(connection, excess + self._max_bytes // SLACK, number)

    def _make_room(self, connection: Connection, wanted: int, number: Optional[int]) -> None:
        self._stamp(connection)
        # An entry just written may be over already if the machine is very slow; it is no loss.
        wanted -= _remove(connection, connection.execute(OVER, (self.clock(),)), wanted)[1]
        if wanted > 0:
            _remove(connection, connection.execute(OLDEST, (number,)), wanted)

    def _delete(self, connection: Connection, key: bytes) -> bool:
        row = connection.execute(LOOK, (key,)).fetchone()
        if row is None:
            return False
        _remove(connection, [row[:2]], row[1])
        return bool(row[2] > self.clock())

    def _stamp(self, connection: Connection) -> None:
        """Write down which entries were read."""
        touched, self._touched = self._touched, set()
        used = int(self.clock() // COARSE)
        connection.executemany("UPDATE shared SET used = ? WHERE key = ? AND used < ?",
                               [(used, key, used) for key in touched.copy()])

    def _sweep(self, connection: Connection, limit: int, every: int) -> int:
        now = self.clock()
        if not statements.take_turn(connection, "shared", int(now), every, self._sweeping):
            return 0
        over = connection.execute(OVER + " LIMIT ?", (now, limit))
        return _remove(connection, over, self._max_bytes)[0]


def _remove(connection: Connection, rows: Iterable[Tuple[int, int]], wanted: int) -> Tuple[int, int]:
    """Remove entries, given as (id, size), until `wanted` bytes are freed: (entries, bytes) removed."""
    numbers, freed = [], 0
    for number, size in rows:
        if freed >= wanted:
            break
        numbers.append((number,))
        freed += size
    connection.executemany("DELETE FROM shared WHERE id = ?", numbers)
    connection.execute("UPDATE shared_size SET bytes = bytes - ?", (freed,))
    return len(numbers), freed


def _keys(connection: Connection, prefix: bytes, limit: int, now: float) -> List[bytes]:
    where, values = "key >= ? AND expires > ?", [prefix, now]
    # The first key behind all that begin with the prefix; there is none if it is empty or all 255.
    stem = prefix.rstrip(b"\xff")
    if stem:
        where += " AND key < ?"
        values.append(stem[:-1] + bytes([stem[-1] + 1]))
    # B608: `where` is one of two texts.
    select = "SELECT key FROM shared WHERE %s LIMIT ?" % where  # nosec B608
    found = connection.execute(select, (*values, limit or -1))
    return [key for key, in found]


def _expires(connection: Connection, key: bytes) -> Optional[float]:
    row = connection.execute("SELECT expires FROM shared WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def _first_over(connection: Connection, now: float) -> Optional[Tuple[int, int]]:
    row: Optional[Tuple[int, int]] = connection.execute(OVER + " LIMIT 1", (now,)).fetchone()
    return row
