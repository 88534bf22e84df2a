"""The Python side of io.popen: starts shell commands on a pipe and reaps them.

In:  a command and a mode, as bytes, from Lua.  Out: numbers and bytes, fit to be handed to Lua as they are.
One `Popens` per worker, made after the fork; the host functions popen_open, popen_opened and popen_wait
of every Lua state are its methods, from any thread.  It never reads or writes a pipe: Lua opens the
descriptor again by its name in /proc/self/fd and has a file handle of its own.  It bounds neither the number
nor the time of commands.
"""
from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from typing import IO, Dict, List, Optional, Tuple, cast

# Ends of commands whose handle was never closed are kept for a late close, up to this many.
ENDED_KEPT = 1024
_FOLDER = "/proc/self/fd"

Opened = Tuple[Optional[int], object, Optional[int]]
Ended = Tuple[Optional[bool], bytes, int]


class Popens:
    """The commands that this worker's scripts have started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Dict[int, _Command] = {}
        self._ended: "OrderedDict[int, int]" = OrderedDict()
        self._last = 0

    def open(self, command: bytes, mode: bytes) -> Opened:
        """Start `/bin/sh -c command`; mode b"r" reads its output, b"w" writes its input.

        Gives (descriptor, id, None); the descriptor stays open until `opened`.  As io.popen does, gives
        (None, message, errno) when no process or pipe can be had.  Raises ValueError for another mode and
        for a NUL in the command.

        The command gets the usual dispositions of SIGPIPE and no descriptor but 0 to 2.  In mode b"r" its
        input is /dev/null, never descriptor 0 of the worker, which may be the listener.
        """
        if mode not in (b"r", b"w"):
            raise ValueError("mode %r: r or w is expected" % mode)
        self.reap()
        try:
            running = _Command(command, mode)
        except OSError as error:
            return None, os.strerror(error.errno or 0).encode(), error.errno
        with self._lock:
            self._last += 1
            self._running[self._last] = running
            return running.pipe.fileno(), self._last, None

    def opened(self, number: int) -> None:
        """Lua has its own descriptor of command `number`: close ours.  Twice does no harm."""
        with self._lock:
            running = self._running.get(number)
        if running:
            running.release()

    def wait(self, number: int) -> Ended:
        """Wait for command `number` to end: (True | None, b"exit" | b"signal", code), once.

        Blocks without the GIL.  A number that is unknown or was waited for gives what pclose gives:
        (None, b"No child processes", ECHILD).
        """
        with self._lock:
            running = self._running.pop(number, None)
            code = self._ended.pop(number, None)
        if running:
            running.release()
            code = running.process.wait()
        if code is None:
            return None, os.strerror(errno.ECHILD).encode(), errno.ECHILD
        if code < 0:
            return None, b"signal", -code
        return (True if code == 0 else None), b"exit", code

    def reap(self) -> None:
        """Collect commands that ended, so that a handle which is never closed leaves no zombie.  Each `open`
        does it; an idle worker may."""
        with self._lock:
            for number, running in list(self._running.items()):
                # Before `opened`, another thread's Lua is about to open our descriptor by its number.
                if running.pipe.closed and running.process.poll() is not None:
                    self._ended[number] = self._running.pop(number).process.returncode
            while len(self._ended) > ENDED_KEPT:
                self._ended.popitem(last=False)


class _Command:
    """One child process and our end of its pipe."""

    def __init__(self, command: bytes, mode: bytes) -> None:
        # Here, because few scripts start commands.
        import subprocess
        reading = mode == b"r"
        # B603: io.popen is for commands of the shell; scripts are trusted, see docs/security.rst.
        self.process = subprocess.Popen(  # nosec B603
            [b"/bin/sh", b"-c", command], bufsize=0,
            stdin=subprocess.DEVNULL if reading else subprocess.PIPE,
            stdout=subprocess.PIPE if reading else None)
        self.pipe = cast(IO[bytes], self.process.stdout if reading else self.process.stdin)

    def release(self) -> None:
        """Close our end, and keep Lua's from being inherited.

        Lua's fopen has no close-on-exec: a command of os.execute, in this thread or another, would hold the
        pipe of this one open, and the reader at its other end would wait for an end of file that never comes.
        """
        if self.pipe.closed:
            return
        here = self.pipe.fileno()
        status = os.fstat(here)
        for other in _descriptors():
            try:
                if other != here and os.path.samestat(os.fstat(other), status):
                    os.set_inheritable(other, False)
            except OSError:
                continue
        self.pipe.close()


def _descriptors() -> List[int]:
    """This process's open descriptors; none where the system has no such folder."""
    try:
        return [int(name) for name in os.listdir(_FOLDER)]
    except OSError:
        return []
