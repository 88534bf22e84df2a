"""Shared memory between the master and its workers: what every process of the server may know at any time.

In: how many workers and threads there is room for.  Out: numbers and short texts that every process sees at
once, without a lock: each cell is one aligned 64-bit word with a single writer, so a reader gets the old or the
new value, never a mixture; a text may be seen half written, and is only ever shown.  The master makes the
scoreboard before it forks.  It writes the header, the quarantine and the cells of a slot that say so; of a thread's
line the thread writes `state`, `started` and `script`; all other cells of a slot are written by the main thread of
the worker that owns it.  Nothing is kept on disk.  This
module does not fork and does not judge the numbers.
"""
from __future__ import annotations

import mmap
import os
import zlib
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Tuple

from .digests import blake2b

WORD = 8                        # bytes of one cell
MAGIC = 0x3262643264696766      # a reader from outside knows by it what it has opened
NAME = "luafcgid2-scoreboard"   # of the memory, in /proc/PID/fd

# Cells in order.  Times are nanoseconds of the monotonic clock, which all processes share, but `since_*`, which
# are seconds since 1970 (nanoseconds in QUARANTINED, to compare with files); sizes are bytes, but `*_kb`.
HEADER = ("magic", "layout", "generation", "slots", "threads", "used", "since_start", "since_reload", "target",
          "asked", "answered", "shedding", "quarantine_serial", "restarts", "most_busy", "limit_reached", "queue",
          "queue_most", "queue_limit", "past_requests", "past_errors", "past_timeouts", "past_us", "past_in",
          "past_out", "past_accepted", "past_cpu_us", "reloads", "pss_kb", "budget_kb", "retired", "past_slow",
          "past_evicted", "killed", "changes")
# What a worker must know before it runs a script: whenever one of these changes, `changes` moves, too.
NOTED = ("generation", "shedding", "quarantine_serial")
WORKER = ("pid", "state", "since_start", "heartbeat", "requests", "busy", "errors", "timeouts", "busy_us",
          "bytes_in", "bytes_out", "accepted", "connections", "threads", "states", "heap_kb", "cpu_us",
          "evicted", "slow", "traced", "pss_kb", "awake",
          # These are the master's.
          "evict", "rss_kb", "own_kb", "told", "heirs", "hung")
# `overran` is `started` of the last request that is counted among the time-outs.
THREAD = ("state", "serial", "requests", "started", "heap_kb", "bytes_in", "bytes_out", "errors", "overran")
SCRIPT = ("requests", "errors", "busy_us", "most_us", "states", "heap_kb")
QUARANTINED = ("until", "level", "strikes", "past", "since")
# States of a worker and of a thread.
EMPTY, STARTING, READY, DRAINING = range(4)
IDLE, RUNNING = range(2)
# Latencies: two buckets for each doubling of the microseconds.
BUCKETS = 64
SCRIPTS = 16                    # scripts that a worker reports, those that took most time first
QUARANTINE = 32
TEXTS = {"trace": 512, "method": 2, "uri": 30, "script": 30, "path": 30, "query": 10,
         "outcome": 28}         # words, the length among them

HEADER_WORDS = 64 + BUCKETS
THREAD_TEXTS = 10
THREAD_WORDS = THREAD_TEXTS + TEXTS["method"] + TEXTS["uri"] + TEXTS["script"]
SCRIPT_WORDS = 8 + TEXTS["path"] + BUCKETS
QUARANTINE_WORDS = 8 + TEXTS["path"]
WORKER_WORDS = 32 + BUCKETS + TEXTS["trace"]
STATE, STARTED = THREAD.index("state"), THREAD.index("started")
GENERATION = HEADER.index("generation")
# Who looks from outside may be of another version: it must know when the cells mean something else.
LAYOUT = zlib.crc32(repr((HEADER, WORKER, THREAD, SCRIPT, QUARANTINED, TEXTS, BUCKETS, SCRIPTS, QUARANTINE)).encode())
QUARANTINE_SERIAL = HEADER.index("quarantine_serial")
SHEDDING = HEADER.index("shedding")
CHANGES = HEADER.index("changes")


class Line:
    """A run of named cells; plain attributes that live in shared memory.

    All are integers from 0 to 2**64 - 1.  `line.requests += 1` reads and writes in two steps: one writer.
    """

    __slots__ = ("cells", "base")
    FIELDS: Tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        for offset, name in enumerate(cls.FIELDS):
            setattr(cls, name, (_noted_cell if name in NOTED else _cell)(offset))

    def __init__(self, cells: memoryview, base: int) -> None:
        self.cells, self.base = cells, base

    def __getattr__(self, name: str) -> Any:
        # Only for what __init_subclass__ did not make; type checkers learn from it that there are more.
        raise AttributeError(name)

    if TYPE_CHECKING:
        def __setattr__(self, name: str, value: Any) -> None: ...

    def clear(self) -> None:
        """Set every cell to 0; for the owner, or for the master once the owner is dead."""
        for offset in range(len(self.FIELDS)):
            self.cells[self.base + offset] = 0

    def values(self) -> Dict[str, int]:
        """All cells as they are now, by name."""
        return dict(zip(self.FIELDS, self.cells[self.base:self.base + len(self.FIELDS)]))


def _cell(offset: int) -> property:
    def get(line: Line) -> int:
        return line.cells[line.base + offset]

    def put(line: Line, value: int) -> None:
        line.cells[line.base + offset] = value

    return property(get, put)


def _noted_cell(offset: int) -> property:
    def put(line: Line, value: int) -> None:
        if line.cells[line.base + offset] != value:
            line.cells[line.base + offset] = value
            # Afterwards: who sees the new number sees the new value.
            line.cells[line.base + CHANGES] += 1

    return _cell(offset).setter(put)


class _Text:
    """A short byte string in shared memory: its length, then the bytes; what is too long loses its end."""

    def __init__(self, offset: int, words: int) -> None:
        self._offset, self._size = offset, (words - 1) * WORD

    def __get__(self, line: Any, owner: Any = None) -> Any:
        if line is None:
            return self
        at = (line.base + self._offset + 1) * WORD
        return bytes(line.cells.obj[at:at + min(self._size, line.cells[line.base + self._offset])])

    def __set__(self, line: Any, value: bytes) -> None:
        value = value[:self._size]
        at = (line.base + self._offset + 1) * WORD
        line.cells[line.base + self._offset] = 0
        line.cells.obj[at:at + len(value)] = value
        line.cells[line.base + self._offset] = len(value)


class _Counts:
    """Requests by duration, in the buckets of `bucket`: a list of numbers to read, any numbers to write."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def __get__(self, line: Any, owner: Any = None) -> Any:
        if line is None:
            return self
        at = line.base + self._offset
        return list(line.cells[at:at + BUCKETS])

    def __set__(self, line: Any, counts: Any) -> None:
        at = line.base + self._offset
        for offset, count in enumerate(counts):
            line.cells[at + offset] = count


class Header(Line):
    """The whole server's line; `past_latencies` are those of dead workers.

    `asked` counts the reloads and upgrades that were asked for, `answered` is the number of the last one that is
    finished, and `outcome` says why it changed nothing, b"" if it did.
    """

    __slots__ = ()
    FIELDS = HEADER
    outcome = _Text(36, TEXTS["outcome"])
    past_latencies = _Counts(64)


class ThreadLine(Line):
    """What one thread does; `uri`, `script` and `method` are written once a request has run for a while."""

    __slots__ = ()
    FIELDS = THREAD
    method = _Text(THREAD_TEXTS, TEXTS["method"])
    uri = _Text(THREAD_TEXTS + TEXTS["method"], TEXTS["uri"])
    script = _Text(THREAD_TEXTS + TEXTS["method"] + TEXTS["uri"], TEXTS["script"])


class ScriptLine(Line):
    """What one worker knows of one script; `path` b"" = the line is not in use."""

    __slots__ = ()
    FIELDS = SCRIPT
    path = _Text(8, TEXTS["path"])
    latencies = _Counts(8 + TEXTS["path"])


class QuarantineLine(Line):
    """A script in quarantine; `until` in nanoseconds, `path` b"" = the line is not in use.  Once `until` is past the
    script is on trial.  `strikes` and `past` count all strikes and all quarantines of the script."""

    __slots__ = ()
    FIELDS = QUARANTINED
    path = _Text(8, TEXTS["path"])


class WorkerSlot(Line):
    """One worker's part: its own cells, a line for each thread and script, its latencies."""

    __slots__ = ("lines", "scripts")
    FIELDS = WORKER
    latencies = _Counts(32)
    # What its threads ran when they were last asked for it; `traced` counts that.
    trace = _Text(32 + BUCKETS, TEXTS["trace"])

    def __init__(self, cells: memoryview, base: int, threads: int) -> None:
        super().__init__(cells, base)
        at = base + WORKER_WORDS
        self.lines = [ThreadLine(cells, at + number * THREAD_WORDS) for number in range(threads)]
        at += threads * THREAD_WORDS
        self.scripts = [ScriptLine(cells, at + number * SCRIPT_WORDS) for number in range(SCRIPTS)]

    @property
    def running(self) -> List[ThreadLine]:
        """The lines of the threads that run a request."""
        return [line for line in self.lines if line.state == RUNNING]

    def clear(self) -> None:
        """Set everything to 0."""
        super().clear()
        self.trace = b""
        self.latencies = [0] * BUCKETS
        for line in (*self.lines, *self.scripts):
            line.clear()
            for name in ("method", "uri", "script", "path"):
                if hasattr(type(line), name):
                    setattr(line, name, b"")
        for script in self.scripts:
            script.latencies = [0] * BUCKETS


def script_key(path: bytes) -> bytes:
    """What a script goes by in the scoreboard: its path, or the beginning and a digest of one that is too long."""
    size = (TEXTS["path"] - 1) * WORD
    if len(path) <= size:
        return path
    digest = b"~" + blake2b(path, digest_size=8).hexdigest().encode()
    return path[:size - len(digest)] + digest


def bucket(microseconds: int) -> int:
    """The latency bucket: twice the number of bits, and one more in the upper half of a doubling."""
    bits = microseconds.bit_length()
    if bits < 2:
        return bits
    return min(BUCKETS - 1, 2 * bits + (microseconds >> (bits - 2) & 1))


def bucket_top(index: int) -> int:
    """The first duration, in microseconds, that is too long for a bucket."""
    if index < 4:
        return (1, 2, 2, 2)[index]
    bits, half = divmod(index, 2)
    return (1 << bits) if half else 3 << (bits - 2)


class Scoreboard:
    """The shared memory of one master and its workers.

    slots: room for so many workers at a time, those that drain included; threads: the most in one worker.
    `cells` is the memory as 64-bit words, for a loop that wants `cells[GENERATION]` without a property.
    """

    def __init__(self, slots: int, threads: int, memory: Any = None) -> None:
        self.slots, self.threads = slots, threads
        self._slot_words = WORKER_WORDS + threads * THREAD_WORDS + SCRIPTS * SCRIPT_WORDS
        self._first = HEADER_WORDS + QUARANTINE * QUARANTINE_WORDS
        self._memory = memory or _shared((self._first + slots * self._slot_words) * WORD)
        self.cells = memoryview(self._memory).cast("Q")
        self.header = Header(self.cells, 0)
        self.quarantine = [QuarantineLine(self.cells, HEADER_WORDS + number * QUARANTINE_WORDS)
                           for number in range(QUARANTINE)]
        if memory is None:
            self.header.slots, self.header.threads, self.header.layout = slots, threads, LAYOUT
            self.header.magic = MAGIC

    @classmethod
    def of(cls, pid: int) -> "Scoreboard":
        """The scoreboard of the master with that pid, to read.

        OSError when the process cannot be looked into; LookupError when it has none.
        """
        folder = "/proc/%d/fd" % pid
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if not _names_memory(path):
                continue
            with open(path, "rb") as file:
                memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            cells = memoryview(memory).cast("Q")
            if cells[0] == MAGIC and cells[1] == LAYOUT:
                return cls(cells[HEADER.index("slots")], cells[HEADER.index("threads")], memory)
        raise LookupError("pid %d has no scoreboard of this version" % pid)

    @property
    def generation(self) -> int:
        """How many flushes there were; a Lua state made under another number is stale."""
        return self.cells[GENERATION]

    def flush(self) -> int:
        """Increment the generation and return it; the master only."""
        self.header.generation += 1
        return self.generation

    def slot(self, number: int) -> WorkerSlot:
        """Slot `number` (0 and up); IndexError past the last one."""
        if not 0 <= number < self.slots:
            raise IndexError(f"no slot {number} in a scoreboard of {self.slots}")
        return WorkerSlot(self.cells, self._first + number * self._slot_words, self.threads)

    def take(self) -> int:
        """The number of a free slot, for a new worker; the master only.  IndexError when all are in use."""
        number = 0
        while self.slot(number).state != EMPTY:
            number += 1
        self.slot(number).state = STARTING
        # Lines behind the last one in use are never touched, so that they cost no memory.
        self.header.used = max(self.header.used, number + 1)
        return number

    def give_back(self, number: int) -> None:
        """Clear the slot of a dead worker, after its counts are added to the totals; the master only."""
        slot, header = self.slot(number), self.header
        for name, past in PAST.items():
            setattr(header, past, getattr(header, past) + getattr(slot, name))
        header.past_latencies = map(sum, zip(header.past_latencies, slot.latencies))
        slot.clear()

    def workers(self) -> Iterator[Tuple[int, WorkerSlot]]:
        """Number and slot of every worker that there is."""
        for number in range(self.header.used):
            slot = self.slot(number)
            if slot.state != EMPTY:
                yield number, slot

    @property
    def busy(self) -> bool:
        """Whether any worker runs a request, or did a moment ago."""
        return any(slot.awake or slot.running for _, slot in self.workers())


# What of a worker outlives it, and where it is added.
PAST = {"requests": "past_requests", "errors": "past_errors", "timeouts": "past_timeouts", "busy_us": "past_us",
        "bytes_in": "past_in", "bytes_out": "past_out", "accepted": "past_accepted", "cpu_us": "past_cpu_us",
        "slow": "past_slow", "evicted": "past_evicted"}


def _names_memory(path: str) -> bool:
    try:
        return NAME in os.readlink(path)
    except OSError:
        return False


def _shared(size: int) -> mmap.mmap:
    """Anonymous and shared: no file to leave behind, gone with the last process.  On Linux it has a name, by which
    luafcgid2ctl finds it; the descriptor must stay open for that, in the master."""
    if not hasattr(os, "memfd_create"):
        return mmap.mmap(-1, size)
    descriptor = os.memfd_create(NAME, os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        # mmap keeps a duplicate of the descriptor open, under the same name.
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
