"""Signals as something to poll: a handler only queues, the loop reads the queue and acts.

In: the signal numbers to queue.  Out: a descriptor that becomes readable, and the numbers in order of arrival.
The master uses it as a context manager; a forked child calls `drop` while the signals are still blocked.  This
module knows no meaning of any signal.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any, Callable, Iterable, Iterator, Mapping, Tuple

Handler = Callable[[int, Any], Any]


def _wake_only(number: int, frame: object) -> None:
    """A Python handler must exist for the wake-up pipe to be written; being one, it ends with an exec."""


def _leave(number: int, frame: object) -> None:
    os._exit(0)


class SignalQueue:
    """Queues `numbers` from `__enter__` to `__exit__`; fd is what to poll for POLLIN."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers: Tuple[int, ...] = tuple(numbers)
        self.fd = -1

    def __enter__(self) -> "SignalQueue":
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        self._handlers = {number: signal.signal(number, _wake_only) for number in self._numbers}
        self._former_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.set_wakeup_fd(self._former_fd)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._close()

    def read(self) -> bytes:
        """The numbers that came since the last call, one byte each; b"" when there are none."""
        try:
            return os.read(self.fd, 512)
        except BlockingIOError:
            return b""

    @contextlib.contextmanager
    def blocked(self) -> Iterator[None]:
        """Keep the signals pending within the `with`: around a fork, so that no child queues into our pipe."""
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)

    def drop(self, handlers: Mapping[int, Handler]) -> None:
        """In a forked child: let go of the queue and unblock.

        Until the child has handlers of its own, these `handlers` act, a signal to stop ends it quietly, SIGCHLD
        is as for any program (or system(3) loses its children) and the others do nothing.
        """
        signal.set_wakeup_fd(-1)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, _leave)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)

    def _close(self) -> None:
        os.close(self.fd)
        os.close(self._write_fd)
