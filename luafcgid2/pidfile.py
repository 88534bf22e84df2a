"""The pid file: a number for people, a lock for programs.

In: a path.  Out: for the master, a context manager that holds the file locked (flock(2)) while it runs; for
luafcgid2ctl, `probe`, which tells running from stale by trying that lock, never by guessing from the number.
The lock ends with the process, however it dies, so a stale file is never taken for a running server.  Forked
children must call `forget`: a child that keeps the descriptor keeps the lock.  This module signals nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from typing import NamedTuple, Optional

from .errors import ControlError
from .privileges import Identity

MODE = 0o644
TRIES = 25                      # a probe holds the lock for an instant: one refusal proves nothing
STEP_SECONDS = 0.02


class PidFile:
    """Holds the pid file of this process from `__enter__` to `__exit__`.

    path: the file, or "" for none.  identity: whom the process becomes later; the file is given to them, so
    that they can remove it.  inherited: the descriptor of the master that this one replaces, or -1: both hold one
    lock, and the file goes on naming the other until `name_us`.  ControlError from `__enter__`: another server
    holds it, or it cannot be written.
    """

    def __init__(self, path: str, identity: Optional[Identity] = None, inherited: int = -1) -> None:
        self.path = path
        self._identity = identity
        self._fd = inherited

    @property
    def fd(self) -> int:
        """The descriptor that holds the lock, -1 for none."""
        return self._fd

    def __enter__(self) -> "PidFile":
        if self._fd >= 0 and not (self.path and self._is_ours()):
            self.forget()
        if self.path and self._fd < 0:
            try:
                self._fd = self._take()
            except OSError as error:
                raise ControlError(f"PidFile = {self.path!r}: {error.strerror}") from error
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._fd < 0:
            return
        if _read(self._fd) != os.getpid():
            # It names the master that has taken over, or the one that we could not replace.
            self.forget()
            return
        # Removed while locked, so nobody can lock this file and lose it.
        try:
            if self._is_ours():
                os.unlink(self.path)
        except OSError:
            # After dropping privileges the directory may refuse; an empty file names no process.
            os.ftruncate(self._fd, 0)
        self.forget()

    def forget(self) -> None:
        """Close the descriptor and leave the file: for a forked child, whose master keeps the lock."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _take(self) -> int:
        for attempt in range(TRIES):
            fd = _open(self.path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = _read(fd)
                os.close(fd)
                if attempt + 1 < TRIES:
                    time.sleep(STEP_SECONDS)
                continue
            # Its last holder may have removed the file after we opened it.
            self._fd = fd
            if self._is_ours():
                if self._identity is not None:
                    os.fchown(fd, self._identity.uid, self._identity.gid)
                self.name_us()
                return fd
            self.forget()
        who = f"pid {pid}" if pid else "another process"
        raise ControlError(f"luafcgid2 is already running: {who} holds the pid file {self.path}")

    def name_us(self) -> None:
        """Write this process's number into it."""
        if self._fd >= 0:
            # In one write, and only then cut: a reader never meets an empty file that somebody holds.
            text = b"%d\n" % os.getpid()
            os.pwrite(self._fd, text, 0)
            os.ftruncate(self._fd, len(text))

    def _is_ours(self) -> bool:
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self._fd))


def _open(path: str) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            # Without O_CREAT first: kernels with fs.protected_regular refuse O_CREAT on another user's file,
            # and a file that an earlier run left belongs to the user that it had become.
            fd = os.open(path, flags)
            break
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, MODE)
                break
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(fd)
        raise ControlError(f"PidFile = {path!r} is not a plain file; it is not touched")
    return fd


def _read(fd: int) -> int:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else 0


class Probe(NamedTuple):
    """What a pid file tells.  state: "running", "stale" (nobody holds it) or "absent"; pid: 0 = unknown.

    trusted: whether the file's owner could have signalled that pid anyway.  Only then may root do so in their
    stead: the file may belong to the user that scripts run as.
    """

    state: str
    pid: int
    trusted: bool


def probe(path: str) -> Probe:
    """Look at the pid file `path` by trying its lock; OSError when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return Probe("absent", 0, False)
    try:
        pid = _read(fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Probe("running", pid, _trusted(os.fstat(fd).st_uid, pid))
        # An empty file is what a clean stop leaves where it may not remove it.
        return Probe("stale" if pid else "absent", pid, False)
    finally:
        os.close(fd)


def _trusted(owner: int, pid: int) -> bool:
    if pid <= 1:
        return False
    if owner == 0:
        return True
    try:
        return os.stat(f"/proc/{pid}").st_uid == owner
    except FileNotFoundError:
        # Without /proc there is nothing to compare with.
        return not os.path.isdir("/proc/self")
