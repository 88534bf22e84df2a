"""Reloads and upgrades one after the other, and what became of each.

In: what was asked for, and how it ended.  Out: what to do next; in the scoreboard's header the numbers `asked` and
`answered` and the text `outcome`, from which luafcgid2ctl learns whether its wish came true.  Only the master uses
`Orders`, only luafcgid2ctl `await_outcome`.  Nothing here does what is asked for.
"""
from __future__ import annotations

import os
import time
from typing import Any, List, Optional, Tuple

from .errors import ControlError

RELOAD, UPGRADE = "reload", "upgrade"
# An outcome that begins so is a success with a remark.
NOTE = "note: "
STEP_SECONDS = 0.02


class Orders:
    """The queue; `header` is the scoreboard's."""

    def __init__(self, header: Any) -> None:
        self._header = header
        self._pending: List[Tuple[str, int]] = []
        self.current: Optional[str] = None
        self._serial = 0

    def ask(self, kind: str) -> None:
        """Put RELOAD or UPGRADE at the end."""
        self._header.asked += 1
        self._pending.append((kind, self._header.asked))

    def next(self) -> Optional[str]:
        """What to begin now; None while something is under way, or when nothing is asked for."""
        if self.current or not self._pending:
            return None
        self.current = self._pending[0][0]
        # The same wish twice in a row is one: it has not begun yet.
        while self._pending and self._pending[0][0] == self.current:
            self._serial = self._pending.pop(0)[1]
        return self.current

    def finish(self, outcome: str = "") -> None:
        """What was begun is over.  outcome: why nothing changed, NOTE and a remark, or ""."""
        header = self._header
        header.outcome = outcome.encode("utf-8", "backslashreplace")
        if self.current == RELOAD and (not outcome or outcome.startswith(NOTE)):
            header.reloads += 1
            header.since_reload = int(time.time())
        header.answered = self._serial
        self.current = None

    def give_up(self) -> int:
        """Leave what waits to the next master; how many reloads were among it."""
        reloads = sum(kind == RELOAD for kind, _ in self._pending)
        if self._pending:
            self._header.outcome = (NOTE + "a new master has taken over meanwhile").encode()
            self._header.answered = self._pending[-1][1]
            self._pending.clear()
        return reloads


def await_outcome(header: Any, asked: int, pid: int, timeout: float) -> str:
    """How a wish ended that the master `pid` was signalled: `outcome` as in Orders.finish.

    asked: what the cell of that name held before the signal.  ControlError when the master is gone, or after
    `timeout` seconds.
    """
    deadline, serial = time.monotonic() + timeout, 0
    while True:
        # Before the answer is looked at: a master that has handed over answers and leaves.
        is_there = os.path.exists(f"/proc/{pid}")
        if header.asked > asked:
            serial = serial or header.asked
        if serial and header.answered >= serial:
            return header.outcome.decode("utf-8", "replace")
        if not is_there:
            raise ControlError(f"luafcgid2 (pid {pid}) has ended meanwhile; see its log")
        if time.monotonic() > deadline:
            raise ControlError(f"luafcgid2 (pid {pid}) has not finished after {timeout:g} seconds; see its log")
        time.sleep(STEP_SECONDS)
