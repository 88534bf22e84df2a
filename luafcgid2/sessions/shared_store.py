"""The protocol of the shared dictionary: what `Shared` needs of a store.

In: keys and values from shared.py.  Out: what each method below says, or SessionError that names the store
(for a mistake of the script: the key).  Every `Store` gives its dictionary by `shared(max_bytes)`; all
workers on the same store see the same entries.  Each call takes effect at once and for all, and is atomic;
nothing waits for the end of a request.  Making a dictionary opens nothing.

Keys are any bytes.  A value is `bytes` (opaque, made by values.lua) or a number: an `int` of 64 bits with sign
or a finite `float`.  Numbers must come back as the type they had, and are what `incr` counts with.

A `ttl` is in seconds: 0 is for ever, else 0.001 to MAX_TTL, fractions allowed; shared.py sees to it.  An
entry whose time is over is invisible from that moment, whenever it is really removed.

An entry's size is size_of(key, value).  When a write makes the sum of all sizes exceed `max_bytes`, entries
are removed until it fits (a little more may go): first those whose time is over, then the least recently
used (which may be known to some minutes only: reading must not write each time), never the one just written.
shared.py refuses entries that are larger than all of `max_bytes`.
"""
from __future__ import annotations

import math
from typing import List, Optional, Union

from ..errors import SessionError

MAX_TTL = 1e9
NUMBER_BYTES = 8

Number = Union[int, float]
Value = Union[bytes, int, float]


class SharedStore:
    """What every shared dictionary offers.  All methods may be called from any thread."""

    def get(self, key: bytes) -> Optional[Value]:
        """The value, or None if there is none."""
        raise NotImplementedError

    def set(self, key: bytes, value: Value, ttl: float) -> None:
        """Store `value` for `ttl` seconds, whatever was there before."""
        raise NotImplementedError

    def add(self, key: bytes, value: Value, ttl: float) -> bool:
        """Store `value` only if there is none: True.  Otherwise nothing changes, the old ttl stays: False."""
        raise NotImplementedError

    def incr(self, key: bytes, by: Number, init: Optional[Number], ttl: float) -> Optional[Number]:
        """Add `by` to the number under `key`; the sum.  The entry's remaining time does not change.

        If there is none: with `init`, init + by is stored for `ttl` seconds and is the result; with None, the
        result is None and nothing is stored (as ngx.shared.DICT.incr has it).  The sum of integers is an
        integer; where a float takes part, it is a float.  Raises not_a_number(key) if the value is bytes,
        too_large(key) if the sum leaves 64 bits or is not finite; then nothing changes.
        """
        raise NotImplementedError

    def delete(self, key: bytes) -> bool:
        """Remove the entry; whether there was one."""
        raise NotImplementedError

    def keys(self, prefix: bytes, limit: int) -> List[bytes]:
        """Keys that begin with `prefix` (any bytes, not a pattern), in any order; `limit` at most, 0 for all."""
        raise NotImplementedError

    def ttl(self, key: bytes) -> Optional[float]:
        """Seconds left, more than 0; 0 for an entry that stays for ever; None if there is none."""
        raise NotImplementedError

    def sweep(self, limit: int, every: int) -> int:
        """Housekeeping of an idle worker: remove up to `limit` entries whose time is over; the number removed.

        Of all workers one wins a turn, each `every` seconds; the winner may come back at once while it gets
        `limit`.  A store whose server does all of it returns 0.
        """
        raise NotImplementedError


def size_of(key: bytes, value: Value) -> int:
    """What an entry counts for in `max_bytes`; what the store itself needs for it comes on top."""
    return len(key) + (len(value) if isinstance(value, bytes) else NUMBER_BYTES)


def total(key: bytes, value: Optional[Value], by: Number) -> Number:
    """What `incr` makes of `value`, where None stands for any bytes; raises what `incr` raises."""
    if value is None or isinstance(value, bytes):
        raise not_a_number(key)
    found = value + by
    if not (-1 << 63 <= found < 1 << 63 if isinstance(found, int) else math.isfinite(found)):
        raise too_large(key)
    return found


def not_a_number(key: bytes) -> SessionError:
    """The error for `incr` of something that is no number."""
    return SessionError("the value of %s is not a number" % shown(key))


def too_large(key: bytes) -> SessionError:
    """The error for a sum that cannot be kept."""
    return SessionError("the number of %s would become too large" % shown(key))


def shown(key: bytes) -> str:
    """A key for a message: quoted, on one line, not longer than 100 bytes."""
    return '"%s%s"' % (key[:100].decode("ascii", "backslashreplace").replace("\n", "\\n"),
                       "..." if len(key) > 100 else "")
