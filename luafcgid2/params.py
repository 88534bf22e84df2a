"""Name-value pairs of PARAMS and GET_VALUES (FastCGI 1.0, section 3.4): pure functions, no I/O.

In: bytes, or pairs.  Out: pairs, or bytes.  The server looks up two names here; the whole Env is decoded in
Lua, by the same rules: pairs are found by walking the lengths, never by searching the bytes, because a client
may write any bytes into a header's value, and of a repeated name the last one wins.
"""
from __future__ import annotations

import struct
from typing import Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

from .errors import ProtocolError

_LONG = struct.Struct("!L")
Text = Union[bytes, str]


class Wanted(NamedTuple):
    """What the server itself reads of a request's params; b"" stands for a name that is absent."""

    script_filename: bytes
    document_root: bytes


def _length(value: int) -> bytes:
    return bytes((value,)) if value < 128 else _LONG.pack(value | 0x80000000)


def _bytes(value: Text) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def encode(pairs: Union[Mapping[Text, Text], Iterable[Tuple[Text, Text]]]) -> bytes:
    """Pairs as the content of a PARAMS stream; lengths over 127 take four bytes."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    parts: List[bytes] = []
    for name, value in items:
        name, value = _bytes(name), _bytes(value)
        parts += (_length(len(name)), _length(len(value)), name, value)
    return b"".join(parts)


def walk(data: bytes) -> Iterator[Tuple[bytes, bytes]]:
    """Each pair of `data` in order.

    Raises ProtocolError where the lengths point past the end.
    """
    position, size = 0, len(data)
    try:
        while position < size:
            name_length = data[position]
            position += 1
            if name_length > 127:
                name_length = _LONG.unpack_from(data, position - 1)[0] & 0x7FFFFFFF
                position += 3
            value_length = data[position]
            position += 1
            if value_length > 127:
                value_length = _LONG.unpack_from(data, position - 1)[0] & 0x7FFFFFFF
                position += 3
            middle = position + name_length
            end = middle + value_length
            if end > size:
                raise ProtocolError("params: a pair at byte %d is longer than the %d bytes sent" % (position, size))
            yield data[position:middle], data[middle:end]
            position = end
    except (IndexError, struct.error):
        raise ProtocolError("params: cut off in the lengths at byte %d of %d" % (position, size)) from None


def exceeds(data: bytes, most: int) -> bool:
    """Whether `data` has more than `most` pairs.  Raises ProtocolError."""
    return any(number >= most for number, _pair in enumerate(walk(data)))


def decode(data: bytes) -> Dict[bytes, bytes]:
    """All pairs as a dict.  Raises ProtocolError.

    Of a repeated name the last one wins, but for headers: nginx before 1.23 sends a pair for each line of a
    repeated header, which are one value (RFC 9110, section 5.3).  The prelude does the same (params.lua).
    """
    found: Dict[bytes, bytes] = {}
    for name, value in walk(data):
        if name in found and name.startswith(b"HTTP_"):
            value = found[name] + (b"; " if name == b"HTTP_COOKIE" else b", ") + value
        found[name] = value
    return found


_SLOTS = {b"SCRIPT_FILENAME": 0, b"DOCUMENT_ROOT": 1}


def find(data: bytes) -> Wanted:
    """The names that the server needs, found by walking.  Raises ProtocolError."""
    found = [b"", b""]
    for name, value in walk(data):
        slot = _SLOTS.get(name)
        if slot is not None:
            found[slot] = value
    return Wanted(*found)


def guess(data: bytes) -> Optional[Tuple[bytes, bytes]]:
    """The same by searching, in a seventh of the time; None where a name is absent or stands twice.

    Whoever can write a header can write bytes that look like a pair, so this is a guess: it picks the Lua
    state, whose prelude walks the lengths and runs nothing unless it reads the same values (run.lua).
    """
    found = []
    for name in (b"SCRIPT_FILENAME", b"DOCUMENT_ROOT"):
        start, size = data.find(name), len(name)
        end = start + size
        # In front of the name stand its length and that of the value, which takes one byte or four.
        if start < 2 or data.find(name, end) >= 0:
            return None
        length = data[start - 1]
        if data[start - 2] == size and length < 128:
            found.append(data[end:end + length])
        elif start > 4 and data[start - 5] == size and data[start - 4] > 127:
            found.append(data[end:end + (_LONG.unpack_from(data, start - 4)[0] & 0x7FFFFFFF)])
        else:
            return None
    return found[0], found[1]
