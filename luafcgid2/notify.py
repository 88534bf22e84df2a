"""What the service manager is told: the protocol of sd_notify(3), without a library.

In: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID of the environment, as systemd sets them for Type=notify and
WatchdogSec=.  Out: one datagram to that socket for each word; nothing when there is no socket.  Only the master
calls it: systemd listens to the main process alone (NotifyAccess=main).  This module waits for no answer, since
there is none, and a manager that does not listen stops nothing.
"""
from __future__ import annotations

import os
import socket
import time
from typing import Dict, Optional

SOCKET, WATCHDOG, WATCHDOG_FOR = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
SEND_SECONDS = 1.0              # a manager whose queue is full that long is not waited for
MICROSECONDS = 1_000_000


class Notifier:
    """Where the words go.

    address: a path, or "@name" in the abstract namespace; "" for nobody to tell.  watchdog: seconds after which
    the manager takes a silent master for dead; 0: it does not watch.  `tick` and `next_tick` are for the master's
    loop: twice in that time it says that it lives.
    """

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self.address = address
        self.watchdog = watchdog if address else 0.0
        self._next = time.monotonic() + self.watchdog / 2

    @classmethod
    def from_environment(cls) -> "Notifier":
        """Take the variables out of the environment, so that no program of a script speaks for the server."""
        address = os.environ.pop(SOCKET, "")
        microseconds, pid = os.environ.pop(WATCHDOG, ""), os.environ.pop(WATCHDOG_FOR, "")
        ours = microseconds.isdigit() and pid in ("", str(os.getpid()))
        if address[:1] not in ("/", "@"):
            return cls()
        return cls(address, int(microseconds) / MICROSECONDS if ours else 0.0)

    def to_environment(self) -> Dict[str, str]:
        """The variables for a master that shall take our place, whatever its pid."""
        found = {SOCKET: self.address} if self.address else {}
        if self.watchdog:
            found[WATCHDOG] = str(int(self.watchdog * MICROSECONDS))
        return found

    def ready(self, status: str) -> None:
        """Connections are accepted, or a reload is over; status: one line for `systemctl status`."""
        self._tell("READY=1", f"MAINPID={os.getpid()}", "STATUS=" + status.replace("\n", " "))

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=Reloading")

    def stopping(self, seconds: float) -> None:
        """The stop begins; seconds: what it may take, so that the manager does not kill us before."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(seconds * MICROSECONDS)}",
                   "STATUS=Finishing the requests under way")

    def handed_over(self, pid: int) -> None:
        """Another master, `pid`, is the service now; it may speak from here on."""
        self._tell("READY=1", f"MAINPID={pid}", f"STATUS=Handed over to pid {pid}")

    def next_tick(self) -> Optional[float]:
        """When `tick` has something to say, in seconds of the monotonic clock; None for never."""
        return self._next if self.watchdog else None

    def tick(self, now: float) -> None:
        """Say that we live, if it is time."""
        if self.watchdog and now >= self._next:
            self._next = now + self.watchdog / 2
            self._tell("WATCHDOG=1")

    def _tell(self, *words: str) -> None:
        if not self.address:
            return
        # A leading @ stands for the zero byte of an abstract name (unix(7)).
        address = "\0" + self.address[1:] if self.address[0] == "@" else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(SEND_SECONDS)
                sock.sendto("\n".join(words).encode("utf-8", "surrogateescape"), os.fsencode(address))
        except OSError:
            # The manager has gone or does not listen: no reason to stop serving.
            return
