"""Watches the listener for the master while nobody works for it (ProcessManager = "ondemand").

In: the master's loop, which calls `watch` each time it wakes up.  Out: `roster.wanted` becomes 1 when somebody
comes.  Nothing is accepted here: who comes waits in the kernel's queue, and that stays readable until a worker has
taken it.
"""
from __future__ import annotations

from typing import Any


class Door:
    """See the module's contract.  server: the Master."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def watch(self) -> None:
        """Watch, or leave it to the workers."""
        server, roster = self._server, self._server.roster
        fd = server.listener.socket.fileno()
        alone = not roster.closed and not roster.wanted and not server.children.staff
        if alone and fd not in server.heard:
            server.listen_to(fd, self._somebody_comes)
        elif not alone and fd in server.heard:
            server.turn_away(fd)

    def _somebody_comes(self, fd: int) -> None:
        self._server.roster.wanted = 1
