"""The last failed requests, in memory that outlives a worker and that luafcgid2ctl can read.

In: a failed request: its params, its body, what went wrong.  Out: a FailedRequest for each that is still kept.  The
master makes one Kept before it forks; a worker keeps its failures through `writer`, and so does the master for what
a dead worker left unanswered.  The memory is a file without a name (memfd), found through /proc/PID/fd as the
scoreboard is; each slot has a ring of its own, so there is one writer and no lock between processes, and what was
never written takes no memory.  A writer may be killed in the middle: such an entry has a wrong checksum and is
skipped.  Cookies and credentials are masked before they are written.  Nothing is kept on disk.
"""
from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
import zlib
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from .errors import ProtocolError
from .masks import masked
from .params import Text, decode, encode

NAME = "luafcgid2-failed"       # of the memory, in /proc/PID/fd
MAGIC = 0x6465706b67636601      # the last byte is the version of the layout
ENTRY = 32768                   # bytes of one entry: head, params, body and message
BODY, MESSAGE, TRACEBACK, PARAM, PARAMS = 12288, 2048, 4096, 2048, 11000
_FILE = struct.Struct("=QQQ")   # magic, slots, entries of each
_RING = struct.Struct("=Q")     # how many were ever written
_HEAD = struct.Struct("=QQL L")     # number, nanoseconds since 1970, size, checksum
MOST_SLOTS, MOST = 4096, 1000


class FailedRequest(NamedTuple):
    """`id` is "SLOT.NUMBER", slot 0 for what the master noted; `when` is seconds since 1970, `seconds` how long it
    ran, `params` masked.  `body` is its first BODY bytes of `size`; `cut` tells that params were left out or are
    shortened.  `status` is 0 where a worker died and nobody was answered.
    """

    id: str
    when: float
    status: int
    seconds: float
    script: bytes
    message: bytes
    traceback: bytes
    params: Dict[bytes, bytes]
    body: bytes
    size: int
    cut: bool


class Kept:
    """See the module's contract.  slots: the scoreboard's; most: KeepFailedRequests, entries of each slot."""

    def __init__(self, slots: int, most: int) -> None:
        self._slots, self._most = slots + 1, most
        self._fd = -1
        if most and hasattr(os, "memfd_create"):
            self._fd = os.memfd_create(NAME, os.MFD_CLOEXEC)
            os.pwrite(self._fd, _FILE.pack(MAGIC, self._slots, most), 0)

    def writer(self, number: int) -> Optional["Writer"]:
        """For the worker in slot `number` (0 and up), or for the master, -1; None where nothing is kept."""
        return Writer(self._fd, _ring(number + 1, self._most), self._most) if self._fd >= 0 else None


class Writer:
    """The ring of one slot.  Several threads may use it."""

    def __init__(self, fd: int, base: int, most: int) -> None:
        self._fd, self._base, self._most, self._lock = fd, base, most, threading.Lock()

    def keep(self, status: int, message: str, traceback: str, seconds: float, params: Dict[bytes, bytes],
             body: Any = b"", script: bytes = b"") -> None:
        """Keep one failure.  body: bytes, or a file that is read from its start.  Raises nothing: a failure that
        cannot be kept is not one more."""
        with contextlib.suppress(OSError, ValueError, struct.error), self._lock:
            head, size = _beginning(body)
            content = _content(status, message, traceback, seconds, params, head, size, script)
            # Another worker may have had the slot before.
            number = _RING.unpack(os.pread(self._fd, _RING.size, self._base).ljust(_RING.size, b"\0"))[0]
            at = self._base + _RING.size + number % self._most * ENTRY
            os.pwrite(self._fd, _HEAD.pack(number + 1, time.time_ns(), len(content), zlib.crc32(content)) + content, at)
            os.pwrite(self._fd, _RING.pack(number + 1), self._base)


def read(pid: int) -> List[FailedRequest]:
    """What the server with that master keeps, the latest last: as many as KeepFailedRequests.

    OSError when the process cannot be looked into; LookupError when it keeps none.
    """
    folder = "/proc/%d/fd" % pid
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        with contextlib.suppress(FileNotFoundError):
            if NAME in os.readlink(path):
                with open(path, "rb", buffering=0) as file:
                    return _read(file.fileno())
    raise LookupError("the server of pid %d keeps no failed requests (KeepFailedRequests)" % pid)


def _read(fd: int) -> List[FailedRequest]:
    # Workers write here: nothing of it is believed.  Read, not mapped: a hole stays a hole.
    magic, slots, most = _FILE.unpack(os.pread(fd, _FILE.size, 0).ljust(_FILE.size, b"\0"))
    if magic != MAGIC or slots > MOST_SLOTS or most > MOST:
        raise LookupError("what failed is kept by another version of luafcgid2")
    found = [entry for slot in range(slots) for entry in _entries(fd, slot, most)]
    return sorted(found, key=lambda entry: entry.when)[-most:]


def _entries(fd: int, slot: int, most: int) -> Iterator[FailedRequest]:
    base = _ring(slot, most)
    number = _RING.unpack(os.pread(fd, _RING.size, base).ljust(_RING.size, b"\0"))[0]
    for index in range(min(number, most)):
        data = os.pread(fd, ENTRY, base + _RING.size + index * ENTRY)
        with contextlib.suppress(ProtocolError, ValueError, KeyError, struct.error):
            count, when, size, checksum = _HEAD.unpack_from(data)
            content = data[_HEAD.size:_HEAD.size + size]
            if zlib.crc32(content) == checksum:
                yield _failed("%d.%d" % (slot, count), when / 1e9, decode(content))


def _failed(name: str, when: float, found: Dict[bytes, bytes]) -> FailedRequest:
    return FailedRequest(name, when, int(found[b"status"]), float(found[b"seconds"]), found[b"script"],
                         found[b"message"], found[b"traceback"], decode(found[b"params"]), found[b"body"],
                         int(found[b"size"]), found[b"cut"] == b"1")


def _ring(slot: int, most: int) -> int:
    """Where the ring of a slot begins; whole pages, so that slots share none."""
    return 4096 + slot * (4096 + most * ENTRY)


def _beginning(body: Any) -> Tuple[bytes, int]:
    """The first bytes of a request's body, and its size."""
    if isinstance(body, bytes):
        return body[:BODY], len(body)
    size = body.seek(0, os.SEEK_END)
    body.seek(0)
    return body.read(BODY), size


def _content(status: int, message: str, traceback: str, seconds: float, params: Dict[bytes, bytes], body: bytes,
             size: int, script: bytes) -> bytes:
    pairs: List[Tuple[Text, Text]] = []
    room, cut = PARAMS, False
    for name, value in masked(params).items():
        short = value[:PARAM]
        room -= len(name) + len(short) + 8
        cut = cut or short != value or room < 0
        if room >= 0:
            pairs.append((name, short))
    return encode({
        b"status": b"%d" % status, b"seconds": b"%.6f" % seconds, b"size": b"%d" % size, b"cut": b"%d" % cut,
        b"script": (script or params.get(b"SCRIPT_FILENAME", b""))[:1024],
        b"message": message.encode("utf-8", "backslashreplace")[:MESSAGE],
        b"traceback": traceback.encode("utf-8", "backslashreplace")[:TRACEBACK],
        b"params": encode(pairs), b"body": body}.items())
