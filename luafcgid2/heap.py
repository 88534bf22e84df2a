"""The C library's heap of one worker: where Python and Lua get their memory, and how it goes back to the kernel.

In: nothing.  Out: settings of malloc, and memory given back.  wiring.py calls `configure` once before the threads of
a worker start; monitor.py calls `trim` when nothing is under way.  Other C libraries than glibc have no such
settings: there nothing is done.

glibc gives each thread an arena, which keeps what was freed in it; and whoever frees a large block once has all
blocks up to that size come from there from then on.  Answers of some megabytes, made by each thread in turn, so stay
resident several times over, for good.  With one arena, a fixed limit for large blocks, and what is free given back when
there is nothing to do, a worker is as small after them as before (mallopt(3), malloc_trim(3)).
"""
from __future__ import annotations

import contextlib
import ctypes

from . import procfs

# <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
# Bytes.  Larger blocks come from the kernel, at the price of a page fault for each of their pages, every time.  On 32
# bits glibc takes no more than half a megabyte.
LARGE = (4 << 20) if ctypes.sizeof(ctypes.c_size_t) > 4 else (512 << 10)
# What is free at the end of the heap stays until there is nothing to do, up to this: or uploads and answers of a
# megabyte, of all threads, would fault in their pages again each time.
KEPT = 4 * LARGE
SETTINGS = {M_ARENA_MAX: 1, M_MMAP_THRESHOLD: LARGE, M_TRIM_THRESHOLD: KEPT}
# A worker that has grown by less is not worth the milliseconds that looking through its heap takes.
GROWN_KB = 1024


class Heap:
    """See the module's contract."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._mallopt = getattr(library, "mallopt", None)
        self._malloc_trim = getattr(library, "malloc_trim", None)
        # Resident KB after the last trim.
        self._least = 0

    def configure(self) -> None:
        """Before the threads start, which would get arenas of their own."""
        if self._mallopt is not None:
            for parameter, value in SETTINGS.items():
                self._mallopt(parameter, value)

    def trim(self) -> None:
        """Give the kernel back what is free, if the process has grown since the last time."""
        if self._malloc_trim is None:
            return
        # Without descriptors /proc cannot be read: another time, then.
        with contextlib.suppress(OSError):
            if procfs.rss_kb("self") >= self._least + GROWN_KB:
                self._malloc_trim(ctypes.c_size_t(0))
                self._least = procfs.rss_kb("self")
