"""The word that passes upwards while a server starts: "ready", or why not.

From the server to whoever started it: LUAFCGID2_READY_FD in the environment is the number of a pipe's write
end; `ready\\n` comes out once the first worker accepts connections, or the error's text, then it is closed.  The
server's command makes the `Announcer`, the master uses it; `luafcgid2ctl start` and `luafcgid2 serve` read the
other end with `wait_for`.  From the workers to the master, as long as they live: a `BootPipe`.  This module starts
no process.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import time
from typing import List, Optional, Tuple

from .decisions import Strike

VARIABLE = "LUAFCGID2_READY_FD"
READY = b"ready\n"
MESSAGE_BYTES = 2000            # below PIPE_BUF with room to spare, so that messages of workers do not mix
# What a worker writes: one byte, or one byte and text up to a zero byte.
SERVING, AWAKE, CANNOT, STRIKE, CHANGED = b"1", b"2", b"!", b"#", b"="
# A strike's text: the reason's letter, the start of its request as 16 hexadecimal digits, the script.
_LETTERS = {"timeout": b"t", "memory": b"m", "death": b"d"}
_STRIKE = re.compile(rb"([tmd])([0-9a-f]{16})(/.*)", re.DOTALL)


class BootPipe:
    """The pipe on which workers tell the master that they serve or wake up, why they cannot, and what scripts did.

    write_fd: what a worker writes b"1" to when it accepts connections, and b"2" when there is work after it had
    slept; it does not block.  fd: what the master polls.  `woken` (whether anybody has work), `strikes`
    (decisions.Strike) and `changed` (scripts in quarantine whose file is another one now): what `hear` heard; the
    master takes them out.  Whatever comes out of the pipe that is no message is skipped.
    """

    def __init__(self) -> None:
        self.fd, self.write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        # Whoever stops the master with a debugger must not stop the workers.
        os.set_blocking(self.write_fd, False)
        self.woken = False
        self.strikes: List[Strike] = []
        self.changed: List[bytes] = []
        self._begun = b""               # of a message whose end has not come yet

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
        data, self._begun = self._begun + data, b""
        serving, error = 0, b""
        while data:
            kind, text, end = data[:1], b"", b""
            if kind in (CANNOT, STRIKE, CHANGED):
                text, end, rest = data[1:].partition(b"\0")
                if not end and len(text) <= MESSAGE_BYTES:
                    self._begun = data
                    break
                data = rest
                error = text if kind == CANNOT else error
                self._note(kind, text)
            else:
                serving, data = serving + (kind == SERVING), data[1:]
                self.woken = self.woken or kind in (SERVING, AWAKE)
        return serving, error.decode("utf-8", "replace")

    def _note(self, kind: bytes, text: bytes) -> None:
        strike = _STRIKE.fullmatch(text)
        if kind == CHANGED:
            self.changed.append(text)
        elif kind == STRIKE and strike:
            reason = next(name for name, letter in _LETTERS.items() if letter == strike[1])
            self.strikes.append(Strike(strike[3], reason, int(strike[2], 16)))


class AlivePipe:
    """The pipe that ends when the master, the only writer, is gone.  fd: the read end, for the workers to poll."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()

    def __enter__(self) -> "AlivePipe":
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.fd)
        os.close(self._write_fd)

    def forget(self) -> None:
        """In a worker: let go of the end that only the master may hold."""
        os.close(self._write_fd)


class Reporter:
    """In a worker: tells the master what scripts did, on a BootPipe's `write_fd`.

    It never waits and never fails: while the master reads nothing and the pipe is full, what is told is lost.
    Scripts are told by scoreboard.script_key; the caller closes `fd`.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def strike(self, strike: Strike) -> None:
        """A script timed out, or overran its memory."""
        self._tell(STRIKE + _LETTERS[strike.reason] + b"%016x" % strike.started + strike.path)

    def changed(self, path: bytes) -> None:
        """The file of a script in quarantine is another one now."""
        self._tell(CHANGED + path)

    def _tell(self, message: bytes) -> None:
        # The descriptor is the same open file in all workers, so it cannot be made non-blocking for one.
        poll = select.poll()            # of its own, because threads may tell at the same time
        poll.register(self._fd, select.POLLOUT)
        if poll.poll(0) and len(message) < MESSAGE_BYTES and b"\0" not in message:
            with contextlib.suppress(OSError):
                os.write(self._fd, message + b"\0")


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
