"""Sends buffers over a socket without ever waiting: what a slow reader leaves is kept in an Outbox.

In: a connected stream socket, buffers.  Out: what the socket did not take, or OSError.  `Sending` is the half of a
connection that sends; fcgi.py reads and answers, poller.py calls again when there is room.  It knows no
records.

So a web server that reads slowly holds no thread.  Memory is bounded: one answer a connection, because nothing more
is read from it meanwhile; and beyond SendMemory in all, further rests are kept in unlinked files in TempDir.
"""
from __future__ import annotations

import os
import socket
from typing import Any, List, Optional, Sequence, Union, cast

Buffer = Union[bytes, memoryview]
# Linux takes at most 1,024 buffers a call (IOV_MAX).
IOV_MAX = 1024
DONTWAIT = int(socket.MSG_DONTWAIT)
FILE_BLOCK = 262144
NOTHING: Sequence[Buffer] = ()


def send_now(sock: socket.socket, buffers: List[Buffer]) -> Sequence[Buffer]:
    """Send what `sock` takes at once; the buffers that are left, mostly none.  One system call for a small reply,
    no copies for a large one.  OSError when the connection is broken."""
    if len(buffers) == 1:
        data = buffers[0]
        try:
            sent = sock.send(data, DONTWAIT)
        except BlockingIOError:
            sent = 0
        return NOTHING if sent == len(data) else [memoryview(data)[sent:]]
    index, count = 0, len(buffers)
    try:
        while index < count:
            sent = sock.sendmsg(buffers[index:index + IOV_MAX], (), DONTWAIT)
            while index < count and sent >= len(buffers[index]):
                sent -= len(buffers[index])
                index += 1
            if sent:
                buffers[index] = memoryview(buffers[index])[sent:]
    except BlockingIOError:
        return buffers[index:]
    return NOTHING


class Outbox:
    """What a connection still has to send.  `size`: bytes left; `memory`: bytes kept in memory for it; `last`:
    whether the connection is closed afterwards."""

    __slots__ = ("_buffers", "_file", "_position", "size", "memory", "last")

    def __init__(self, buffers: Sequence[Buffer], last: bool) -> None:
        self._buffers, self._position, self.last = list(buffers), 0, last
        self._file: Any = None
        self._count()
        # Views keep the whole answer, which is more only by what the socket's buffer has taken.
        self.memory = self.size

    def _count(self) -> None:
        self.size = sum(map(len, self._buffers))

    def spool(self, folder: Optional[str]) -> None:
        """Move it to an unlinked file in `folder`, None being the system's.  OSError when the disk is full."""
        import tempfile
        file = tempfile.TemporaryFile(dir=folder, buffering=0)
        try:
            for buffer in self._buffers:
                view = memoryview(buffer)
                while view:
                    view = view[file.write(view):]
        except OSError:
            file.close()
            raise
        self._file, self._buffers, self.memory = file, [], 0

    def send(self, sock: socket.socket) -> bool:
        """Send what the socket takes; whether that was the rest.  OSError when the connection is broken."""
        if self._file is None:
            self._buffers = list(send_now(sock, self._buffers))
            self._count()
        else:
            self._send_file(sock)
        return not self.size

    def _send_file(self, sock: socket.socket) -> None:
        while self.size:
            try:
                # Not sendfile(2), which blocks unless the socket itself is set not to.
                sent = sock.send(os.pread(self._file.fileno(), FILE_BLOCK, self._position), DONTWAIT)
            except BlockingIOError:
                return
            self._position += sent
            self.size -= sent

    def discard(self) -> None:
        """Free memory and disk."""
        self._buffers = []
        if self._file is not None:
            self._file.close()


class Sending:
    """The half of a connection that sends; the other one has `_sock`, `server`, `open`, `partial`, `close`.

    `served`: whether a request was answered, and all of the answer is out.
    """

    _sock: socket.socket
    server: Any
    open: bool
    partial: Any
    served = False
    # What waits for room; nothing is read meanwhile.
    outbox: Optional[Outbox] = None

    def defer(self, left: Sequence[Buffer], last: bool) -> None:
        """Keep what the socket did not take; `last`: close the connection once it is sent.  Never raises: where
        there is no room for it, the connection is closed."""
        server, box = self.server, Outbox(left, last)
        try:
            if sum(other.memory for other in list(server.outboxes)) >= server.limits.send_memory:
                box.spool(server.limits.temp_dir)
        except OSError as error:
            server.logger.error("connection closed: %d bytes of an answer cannot be kept in TempDir: %s", box.size,
                                error)
            box.discard()
            return self.close()
        server.outboxes.add(box)
        self.outbox, self.served = box, False

    def resume(self) -> bool:
        """Send more of what waits; True once all is out and the connection stays."""
        box = cast(Outbox, self.outbox)
        try:
            if not box.send(self._sock):
                return False
        except OSError as error:
            self.server.complain(error)
            self.close()
            return False
        self.drop()
        self.served = True
        if box.last or (self.server.draining and not self.partial):
            self.close()
        return self.open

    def drop(self) -> None:
        """Forget what waits."""
        box, self.outbox = self.outbox, None
        if box is not None:
            self.server.outboxes.discard(box)
            box.discard()

    def close(self) -> None:
        """Close the socket."""
        raise NotImplementedError
