"""The SQL of sqlite.py: tables, look-up, writes, sweep.

In: an open sqlite3 connection, and what the Store protocol was given.  Out: what it answers.  Functions that
write must run inside a transaction of the caller's, who also turns sqlite3.Error into SessionError.  Nothing
here opens, closes or retries.
"""
from __future__ import annotations

import sqlite3
from typing import Optional, Tuple

from . import GONE, MOVED, STORED, Change, Loaded, Realms

# AUTOINCREMENT: a handle is never used twice, so that a late write cannot reach a stranger's session.
# In `variables`, the name 0 (an integer, where variables have blobs) stands for the realm itself.
_SESSIONS = (
    """CREATE TABLE sessions (
        id INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE,
        identity BLOB NOT NULL, expires INTEGER NOT NULL)""",
    "CREATE INDEX sessions_expires ON sessions (expires)",
    """CREATE TABLE variables (
        session INTEGER NOT NULL, realm BLOB NOT NULL, name NOT NULL, value BLOB,
        PRIMARY KEY (session, realm, name)) WITHOUT ROWID""",
    "CREATE TABLE turns (job TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO turns VALUES ('sweep', 0)",
)
# The shared dictionary, see shared_sqlite.py.  An infinite `expires` stays for ever; `used` is coarse.
_SHARED = (
    """CREATE TABLE shared (
        id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value NOT NULL,
        expires REAL NOT NULL, used INTEGER NOT NULL)""",
    "CREATE INDEX shared_expires ON shared (expires) WHERE expires < 9e999",
    "CREATE INDEX shared_used ON shared (used)",
    "CREATE TABLE shared_size (bytes INTEGER NOT NULL)",
    "INSERT INTO shared_size VALUES (0)",
    "INSERT INTO turns VALUES ('shared', 0)",
)
# What makes each format of the one before.
FORMATS = (_SESSIONS, _SHARED)
FORMAT = len(FORMATS)
# One statement, so that header and variables are of the same moment.
LOAD = """SELECT s.id, s.identity, s.expires, v.realm, v.name, v.value
    FROM sessions s LEFT JOIN variables v ON v.session = s.id WHERE s.key = ? AND s.expires > ?"""
# Free pages are soon used again; only more than these, and a quarter of the file, are given back.
SPARE_PAGES = 256


def format_of(connection: sqlite3.Connection) -> int:
    """The number of the tables' format; 0 for an empty file."""
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found


def create(connection: sqlite3.Connection) -> None:
    """Make the tables that are missing, unless another worker was faster."""
    found = format_of(connection)
    for statements in FORMATS[found:]:
        for statement in statements:
            connection.execute(statement)
    if found < FORMAT:
        connection.execute("PRAGMA user_version = %d" % FORMAT)


def load(connection: sqlite3.Connection, key: bytes, now: int) -> Optional[Loaded]:
    """The session of `key` unless it has expired."""
    rows = connection.execute(LOAD, (key, now)).fetchall()
    if not rows:
        return None
    handle, identity, expires = rows[0][:3]
    realms: Realms = {}
    for _, _, _, realm, name, value in rows:
        if realm is not None:
            variables = realms.setdefault(realm, {})
            if isinstance(name, bytes):
                variables[name] = value
    return Loaded(handle, identity, expires, realms)


def apply(connection: sqlite3.Connection, change: Change) -> Tuple[str, object]:
    """Write `change`; what became of it, and the session's handle."""
    for handle in change.deletes:
        connection.execute("DELETE FROM variables WHERE session = ?", (handle,))
        connection.execute("DELETE FROM sessions WHERE id = ?", (handle,))
    if change.key is None:
        return STORED, None
    status, handle = _write_header(connection, change)
    if status != GONE:
        _write_variables(connection, handle, change)
    return status, handle


def _write_header(connection: sqlite3.Connection, change: Change) -> Tuple[str, object]:
    header = (change.key, change.identity, change.expires)
    if change.handle is None:
        insert = "INSERT INTO sessions (key, identity, expires) VALUES (?, ?, ?)"
        return STORED, connection.execute(insert, header).lastrowid
    found = connection.execute("SELECT key FROM sessions WHERE id = ?", (change.handle,)).fetchone()
    if found is None:
        return GONE, None
    if found[0] != change.expected:
        return MOVED, change.handle
    if change.header:
        update = "UPDATE sessions SET key = ?, identity = ?, expires = max(expires, ?) WHERE id = ?"
        connection.execute(update, header + (change.handle,))
    return STORED, change.handle


def _write_variables(connection: sqlite3.Connection, handle: object, change: Change) -> None:
    execute = connection.execute
    for realm, stays in change.clears.items():
        clear = "DELETE FROM variables WHERE session = ? AND realm = ?"
        execute(clear + (" AND name <> 0" if stays else ""), (handle, realm))
    for (realm, name), value in change.sets.items():
        row = (handle, realm, 0 if name is None else name)
        if name is not None and value is None:
            execute("DELETE FROM variables WHERE session = ? AND realm = ? AND name = ?", row)
        else:
            execute("INSERT OR REPLACE INTO variables VALUES (?, ?, ?, ?)", row + (value,))


def any_expired(connection: sqlite3.Connection, now: int) -> bool:
    """Whether a sweep would find something; reads one entry of an index."""
    found = connection.execute("SELECT 1 FROM sessions WHERE expires <= ? LIMIT 1", (now,)).fetchone()
    return found is not None


def next_turn(connection: sqlite3.Connection, job: str = "sweep") -> int:
    """When the next turn is due, in seconds since 1970."""
    found: int = connection.execute("SELECT next FROM turns WHERE job = ?", (job,)).fetchone()[0]
    return found


def take_turn(connection: sqlite3.Connection, job: str, now: int, every: int, again: bool) -> bool:
    """Whether it is our turn; if so, the next one is `every` seconds from now.  `again`: we have had this one."""
    # A turn further away than it can be comes from a clock that was set back.
    if now < next_turn(connection, job) <= now + every and not again:
        return False
    connection.execute("UPDATE turns SET next = ? WHERE job = ?", (now + every, job))
    return True


def sweep(connection: sqlite3.Connection, now: int, limit: int, every: int, again: bool) -> int:
    """Remove one batch, if it is our turn; `again` is the winner of this turn coming back for more."""
    if not take_turn(connection, "sweep", now, every, again):
        return 0
    ids = connection.execute("SELECT id FROM sessions WHERE expires <= ? LIMIT ?", (now, limit)).fetchall()
    connection.executemany("DELETE FROM variables WHERE session = ?", ids)
    connection.executemany("DELETE FROM sessions WHERE id = ?", ids)
    return len(ids)


def shrink(connection: sqlite3.Connection) -> None:
    """Give some of the free pages back to the file system, if they are many."""
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    if free > SPARE_PAGES and free * 4 > connection.execute("PRAGMA page_count").fetchone()[0]:
        # One step a page, and `execute` takes the first step only.
        connection.executescript("PRAGMA incremental_vacuum(%d)" % (2 * SPARE_PAGES))
