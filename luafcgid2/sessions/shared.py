"""The shared dictionary as scripts use it: one function that Lua calls, and housekeeping.

In: a store's dictionary; from shared.lua the name of an operation and its arguments, of which Lua has checked
the types.  Out: bytes, numbers, booleans or None for Lua.  Errors are SessionError.  A worker makes one
SharedService, for all its Lua states and threads.  Values are opaque here, or numbers; see shared_store.py.
"""
from __future__ import annotations

import logging
import time
from typing import Any, Callable, Dict, Optional

from ..errors import SessionError
from .shared_store import MAX_TTL, Number, SharedStore, Value, shown, size_of

# Name of the host function -> method of SharedService.  One for all operations: each costs time in every new state.
HOST_CALLS = {"shared": "call"}
MIN_TTL = 0.001      # seconds; what Redis can express
SWEEP_EVERY = 60     # seconds
SWEEP_BATCH = 500    # entries in one transaction


class SharedService:
    """The shared dictionary of one worker.

    `max_bytes` is SharedMaxBytes, the bound of the store; `clock` returns seconds that only pass.
    """

    def __init__(self, store: SharedStore, max_bytes: int, logger: Optional[logging.Logger] = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self.max_bytes = max_bytes
        self.logger = logger or logging.getLogger("luafcgid2")
        self.clock = clock
        self.used = False
        self._next_sweep = clock()
        self._operations: Dict[bytes, Callable[..., Any]] = {
            b"get": store.get, b"set": self.set, b"add": self.add, b"incr": self.incr,
            b"delete": store.delete, b"keys": self.keys, b"ttl": store.ttl,
        }

    def call(self, operation: bytes, *arguments: Any) -> Any:
        """The host function: `operation` is a name in lower case."""
        self.used = True
        return self._operations[operation](*arguments)

    def set(self, key: bytes, value: Value, ttl: Optional[Number]) -> bool:
        """Store a value for `ttl` seconds; None or 0 is for ever."""
        self._check_size(key, value)
        self.store.set(key, value, _seconds(ttl))
        return True

    def add(self, key: bytes, value: Value, ttl: Optional[Number]) -> bool:
        """As `set`, but only if there is none; whether it was stored."""
        self._check_size(key, value)
        return self.store.add(key, value, _seconds(ttl))

    def incr(self, key: bytes, by: Number, init: Optional[Number], ttl: Optional[Number]) -> Optional[Number]:
        """The sum, or None if there is none to add to and no `init`."""
        self._check_size(key, by)
        return self.store.incr(key, by, init, _seconds(ttl))

    def keys(self, prefix: bytes, limit: Number) -> bytes:
        """The keys as a list in the encoding of values.lua: `{`, then `i<index>;s<length>:<bytes>`, then `}`."""
        found = self.store.keys(prefix, int(min(limit, 1 << 31)))
        return b"{%s}" % b"".join([b"i%d;s%d:%s" % (index, len(key), key)
                                   for index, key in enumerate(found, 1)])

    def _check_size(self, key: bytes, value: Value) -> None:
        size = size_of(key, value)
        if size > self.max_bytes:
            raise SessionError("%s needs %d bytes, SharedMaxBytes is %d" % (shown(key), size, self.max_bytes))

    def sweep(self) -> int:
        """Remove a batch of entries whose time is over; the number removed.  For an idle worker.

        While it returns more than 0, call it again when idle.  Otherwise it does something at most once a
        minute, and only where scripts use Shared at all.  A store that fails is logged, never raised.
        """
        if not self.used or self.clock() < self._next_sweep:
            return 0
        try:
            removed = self.store.sweep(SWEEP_BATCH, SWEEP_EVERY)
        except SessionError as error:
            self.logger.warning("expired entries of Shared are not removed: %s", error)
            removed = 0
        if removed < SWEEP_BATCH:
            self._next_sweep = self.clock() + SWEEP_EVERY
        return removed


def _seconds(ttl: Optional[Number]) -> float:
    """A ttl as stores take it."""
    if not ttl or ttl > MAX_TTL:
        return 0.0
    return max(float(ttl), MIN_TTL)
