"""How many connections wait at a listening socket.

In: a listening socket, unix or TCP.  Out: (waiting, room), or None where the system does not tell.  The master asks
at its ticks.  Linux tells of TCP by getsockopt(TCP_INFO), of unix sockets by sock_diag(7) over netlink, which needs no
rights.  Nothing is accepted here.
"""
from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple, Optional

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
REQUEST = 1                     # NLM_F_REQUEST
SHOW_QUEUE = 0x10               # UDIAG_SHOW_RQLEN
QUEUE = 4                       # UNIX_DIAG_RQLEN
HEADER = struct.Struct("=LHHLL")
UNIX_REQUEST = struct.Struct("=BBHLLLLL")
UNIX_ANSWER = struct.Struct("=BBBBLLL")
ATTRIBUTE = struct.Struct("=HH")
PAIR = struct.Struct("=LL")
# Of struct tcp_info: for a listener, tcpi_unacked is the queue and tcpi_sacked its room (tcp(7), linux/tcp.h).
TCP_QUEUE = struct.Struct("=24xLL")
ANY_COOKIE = 0xFFFFFFFF


class Queue(NamedTuple):
    """Connections that wait, and how many may."""

    waiting: int
    room: int


def queue_of(listener: socket.socket) -> Optional[Queue]:
    """The queue of a listening socket."""
    try:
        if listener.family == socket.AF_UNIX:
            return _unix(os.fstat(listener.fileno()).st_ino)
        return Queue(*TCP_QUEUE.unpack_from(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)))
    except (OSError, struct.error, AttributeError):
        return None


def _unix(inode: int) -> Optional[Queue]:
    size = HEADER.size + UNIX_REQUEST.size
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as sock:
        sock.settimeout(1)
        sock.send(HEADER.pack(size, SOCK_DIAG_BY_FAMILY, REQUEST, 0, 0)
                  + UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, ANY_COOKIE, inode, SHOW_QUEUE, ANY_COOKIE, ANY_COOKIE))
        answer = sock.recv(4096)
    length, kind = HEADER.unpack_from(answer)[:2]
    at = HEADER.size + UNIX_ANSWER.size
    if kind != SOCK_DIAG_BY_FAMILY:
        return None
    while at + ATTRIBUTE.size <= min(length, len(answer)):
        size, name = ATTRIBUTE.unpack_from(answer, at)
        if name == QUEUE:
            return Queue(*PAIR.unpack_from(answer, at + ATTRIBUTE.size))
        at += max(ATTRIBUTE.size, size + 3 & ~3)
    return None
