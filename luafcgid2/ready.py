"""The word that passes upwards while a server starts: "ready", or why not.

From the server to whoever started it: LUAFCGID2_READY_FD in the environment is the number of a pipe's write
end; `ready\\n` comes out once the first worker accepts connections, or the error's text, then it is closed.  The
server's command makes the `Announcer`, the master uses it; `luafcgid2ctl start` and `luafcgid2 serve` read the
other end with `wait_for`.  From the workers to the master: a `BootPipe`.  This module starts no process.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import Optional, Tuple

VARIABLE = "LUAFCGID2_READY_FD"
READY = b"ready\n"
SERVING, CANNOT = b"1", b"!"    # what a worker writes; CANNOT is followed by text and a zero byte
MESSAGE_BYTES = 2000            # below PIPE_BUF with room to spare, so that messages of workers do not mix


class BootPipe:
    """The pipe on which workers tell the master that they serve, or why they cannot.

    write_fd: what a worker writes b"1" to when it accepts connections.  fd: what the master polls.
    """

    def __init__(self) -> None:
        self.fd, self.write_fd = os.pipe()
        os.set_blocking(self.fd, False)

    def __enter__(self) -> "BootPipe":
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.fd)
        os.close(self.write_fd)

    def cannot(self, message: str) -> None:
        """In a worker: tell why it does not serve."""
        text = message.replace("\0", " ").encode("utf-8", "backslashreplace")
        os.write(self.write_fd, CANNOT + text[:MESSAGE_BYTES] + b"\0")

    def hear(self) -> Tuple[int, str]:
        """In the master: how many workers began to serve since the last call, and the last error or ""."""
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return 0, ""
        serving, error = 0, b""
        while data:
            if data.startswith(CANNOT):
                error, _, data = data[len(CANNOT):].partition(b"\0")
            else:
                serving, data = serving + 1, data[len(SERVING):]
        return serving, error.decode("utf-8", "replace")


class Announcer:
    """The writing end; it speaks once.

    fd: a descriptor, or -1 for nobody to tell.  `detached` is True when there is somebody: then no terminal is
    ours either, and standard error must be let go before the workers are forked.
    """

    def __init__(self, fd: int = -1) -> None:
        self.fd = fd
        self.detached = fd >= 0

    @classmethod
    def from_environment(cls) -> "Announcer":
        """Take the descriptor out of the environment, so that no script's child sees or holds it."""
        text = os.environ.pop(VARIABLE, "")
        if not text.isdigit():
            return cls()
        try:
            os.set_inheritable(int(text), False)
        except OSError:
            return cls()
        return cls(int(text))

    def ready(self) -> None:
        """Tell that connections are accepted."""
        self._say(READY)

    def failed(self, message: str) -> None:
        """Tell why the server does not start."""
        self._say(message.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Let go without a word: what a forked child does."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _say(self, data: bytes) -> None:
        if self.fd < 0:
            return
        try:
            os.write(self.fd, data)
        except OSError:
            # Whoever started us has gone: nobody to tell, no reason to stop.
            return
        finally:
            self.close()


def wait_for(fd: int, timeout: float, errors_fd: Optional[int] = None) -> Tuple[bool, str, str]:
    """Read the other end until it is closed: (whether the server is ready, its message, its error output).

    fd: the pipe's read end; timeout: seconds, after which the message says so; errors_fd: read end of the
    server's standard error, or None.  The caller closes both.
    """
    texts = {fd: b""}
    if errors_fd is not None:
        texts[errors_fd] = b""
    poll = select.poll()
    for one in texts:
        poll.register(one, select.POLLIN)
    waiting = set(texts)
    deadline = time.monotonic() + timeout
    # Standard error ends a moment after the word: the server lets it go before it is ready, or dies.
    while waiting and not texts[fd].startswith(READY):
        left = deadline - time.monotonic()
        if left <= 0:
            return False, f"the server is not ready after {timeout:g} seconds", _text(texts, errors_fd)
        for one, _ in poll.poll(left * 1000):
            data = os.read(one, 65536)
            texts[one] += data
            if not data:
                poll.unregister(one)
                waiting.discard(one)
    if errors_fd in waiting:
        os.set_blocking(errors_fd, False)
        with contextlib.suppress(BlockingIOError):
            texts[errors_fd] += os.read(errors_fd, 65536)
    ready = texts[fd] == READY
    return ready, "" if ready else texts[fd].decode("utf-8", "replace").strip(), _text(texts, errors_fd)


def _text(texts: dict, fd: Optional[int]) -> str:
    return texts.get(fd, b"").decode("utf-8", "replace").strip()
