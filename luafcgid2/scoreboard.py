"""Shared memory between the master and its workers: the generation and one slot per worker.

In: the number of workers and of threads in each.  Out: numbers that every process sees at once, without a
lock: each cell is one aligned 64-bit word with a single writer, so a reader gets the old or the new value,
never a mixture.  The master makes the scoreboard before it forks; it alone flushes, and it clears the slot of
a worker that died; a worker writes its own slot only.  This module does not fork, does not judge the numbers
and keeps nothing on disk.
"""

from __future__ import annotations

import mmap
from typing import Dict, List

WORD = 8                    # bytes of one cell
GENERATION = 0              # index of the cell that a flush increments
SLOT_WORDS = 8              # 64 bytes: workers do not share a cache line
FIELDS = ("pid", "ready", "requests", "busy")


def _cell(offset: int, doc: str) -> property:
    def get(slot: "WorkerSlot") -> int:
        return slot._cells[slot._base + offset]

    def put(slot: "WorkerSlot", value: int) -> None:
        slot._cells[slot._base + offset] = value

    return property(get, put, doc=doc)


class WorkerSlot:
    """One worker's line of the scoreboard; plain attributes that live in shared memory.

    All are integers from 0 to 2**64 - 1.  Threads of one worker that count in the same slot need their own
    order: `slot.requests += 1` reads and writes in two steps.
    """

    __slots__ = ("_cells", "_base")

    def __init__(self, cells: memoryview, base: int) -> None:
        self._cells = cells
        self._base = base

    pid = _cell(0, "process id; 0 = no process")
    ready = _cell(1, "1 from the moment the worker accepts connections")
    requests = _cell(2, "requests answered since this worker was forked")
    busy = _cell(3, "requests under way now")

    def clear(self) -> None:
        """Set every attribute to 0; for the owner, or for the master once the owner is dead."""
        for name in FIELDS:
            setattr(self, name, 0)


class Scoreboard:
    """The shared memory of one master and its workers.

    workers: number of slots, 1 or more; threads: threads in each worker, only reported in `snapshot()`.
    `cells` is the memory as 64-bit words, for a loop that wants `cells[GENERATION]` without a property.
    """

    def __init__(self, workers: int, threads: int) -> None:
        self.workers = workers
        self.threads = threads
        # Anonymous and shared: no file to leave behind, gone with the last process.
        self._memory = mmap.mmap(-1, (1 + workers) * SLOT_WORDS * WORD)
        self.cells = memoryview(self._memory).cast("Q")

    @property
    def generation(self) -> int:
        """How many flushes there were; a Lua state made under another number is stale."""
        return self.cells[GENERATION]

    def flush(self) -> int:
        """Increment the generation and return it; the master only."""
        self.cells[GENERATION] += 1
        return self.cells[GENERATION]

    def slot(self, worker: int) -> WorkerSlot:
        """The slot of worker number `worker` (0 and up); IndexError past the last one."""
        if not 0 <= worker < self.workers:
            raise IndexError(f"no worker {worker} in a scoreboard of {self.workers}")
        return WorkerSlot(self.cells, (1 + worker) * SLOT_WORDS)

    def snapshot(self) -> List[Dict[str, int]]:
        """One dictionary per worker: worker, threads and the slot's attributes as they are now."""
        lines = []
        for index in range(self.workers):
            slot = self.slot(index)
            line = {"worker": index, "threads": self.threads}
            line.update((name, getattr(slot, name)) for name in FIELDS)
            lines.append(line)
        return lines
