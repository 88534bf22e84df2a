"""Open connections go from a worker that leaves to one that stays, so that the web server notices nothing.

In: a connection between two requests.  Out: the same connection in another process, by SCM_RIGHTS of unix(7).  The
master makes the `Handoff` before it forks, and the next master inherits it; poller.py gives and takes.  Why: a kept
connection that is closed may carry a request at that very moment, and nginx does not repeat a POST.  What arrives
between giving and taking waits in the connection itself.
"""
from __future__ import annotations

import contextlib
import socket
import struct
from typing import List, Optional, Sequence, Tuple

NEW, USED = b"n", b"u"
INT = struct.Struct("i")
# socket.send_fds and recv_fds would do, but they ignore their flags.
FLAGS = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC


class Handoff:
    """A queue of connections that all workers share.  fds: the two descriptors of an inherited one."""

    def __init__(self, fds: Sequence[int] = ()) -> None:
        # Messages keep their borders, and each goes to one reader.
        ends = [socket.socket(fileno=fd) for fd in fds] or socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._taking, self._giving = ends
        for end in ends:
            end.set_inheritable(False)

    @property
    def fd(self) -> int:
        """What to poll for a connection to take."""
        return self._taking.fileno()

    @property
    def fds(self) -> List[int]:
        """What the next master must be given."""
        return [self._taking.fileno(), self._giving.fileno()]

    def give(self, fd: int, served: bool) -> bool:
        """Put a connection into the queue; the caller then closes its own descriptor.  False when the queue is full.

        served: whether a request was answered on it.  OSError when the kernel refuses.
        """
        with contextlib.suppress(BlockingIOError):
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, INT.pack(fd))]
            self._giving.sendmsg([USED if served else NEW], ancillary, socket.MSG_DONTWAIT)
            return True
        return False

    def take(self) -> Optional[Tuple[int, bool]]:
        """(descriptor, whether a request was answered on it) of the next connection, or None."""
        try:
            word, ancillary, _flags, _address = self._taking.recvmsg(1, socket.CMSG_LEN(INT.size), FLAGS)
        except OSError:
            # Another worker was quicker.
            return None
        # None: we had no descriptor left, and the kernel has dropped it.
        return (INT.unpack(ancillary[0][2])[0], word == USED) if ancillary else None
