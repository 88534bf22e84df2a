"""Name-value pairs of PARAMS and GET_VALUES (FastCGI 1.0, section 3.4): pure functions, no I/O.

In: bytes, or pairs.  Out: pairs, or bytes.  The server looks up three names here; the whole Env is decoded
in Lua, by the same rules: pairs are found by walking the lengths, never by searching the bytes, because a
client may write any bytes into a header's value, and of a repeated name the last one wins.
"""
from __future__ import annotations

import struct
from typing import Dict, Iterable, Iterator, Mapping, NamedTuple, Tuple, Union

from .errors import ProtocolError

_LONG = struct.Struct("!L")
Text = Union[bytes, str]


class Wanted(NamedTuple):
    """What the server itself reads of a request's params; b"" stands for a name that is absent."""

    script_filename: bytes
    document_root: bytes
    script_name: bytes


def _length(value: int) -> bytes:
    return bytes((value,)) if value < 128 else _LONG.pack(value | 0x80000000)


def _bytes(value: Text) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def encode(pairs: Union[Mapping[Text, Text], Iterable[Tuple[Text, Text]]]) -> bytes:
    """Pairs as the content of a PARAMS stream; lengths over 127 take four bytes."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    parts = []
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


def decode(data: bytes) -> Dict[bytes, bytes]:
    """All pairs as a dict; of a repeated name the last one wins.  Raises ProtocolError."""
    return dict(walk(data))


_SLOTS = {b"SCRIPT_FILENAME": 0, b"DOCUMENT_ROOT": 1, b"SCRIPT_NAME": 2}


def find(data: bytes) -> Wanted:
    """The three names the server needs, found by walking.  Raises ProtocolError.

    The loop repeats what `walk` does because a generator and a dict would double its cost, which every
    request pays: about 5 microseconds for 23 pairs.
    """
    found = [b"", b"", b""]
    position, size = 0, len(data)
    try:
        while position < size:
            name_length = data[position]
            value_length = data[position + 1]
            position += 2
            if name_length > 127 or value_length > 127:
                position -= 2
                if name_length > 127:
                    name_length = _LONG.unpack_from(data, position)[0] & 0x7FFFFFFF
                    position += 3
                value_length = data[position + 1]
                position += 2
                if value_length > 127:
                    value_length = _LONG.unpack_from(data, position - 1)[0] & 0x7FFFFFFF
                    position += 3
            middle = position + name_length
            end = middle + value_length
            # Only names of these lengths can be wanted, so most pairs cost no slice.
            if name_length == 15 or name_length == 13 or name_length == 11:
                slot = _SLOTS.get(data[position:middle])
                if slot is not None:
                    found[slot] = data[middle:end]
            position = end
    except (IndexError, struct.error):
        raise ProtocolError("params: cut off in the lengths at byte %d of %d" % (position, size)) from None
    if position > size:
        raise ProtocolError("params: the last pair is longer than the %d bytes sent" % size)
    return Wanted(*found)
