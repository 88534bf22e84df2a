"""Python values as the byte strings that lua/values.lua reads: how lists and tables get into a Lua state.

In: None, booleans, numbers, strings, bytes, and lists and dictionaries of these.  Out: bytes; values.lua says what
they look like.  forms.py and jsontext.py call it.  It knows nothing of requests, and reads nothing back.
"""
from __future__ import annotations

import math
from typing import Any, List

# As deep as values.lua writes tables.
MAX_DEPTH = 100
_MIN_INTEGER, _MAX_INTEGER = -(1 << 63), (1 << 63) - 1


def encode(value: Any, null: bytes = b"") -> bytes:
    """`value` for values.decode.  `null` stands for each None; without it, None is what Lua has no entry for.

    Text becomes UTF-8, integers that Lua does not have become floats.  Raises ValueError for what is nested over
    MAX_DEPTH levels.
    """
    out: List[bytes] = []
    _write(out, value, null, 0)
    return b"".join(out)


def _write(out: List[bytes], value: Any, null: bytes, depth: int) -> None:
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        out.append(b"s%d:%s" % (len(value), value))
    elif value is None:
        out.append(null)
    elif isinstance(value, bool):
        out.append(b"t" if value else b"f")
    elif isinstance(value, (int, float)):
        out.append(_number(value))
    else:
        _write_table(out, value, null, depth)


def _write_table(out: List[bytes], value: Any, null: bytes, depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise ValueError("nested over %d levels" % MAX_DEPTH)
    out.append(b"{")
    for key, item in value.items() if isinstance(value, dict) else enumerate(value, 1):
        if item is not None or null:
            _write(out, key, null, depth)
            _write(out, item, null, depth + 1)
    out.append(b"}")


def _number(value: Any) -> bytes:
    if isinstance(value, int):
        if _MIN_INTEGER <= value <= _MAX_INTEGER:
            return b"i%d;" % value
        value = float(value)
    if math.isnan(value):
        return b"dnan;"
    return b"d%s;" % repr(value).encode("ascii")
