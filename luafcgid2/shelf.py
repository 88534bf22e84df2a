"""Versions of scripts whose last state was closed for another script's: their files need not be read and compiled anew.

In: versions, as the pool forgets their scripts.  Out: the version of a script that is asked for again, if its files are
as they were.  pool.py calls it, in any thread.  It holds so many bytes of bytecode at most.

Where more scripts take turns than fit, dropping the one put down longest ago would drop each just before it is asked
for.  So any one goes, as it comes.
"""
from __future__ import annotations

import itertools
import threading
from typing import Dict, Optional, Tuple

from .errors import Error
from .script import Script, Version

# Of bytecode, in a worker: some 1,300 scripts of 100 lines.
MOST = 8 << 20
# How far apart those are that go.
STRIDE = 7919


class Shelf:
    """See the module's contract."""

    def __init__(self, most: int = MOST) -> None:
        self._most, self._size, self._turn = most, 0, 0
        self._lock = threading.Lock()
        # (path, root) -> version, generation, size
        self._versions: Dict[Tuple[bytes, bytes], Tuple[Version, int, int]] = {}

    def put(self, version: Version, generation: int) -> None:
        """Keep a version whose generation was this one."""
        size = version.size
        script = version.script
        if size > self._most // 8:
            return
        with self._lock:
            self._drop((script.path, script.root))
            while self._size + size > self._most:
                self._turn += STRIDE
                place = self._turn % len(self._versions)
                self._drop(next(itertools.islice(self._versions, place, None)))
            self._versions[script.path, script.root] = version, generation, size
            self._size += size

    def take(self, script: Script, generation: int) -> Optional[Version]:
        """The version of `script`, which is not kept any longer; None if there is none that holds."""
        with self._lock:
            found = self._drop((script.path, script.root))
        if found is None:
            return None
        version = found[0]
        try:
            if found[1] != generation or version.script.real != script.real or version.changed():
                return None
        except Error:
            # Gone, or not readable: who reads it anew says so.
            return None
        return version

    def clear(self) -> None:
        """Keep none."""
        with self._lock:
            self._versions.clear()
            self._size = 0

    def _drop(self, name: Tuple[bytes, bytes]) -> Optional[Tuple[Version, int, int]]:
        found = self._versions.pop(name, None)
        if found is not None:
            self._size -= found[2]
        return found
