"""One master hands over to the next, which runs newly installed code.

The running master starts `python -m luafcgid2` anew with an `Inheritance` in its environment: the listener, the
locked pid file, and a pipe on which the new one says that its first worker serves, or why it cannot.  Until that
word the old master goes on as before, so code or a configuration that does not start changes nothing; after it the
old one lets its workers finish and leaves.  Both hold the one lock on the pid file, so at no moment may a third
server start.  start.py takes the Inheritance out of the environment; only the masters use the rest.
"""
from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from . import ready, rerun
from .supervision import describe_death

VARIABLE = "LUAFCGID2_UPGRADE"
UPGRADE_SECONDS = 60.0          # until the new master must be ready
END_SECONDS = 2.0               # that it may take to stop when it is not
ERROR_BYTES = 4000              # of its standard error, for the log


class Inheritance(NamedTuple):
    """What a master leaves to the next.

    listener: descriptor of the listening socket, -1 for none; text: how it is described; path: the socket file, ""
    for none; listen: the Listen that it was opened for; pid_file: descriptor, -1 for none; handoff: those of
    the connections' queue; detached: whether the server has no terminal; master: pid of the old one.
    """

    listener: int = -1
    text: str = ""
    path: str = ""
    listen: str = ""
    pid_file: int = -1
    handoff: Tuple[int, ...] = ()
    detached: bool = False
    master: int = 0

    @classmethod
    def from_environment(cls) -> "Inheritance":
        """Take it out of the environment, so that no script's child sees it; nothing when it is not for us."""
        found: Dict[str, Any] = {}
        text = os.environ.pop(VARIABLE, "")
        if text:
            import json
            with contextlib.suppress(ValueError):
                found = json.loads(text)
        # Not ours if its master lives and is not our parent; one that was killed meanwhile has left it to us.
        if found.get("master") != os.getppid() and (not found or os.path.exists("/proc/%d" % found["master"])):
            return cls()
        # An older or newer master may tell more than we know.
        made = cls(**{name: value for name, value in found.items() if name in cls._fields})
        for fd in made.descriptors:
            os.set_inheritable(fd, False)
        return made

    def to_environment(self) -> Dict[str, str]:
        """The variables of the new master's environment."""
        import json
        return {VARIABLE: json.dumps(self._asdict())}

    @property
    def descriptors(self) -> List[int]:
        """Those that the new master must be given."""
        return [fd for fd in (self.listener, self.pid_file, *self.handoff) if fd >= 0]


class Upgrade:
    """A new master that starts: `pid`, and `fds` to poll.  OSError when it cannot be started.

    arguments: of the command luafcgid2; more: variables for its environment.  `deadline` is when `expire` has
    something to do, in seconds of the monotonic clock; `is_ready` whether it serves.
    """

    def __init__(self, arguments: Sequence[str], inheritance: Inheritance, more: Mapping[str, str]) -> None:
        # Here, because a server may never need it.
        import subprocess
        self.is_ready = False
        self._said: Dict[int, bytes] = {}
        ready_fd, ready_write = os.pipe()
        ends = [ready_write]
        self._ready_fd, self._said[ready_fd] = ready_fd, b""
        errors: Optional[int] = None
        if inheritance.detached:
            # Its standard error would be nobody's, but a Python that cannot import our code says so there.
            errors_fd, errors = os.pipe()
            ends.append(errors)
            self._said[errors_fd] = b""
        try:
            environment = dict(os.environ, **inheritance.to_environment(), **more, **{ready.VARIABLE: str(ready_write)})
            # B603: ourselves, with the words that we were started with.
            process = subprocess.Popen([*rerun.module("luafcgid2"), *arguments], env=environment,  # nosec B603
                                       stdin=subprocess.DEVNULL, stderr=errors,
                                       pass_fds=[ready_write, *inheritance.descriptors])
        except OSError:
            self.close()
            raise
        finally:
            for fd in ends:
                os.close(fd)
        # The master reaps all children by itself.
        process.returncode = 0
        self.pid = process.pid
        self.deadline = time.monotonic() + UPGRADE_SECONDS
        self._reasons: List[str] = []

    @property
    def fds(self) -> List[int]:
        """What to poll."""
        return list(self._said)

    def hear(self, fd: int) -> None:
        """Read what has come on one of `fds`."""
        data = os.read(fd, 65536)
        self._said[fd] = (self._said[fd] + data)[-ERROR_BYTES:]
        if not data:
            self._take(fd)
        elif self._said.get(self._ready_fd, b"").startswith(ready.READY):
            self.is_ready = True

    def _take(self, fd: int) -> None:
        text = self._said.pop(fd).decode("utf-8", "replace").strip()
        os.close(fd)
        if text and not (fd == self._ready_fd and self.is_ready):
            # What it says on the pipe is the gist; standard error repeats it.
            self._reasons.insert(0 if fd == self._ready_fd else len(self._reasons), text)

    def expire(self, now: float) -> None:
        """Stop it when it has taken too long; call at `deadline`."""
        late = f"it was not ready after {UPGRADE_SECONDS:g} seconds"
        os.kill(self.pid, signal.SIGKILL if late in self._reasons else signal.SIGQUIT)
        if late not in self._reasons:
            self._reasons.insert(0, late)
        self.deadline = now + END_SECONDS

    def why(self, status: int) -> str:
        """Why it did not start, in words: after it has died with that wait status."""
        for fd in self.fds:
            os.set_blocking(fd, False)
            try:
                while fd in self._said:
                    self.hear(fd)
            except BlockingIOError:
                self._take(fd)
        return self._reasons[0] if self._reasons else f"it {describe_death(status)}"

    def close(self) -> None:
        """Let go of the pipes."""
        while self._said:
            os.close(self._said.popitem()[0])


def inheritance_of(listener: Any, pid_file: Any, handoff: Any, config: Any, detached: bool) -> Inheritance:
    """What the running master has to leave."""
    return Inheritance(listener.socket.fileno(), listener.describe(), listener.path, config.listen, pid_file.fd,
                       tuple(handoff.fds), detached, os.getpid())
