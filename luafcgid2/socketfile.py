"""The file of a unix listener: who is behind it, whether it may be replaced, how it comes into being.

In: a path, its mode and owner.  Out: a bound and listening socket, or a ListenError that says who owns the
path.  Called by listener.py.  A file is removed only when it is a socket that refuses connections; two
servers that start at once take turns by a lock on the directory.  This module knows no configuration.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import stat
import struct
import time
from typing import Iterator, Optional, Tuple

from .errors import ListenError

ORPHAN_SECONDS = 3.0            # how long workers may need to notice that their master was killed
LOCK_SECONDS = 3.0              # how long another server may need to bind in the same directory
STEP_SECONDS = 0.02


def identify(path: str) -> Optional[Tuple[int, int]]:
    """Device and inode of the file itself (links are not followed); None when there is none."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def bind(path: str, mode: int, uid: int, gid: int, backlog: int, logger: logging.Logger) -> socket.socket:
    """A socket that listens at `path`, with mode, owner and group from the first moment.

    uid, gid: -1 = as the process is.  backlog: connections that the kernel keeps waiting.  ListenError: the
    path is in use, is no socket, or cannot be made.
    """
    with alone_in(os.path.dirname(path), logger):
        clear_the_way(path, logger)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Mode and owner are right when the file appears.  Where the owner may not write to the directory he follows
        # before listen(): until then the kernel refuses every connection, so nobody ever meets a listener with other
        # rights than the asked ones.
        before = os.umask(0o777 & ~mode)
        try:
            _bind_as(sock, path, uid, gid)
        except OSError as error:
            sock.close()
            raise ListenError(f"unix socket {path}: {error.strerror}") from error
        finally:
            os.umask(before)
        try:
            if (uid, gid) != (-1, -1):
                os.chown(path, uid, gid, follow_symlinks=False)
            sock.listen(backlog)
        except OSError as error:
            sock.close()
            os.unlink(path)
            raise ListenError(f"unix socket {path}: cannot give it to uid {uid}, gid {gid} (ListenOwner, "
                              f"ListenGroup): {error.strerror}") from error
        return sock


def _bind_as(sock: socket.socket, path: str, uid: int, gid: int) -> None:
    """Bind with the file's owner in the place of ours, if we are root and he may write to the directory."""
    us = os.geteuid(), os.getegid()
    if us[0] == 0 and (uid, gid) != (-1, -1):
        try:
            os.setegid(us[1] if gid == -1 else gid)
            os.seteuid(us[0] if uid == -1 else uid)
            sock.bind(path)
            return
        except PermissionError:
            # The directory is root's.
            pass
        finally:
            os.seteuid(us[0])
            os.setegid(us[1])
    sock.bind(path)


@contextlib.contextmanager
def alone_in(directory: str, logger: logging.Logger) -> Iterator[None]:
    """Keep two servers from taking each other's new socket for a stale one; needs no file of its own."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ListenError(f"the socket's directory {directory}: {error.strerror}") from error
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno != errno.EWOULDBLOCK or time.monotonic() > deadline:
                    logger.warning("%s cannot be locked (%s); going on without", directory, error.strerror)
                    break
            time.sleep(STEP_SECONDS)
        yield
    finally:
        os.close(fd)


def clear_the_way(path: str, logger: logging.Logger) -> None:
    """Remove a socket file that nobody listens on; ListenError for anything else at `path`."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    while True:
        before = identify(path)
        if before is None:
            return
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ListenError(f"{path} exists and is not a socket; it is not touched")
        owner = _listening_pid(path)
        if owner is None:
            break
        # The kernel names who called listen(); when that one is dead, its workers are about to leave.
        if _alive(owner) or time.monotonic() > deadline:
            dead = "" if _alive(owner) else ", which is dead: a worker of its still holds the socket (ss -xlp names it)"
            raise ListenError(f"{path} is in use: {_who(owner)} listens on it{dead}")
        time.sleep(STEP_SECONDS)
    if identify(path) == before:
        logger.info("%s was left by a server that is gone; it is replaced", path)
        try:
            os.unlink(path)
        except OSError as error:
            raise ListenError(f"{path}: the stale socket cannot be removed: {error.strerror}") from error


def _listening_pid(path: str) -> Optional[int]:
    """Who called listen() on the socket at `path`: a pid, 0 for unknown, None when nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except BlockingIOError:
            return 0            # its backlog is full: very much alive
        except OSError as error:
            raise ListenError(f"{path} exists and cannot be probed: {error.strerror}") from error
        if not hasattr(socket, "SO_PEERCRED"):
            return 0
        data = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid: int = struct.unpack("3i", data)[0]
        return pid


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _who(pid: int) -> str:
    if not pid:
        return "another process"
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(200).replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        words = ""
    return f"pid {pid} ({words})" if words else f"pid {pid}"
