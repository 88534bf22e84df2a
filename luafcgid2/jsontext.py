"""JSON that a client sent, for lf.json(): RFC 8259, by Python's own parser.

In: the text as bytes.  Out: bytes that lua/values.lua reads, or an HTTP status and what is wrong.  wiring.py hands
`decode` to the Lua states, lua/inputs.lua calls it.  It writes no JSON.
"""
from __future__ import annotations

from typing import Any, Tuple, Union

from .luavalues import encode

# Digits.  No integer of Lua's has more, and turning long ones into numbers takes time that a client must not have.
_LONGEST_INTEGER = 20


def decode(text: bytes, null: bytes = b"") -> Union[bytes, Tuple[int, bytes]]:
    """The value in `text`; or 400 and what is wrong with it.  `null` is what null becomes, as values.lua writes it;
    without it, nothing at all.  At the top there is nothing to leave out: there it is b""."""
    # Most sites never get any.
    import json
    try:
        value = json.loads(text.decode("utf-8-sig"), parse_int=_integer, parse_constant=_constant)
        return encode(value, null)
    except RecursionError:
        return 400, b"the JSON is nested too deep"
    except ValueError as error:
        return 400, ("the JSON is broken: %s" % error).encode("utf-8", "backslashreplace")


def _integer(digits: str) -> Union[int, float]:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)


def _constant(name: str) -> Any:
    raise ValueError("%s is no JSON" % name)
