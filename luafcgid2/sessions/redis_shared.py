"""The shared dictionary in Redis: each entry is a string of its own, with the server's own expiry.

In: calls of the SharedStore protocol; the server of the session store, over whose connections they go.  Out:
the protocol's answers, or SessionError.  shared.py calls it.  Every method but `keys` is one round trip.

SharedMaxBytes does not bound it: the server has a bound of its own for all that it holds, `maxmemory` with
`maxmemory-policy`, and counting beside it would cost each write more than it saves.  Under `volatile-ttl` or
`volatile-lru` the server removes entries that have a ttl, and sessions; under `allkeys-lru` also those that
stay for ever; under `noeviction`, its default, writes fail once it is full.  `keys` walks over all that is in
the database, sessions too: it is for looking, not for each request.
"""
from __future__ import annotations

from typing import Any, List, Optional

from .redis_scripts import INCR, NO_NUMBER, TOO_LARGE, packed, pattern, unpacked
from .shared_store import Number, SharedStore, Value, not_a_number, too_large

LEAST, MOST = -1 << 63, (1 << 63) - 1
WALK = b"1000"


class RedisShared(SharedStore):
    """The entries below `prefix`; `server` is that of redis_store.py."""

    def __init__(self, server: Any, prefix: bytes) -> None:
        self._server = server
        self._prefix = prefix + b"d:"

    def get(self, key: bytes) -> Optional[Value]:
        found = self._server.call(b"GET", self._prefix + key)
        return None if found is None else unpacked(found)

    def set(self, key: bytes, value: Value, ttl: float) -> None:
        self._server.call(b"SET", self._prefix + key, packed(value), *_expiry(ttl))

    def add(self, key: bytes, value: Value, ttl: float) -> bool:
        return self._server.call(b"SET", self._prefix + key, packed(value), b"NX", *_expiry(ttl),
                                 again=False) is not None

    def incr(self, key: bytes, by: Number, init: Optional[Number], ttl: float) -> Optional[Number]:
        first = b"" if init is None else _sum(init, by)
        expiry = _expiry(ttl)
        found = self._server.run(INCR, b"1", self._prefix + key, packed(by), first,
                                 expiry[1] if expiry else b"0", again=False)
        if found is None:
            return None
        if found == NO_NUMBER:
            raise not_a_number(key)
        if found == TOO_LARGE:
            raise too_large(key)
        return unpacked(found)  # type: ignore[return-value]

    def delete(self, key: bytes) -> bool:
        return bool(self._server.call(b"DEL", self._prefix + key, again=False) == 1)

    def keys(self, prefix: bytes, limit: int) -> List[bytes]:
        # SCAN may give a name more than once.
        found, cursor, start = {}, b"0", len(self._prefix)
        wanted = pattern(self._prefix + prefix)
        while True:
            cursor, names = self._server.call(b"SCAN", cursor, b"MATCH", wanted, b"COUNT", WALK)
            found.update(dict.fromkeys(name[start:] for name in names))
            if cursor == b"0" or 0 < limit <= len(found):
                return list(found)[:limit or None]

    def ttl(self, key: bytes) -> Optional[float]:
        left = self._server.call(b"PTTL", self._prefix + key)
        if left == -2:
            return None
        return 0 if left == -1 else max(left, 1) / 1000

    def sweep(self, limit: int, every: int) -> int:
        return 0


def _expiry(ttl: float) -> List[bytes]:
    return [b"PX", b"%d" % max(1, round(ttl * 1000))] if ttl else []


def _sum(init: Number, by: Number) -> bytes:
    """The value of a new counter, made here, where integers are exact."""
    found = init + by
    if isinstance(found, float):
        return packed(found) if abs(found) < float("inf") else TOO_LARGE
    return packed(found) if LEAST <= found <= MOST else TOO_LARGE
