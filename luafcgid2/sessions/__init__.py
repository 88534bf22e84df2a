"""The session store protocol, and the factory that picks a store by its URL.

In: the value of SessionStore, a logger.  Out: a store, whose few methods are the `Store` class below; its
data are `Loaded` (what a look-up gave) and `Change` (all that one request writes).  session.py alone calls a
store; the worker only makes it.  A store keeps opaque bytes: it knows nothing of cookies,
of identities or of Lua.  Making a store opens nothing, so that it may happen before the fork.
"""
from __future__ import annotations

import importlib
import logging
from typing import Any, Dict, List, Optional, Tuple

from ..errors import ConfigError
from .shared_store import SharedStore

# URL scheme -> (module, class).  Imported on demand: a server loads the client of its own store only.
STORES = {
    "sqlite": (".sqlite", "SqliteStore"),
    "redis": (".redis_store", "RedisStore"),
    "rediss": (".redis_store", "TlsRedisStore"),
    "unix": (".redis_store", "UnixRedisStore"),
}

# What became of a Change.
STORED = "stored"
MOVED = "moved"      # another request gave the session a new key meanwhile: variables stored, key not
GONE = "gone"        # another request deleted the session meanwhile: nothing stored

Realms = Dict[bytes, Dict[bytes, bytes]]


class Loaded:
    """One session as it was at the look-up.

    `handle` is the store's own name for the session and stays the same when the key changes; `identity` is
    opaque; `expires` is in seconds since 1970; `realms` maps realm -> variable -> value, all in bytes.
    """

    __slots__ = ("handle", "identity", "expires", "realms")

    def __init__(self, handle: object, identity: bytes, expires: int, realms: Realms) -> None:
        self.handle = handle
        self.identity = identity
        self.expires = expires
        self.realms = realms


class Change:
    """All that one request writes; a store applies it as a whole or not at all.

    `deletes`: handles of sessions to remove, first.  Then, if `key` is set, one session is written: a new one
    if `handle` is None, else the one of `handle`, provided that it still exists.
    `expected` is the key under which that session was found, `key` the one it shall have.
    `header` says that key, identity and expires are to be written as well as variables.
    `clears` maps a realm to whether it stays known while empty; they come before `sets`.
    `sets` maps (realm, name) to a value, or to None to erase; the name None stands for the realm itself.
    """

    __slots__ = ("deletes", "handle", "expected", "key", "identity", "expires", "header", "clears", "sets")

    def __init__(self) -> None:
        self.deletes: List[Any] = []
        self.handle: Any = None
        self.expected = b""
        self.key: Optional[bytes] = None
        self.identity = b""
        self.expires = 0
        self.header = False
        self.clears: Dict[bytes, bool] = {}
        self.sets: Dict[Tuple[bytes, Optional[bytes]], Optional[bytes]] = {}


class Store:
    """What every store offers.  All methods may be called from any thread and raise SessionError."""

    def check(self) -> None:
        """Prove that the store can be used now; SessionError says what is wrong and where."""
        raise NotImplementedError

    def load(self, key: bytes, now: int) -> Optional[Loaded]:
        """The session of `key` unless it expired at or before `now` (seconds since 1970)."""
        raise NotImplementedError

    def commit(self, change: Change) -> Tuple[str, object]:
        """Apply `change` durably before returning; STORED, MOVED or GONE, and the session's handle."""
        raise NotImplementedError

    def sweep(self, now: int, limit: int, every: int) -> int:
        """Remove up to `limit` sessions that expired; the number removed, 0 if it is not our turn.

        Of all workers one wins a turn, each `every` seconds; the winner may come back at once while it gets
        `limit`.
        """
        raise NotImplementedError

    def shared(self, max_bytes: int) -> SharedStore:
        """The dictionary of all workers in this store, over the same connections; see shared_store.py.

        `max_bytes` bounds the sum of its keys and values.  Opens nothing.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Give up connections; the store opens new ones if it is used again.

        No other thread may be using the store meanwhile.
        """
        raise NotImplementedError


def open_store(url: str, logger: logging.Logger) -> Store:
    """The store for `url`, for example `sqlite:///var/lib/luafcgid2/state.db`.

    Nothing is opened yet.  Raises ConfigError for a scheme that is not known or a URL that is incomplete.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in STORES:
        # The rest may hold a password.
        raise ConfigError("SessionStore %r is not understood: it must begin with %s" % (
            scheme + separator + "..." * bool(rest), " or ".join(name + "://" for name in STORES)))
    module, name = STORES[scheme]
    store: Store = getattr(importlib.import_module(module, __name__), name)(rest, logger)
    return store
