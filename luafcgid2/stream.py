"""Answers that leave piece by piece: Flush(), SendFile(), and output over MaxBufferSize.

In: the worker's seats, whose threads run scripts; bytes and file names of scripts.  Out: STDOUT records on the
connection of the thread's request.  The prelude (streaming.lua) calls the host functions, in the thread that runs the
script; responder.py ends such an answer.  A script waits here until the web server has taken a piece, SendTimeout at
most, so memory stays flat.  The head's bytes come from the prelude; nothing here knows HTTP but for a file's type.
"""
from __future__ import annotations

import os
import select
import socket
import stat
import threading
from time import monotonic
from typing import Any, BinaryIO, Callable, Dict, List, Optional, Sequence, Tuple

from .records import MAX_CONTENT, STDOUT, header

DONTWAIT = int(socket.MSG_DONTWAIT)
# Seconds between two looks at a script that waits for a slow reader: RequestTimeout is for scripts that hang.
STEP = 0.1
# Bytes of a file that are in memory at a time: four records.
PIECE = 4 * MAX_CONTENT
# Name in the prelude -> method of Streams.
HOST_CALLS = {"stream_ready": "ready", "stream_push": "push", "file_open": "open_file", "file_send": "send_file",
              "file_close": "close_file"}


class Stream:
    """An answer whose head has left.  status: the HTTP status; body: bytes of the body that were sent; problem: why it
    cannot be completed, or b""; gone: whether that is because the client has left, or takes nothing any more."""

    __slots__ = ("status", "body", "problem", "gone")

    def __init__(self, status: int, head: int) -> None:
        self.status, self.body, self.problem, self.gone = status, -head, b"", False


class Streams:
    """See the module's contract.  timeout: SendTimeout in seconds, 0 = none."""

    def __init__(self, seats: Sequence[Any], timeout: float) -> None:
        self._seats, self._timeout = seats, timeout
        # By thread: the file that SendFile has opened.
        self._files: Dict[int, BinaryIO] = {}

    def host_calls(self) -> Dict[str, Callable[..., Any]]:
        """Name in Lua -> function."""
        return {name: getattr(self, method) for name, method in HOST_CALLS.items()}

    def _seat(self) -> Any:
        mine = threading.get_ident()
        # Finalizers run between requests, too: there is no state then, and no answer.
        return next((seat for seat in self._seats
                     if seat.ident == mine and seat.sock is not None and seat.state is not None), None)

    def ready(self) -> bool:
        """Whether pieces can be sent now; if not, all stays in the buffer until the script returns."""
        return self._seat() is not None

    def push(self, data: bytes) -> Optional[bytes]:
        """Send `data`, which begins with the head's Status line if it is the first; None, or what went wrong."""
        seat = self._seat()
        if isinstance(seat.sock, int):
            # The fast path knows a number only.
            seat.sock = socket.socket(fileno=seat.sock)
        if seat.stream is None:
            seat.stream = Stream(int(data[8:11]), data.find(b"\r\n\r\n") + 4)
        problem = self._send(seat, data)
        if problem:
            self.close_file()
        return problem

    def _send(self, seat: Any, data: bytes) -> Optional[bytes]:
        stream, view = seat.stream, memoryview(data)
        try:
            while view and not stream.problem:
                piece, view = view[:MAX_CONTENT], view[MAX_CONTENT:]
                self._send_all(seat, [header(STDOUT, seat.request_id, len(piece)), piece])
                stream.body += len(piece)
                seat.bytes_out += len(piece)
        except OSError as error:
            stream.problem, stream.gone = b"the client has gone away (%s)" % str(error).encode(), True
        self._alive(seat)
        return stream.problem or None

    @staticmethod
    def _alive(seat: Any) -> None:
        """What runs long is counted from here: an answer that goes on is no hung one."""
        seat.started = monotonic()
        seat.run(seat.script)

    def _send_all(self, seat: Any, buffers: List[Any]) -> None:
        while buffers:
            try:
                sent = seat.sock.sendmsg(buffers, (), DONTWAIT)
            except BlockingIOError:
                self._wait(seat)
                continue
            while buffers and sent >= len(buffers[0]):
                sent -= len(buffers.pop(0))
            if sent:
                buffers[0] = memoryview(buffers[0])[sent:]

    def _wait(self, seat: Any) -> None:
        poll, since = select.poll(), monotonic()
        poll.register(seat.sock.fileno(), select.POLLOUT)
        while not poll.poll(STEP * 1000):
            self._alive(seat)
            if self._timeout and seat.started >= since + self._timeout:
                raise TimeoutError("it took nothing for SendTimeout, %g s" % self._timeout)

    def open_file(self, path: bytes) -> Tuple[Optional[int], bytes]:
        """(size, content type) of a regular file, which stays open for `send_file`; or (None, what went wrong)."""
        self.close_file()
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                os.close(descriptor)
                return None, b"%s: not a regular file" % path
            file = open(descriptor, "rb", buffering=0)
        except (OSError, ValueError) as error:
            return None, b"%s: %s" % (path, str(getattr(error, "strerror", None) or error).encode())
        self._files[threading.get_ident()] = file
        # Few scripts send files: whoever does loads the table of types.
        import mimetypes
        kind, encoding = mimetypes.guess_type(os.fsdecode(path))
        return status.st_size, (kind if kind and not encoding else "application/octet-stream").encode()

    def send_file(self, size: int) -> Optional[bytes]:
        """Send `size` bytes of the file that was opened last in this thread, and close it; None, or what went wrong."""
        seat, left = self._seat(), int(size)
        with self._files.pop(threading.get_ident()) as file:
            while left > 0:
                try:
                    data, problem = file.read(min(PIECE, left)), b"the file has become shorter while it was sent"
                except OSError as error:
                    data, problem = b"", str(error).encode()
                if not data:
                    # The length that was promised cannot be kept.
                    seat.stream.problem = problem
                    return problem
                gone = self._send(seat, data)
                if gone:
                    return gone
                left -= len(data)
        return None

    def close_file(self) -> None:
        """Close a file that was opened and not sent."""
        file = self._files.pop(threading.get_ident(), None)
        if file is not None:
            file.close()
