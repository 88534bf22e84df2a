"""What the fuzzed decoders must say: each rule written once more, one byte after the other, with no care for speed.

In: bytes.  Out: plain values, or None where the bytes must be refused.  targets.py and siege.py compare with it;
it shares no code with the package, or it would share its faults.
"""
from __future__ import annotations

from typing import Dict, List, Optional, Tuple, Union

Pairs = List[Tuple[bytes, bytes]]


def _length(data: bytes, at: int) -> Optional[Tuple[int, int]]:
    """The length that starts at `at` (FastCGI 1.0, section 3.4) and what follows it; None where it is cut off."""
    if at >= len(data):
        return None
    if data[at] < 128:
        return data[at], at + 1
    if at + 4 > len(data):
        return None
    return int.from_bytes(data[at:at + 4], "big") - (1 << 31), at + 4


def pairs(data: bytes) -> Optional[Pairs]:
    """All pairs in order; None where a length is cut off or points past the end."""
    found, at = [], 0
    while at < len(data):
        name_length = _length(data, at)
        value_length = name_length and _length(data, name_length[1])
        if not value_length:
            return None
        start = value_length[1]
        middle, at = start + name_length[0], start + name_length[0] + value_length[0]
        if at > len(data):
            return None
        found.append((data[start:middle], data[middle:at]))
    return found


def joined(found: Pairs) -> Dict[bytes, bytes]:
    """Of a repeated name the last one wins, but the lines of a repeated header are one value."""
    lines: Dict[bytes, List[bytes]] = {}
    for name, value in found:
        lines.setdefault(name, []).append(value)
    return {name: (b"; " if name == b"HTTP_COOKIE" else b", ").join(values) if name[:5] == b"HTTP_" else values[-1]
            for name, values in lines.items()}


def env(found: Pairs) -> Dict[bytes, bytes]:
    """Env as scripts see it."""
    values = joined(found)
    values.pop(b"HTTP_PROXY", None)
    values[b"FCGI_ROLE"] = b"RESPONDER"
    return values


def cookies(text: bytes) -> Dict[bytes, bytes]:
    """Cookies of a header's value: see cookies.lua."""
    found, at = {}, 0
    while at < len(text):
        name = value = b""
        while at < len(text) and text[at] not in b"=;":
            name, at = name + text[at:at + 1], at + 1
        if text[at:at + 1] == b"=":
            at, quoted = at + 1, False
            while at < len(text) and (quoted or text[at] not in b";"):
                quoted ^= text[at] in b'"'
                value, at = value + text[at:at + 1], at + 1
        if len(value) > 1 and value[:1] == value[-1:] == b'"':
            value = value[1:-1]
        at += 1
        if name.strip(b" "):
            found[name.strip(b" ")] = value
    return found


def _decoded(text: bytes) -> bytes:
    out, at = b"", 0
    while at < len(text):
        digits = text[at + 1:at + 3]
        if text[at] in b"%" and len(digits) == 2 and all(digit in b"0123456789abcdefABCDEF" for digit in digits):
            out, at = out + bytes((int(digits, 16),)), at + 3
        else:
            out, at = out + (b" " if text[at] in b"+" else text[at:at + 1]), at + 1
    return out


def query(text: bytes) -> Dict[bytes, Union[bytes, List[bytes]]]:
    """A query string as lf.parse reads it: name -> value, or -> the list of the values of a repeated name."""
    found: Dict[bytes, List[bytes]] = {}
    for pair in text.split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            found.setdefault(_decoded(name), []).append(_decoded(value))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def head(data: bytes) -> Optional[Tuple[int, List[Tuple[str, str]], int]]:
    """(status, headers, size) of a CGI header block (RFC 3875, section 6); None while it is not complete.

    Raises ValueError for a line that is no header, and for a Status that is none.
    """
    lines, at = [], 0
    while True:
        stop = data.find(b"\n", at)
        if stop < 0:
            return None
        line, at = data[at:stop], stop + 1
        if line in (b"", b"\r"):
            break
        lines.append(line.decode("latin-1").rstrip("\r"))
    status, headers = 0, []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ValueError(line)
        if name.lower() == "status":
            code = value.strip().split(" ")[0]
            if len(code) != 3 or code[0] not in "123456789" or any(digit not in "0123456789" for digit in code):
                raise ValueError(line)
            status = int(code)
        else:
            headers.append((name, value.strip()))
    if not status:
        status = 302 if any(name.lower() == "location" for name, _ in headers) else 200
    return status, headers, at
