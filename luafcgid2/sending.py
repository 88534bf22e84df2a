"""Sends buffers over a socket: one system call for a small reply, no copies for a large one.

In: a connected stream socket in blocking mode, buffers.  Out: nothing, or OSError (TimeoutError when the
peer does not read for `timeout` seconds).  fcgi.py calls it; it knows nothing of records.
"""
from __future__ import annotations

import socket
import struct
from typing import List, Union

Buffer = Union[bytes, memoryview]
# Linux takes at most 1,024 buffers a call (IOV_MAX).
IOV_MAX = 1024
DONTWAIT = int(socket.MSG_DONTWAIT)


def send_all(sock: socket.socket, buffers: List[Buffer], timeout: float) -> None:
    """Send every byte of `buffers`, waiting at most `timeout` seconds for the peer to make room.

    The first try does not block, which is all that a small reply needs; only then is the kernel's send
    time-out set (settimeout() of Python would cost one poll() a call).
    """
    if len(buffers) == 1:
        data = buffers[0]
        try:
            sent = sock.send(data, DONTWAIT)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return
        buffers = [memoryview(data)[sent:]]
    seconds = int(timeout)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO,
                    struct.pack("ll", seconds, int((timeout - seconds) * 1000000)))
    index, count = 0, len(buffers)
    try:
        while index < count:
            sent = sock.sendmsg(buffers[index:index + IOV_MAX])
            while index < count and sent >= len(buffers[index]):
                sent -= len(buffers[index])
                index += 1
            if sent:
                buffers[index] = memoryview(buffers[index])[sent:]
    except BlockingIOError:
        raise TimeoutError("the web server took nothing for %g seconds" % timeout) from None
