"""A file that lines are appended to, and that stops nobody when it cannot be written.

In: a path ("" is standard error), lines as bytes.  Out: the lines in the file, whole batches in one write(2) on
an O_APPEND descriptor, so those of several processes do not mix; or `lost`, the number of lines that could not
be written, and `reason`.  Used by log.py and accesslog.py, one thread at a time.  It raises nothing, rotates
nothing and keeps nothing back: a line that cannot be written now is lost.
"""
from __future__ import annotations

import os
from typing import Callable, Optional

FILE_MODE = 0o640
STDERR = 2
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY


class LogFile:
    """See the module's contract.

    `problem` is "" or why the file could not be opened; `on_stderr` tells whether lines go to standard error,
    for that reason or as asked.  `notice(text)`, if given, makes a line of what `missing` says, to be put before
    the first one that can be written again.
    """

    def __init__(self, path: str, notice: Optional[Callable[[str], bytes]] = None) -> None:
        self.path, self.problem, self.lost, self.reason = path, "", 0, ""
        self._notice = notice
        self._fd = STDERR
        # The last thing that we wrote is the beginning of a line: a full disk takes what it has room for.
        self._cut = False
        self.reopen()

    @property
    def on_stderr(self) -> bool:
        return self._fd == STDERR

    def reopen(self) -> bool:
        """Open the path anew; when that fails, stay with what is open and say why in `problem`."""
        if not self.path:
            return True
        try:
            fd = _open(self.path)
        except OSError as error:
            kept = "standard error" if self.on_stderr else "the file opened before"
            self.problem = "%s; logging to %s" % (error.strerror, kept)
            return False
        self.problem = ""
        if self.on_stderr:
            self._fd = fd
        else:
            # The number stays the same, so a thread that is writing meets either file and never a closed one.
            os.dup2(fd, self._fd, inheritable=False)
            os.close(fd)
        return True

    def append(self, data: bytes) -> bool:
        """Write whole lines; False, with `lost` and `reason`, when some could not be written.

        b"" only says what was lost before, if that can be written now.
        """
        head = b"\n" if self._cut else b""
        if self.lost and self._notice:
            head += self._notice(self.missing())
        whole = head + data
        done = 0
        try:
            self._find_again()
            while done < len(whole):
                done += os.write(self._fd, memoryview(whole)[done:])
        except OSError as error:
            if self._notice and done >= len(head):
                self.lost = 0
            # Not the number of events: an event may have several lines.
            self.lost += data.count(b"\n", max(0, done - len(head)))
            if done:
                self._cut = whole[done - 1] != 10
            self.reason = error.strerror or str(error)
            return False
        self.lost, self._cut = 0, False
        return True

    def missing(self) -> str:
        """How many lines could not be written, and why the last one could not, in words."""
        return "%d line%s could not be written: %s" % (self.lost, "" if self.lost == 1 else "s", self.reason)

    def close(self) -> None:
        """Let go of the file; lines go to standard error from now on."""
        if not self.on_stderr:
            fd, self._fd = self._fd, STDERR
            os.close(fd)

    def _find_again(self) -> None:
        """A file that was deleted has no name left by which anybody could read it: make it anew."""
        if not self.on_stderr and os.fstat(self._fd).st_nlink == 0:
            fd = _open(self.path)
            os.dup2(fd, self._fd, inheritable=False)
            os.close(fd)
            self._cut = False


def _open(path: str) -> int:
    try:
        # Without O_CREAT first: kernels with fs.protected_regular refuse O_CREAT on another user's file.
        return os.open(path, _FLAGS)
    except FileNotFoundError:
        return os.open(path, _FLAGS | os.O_CREAT, FILE_MODE)
