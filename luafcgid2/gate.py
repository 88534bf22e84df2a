"""The worker's side of quarantine: may this script run now?

In: a script's path, before it runs and after.  Out: the seconds that the client shall wait, 0 = run it.  The
worker's threads call `check` and `done` around each request; what quarantine is and when it ends is
quarantine.py's, in the master.  The scoreboard is only read.  While nothing is in quarantine, `check` looks at one
cell.
"""
from __future__ import annotations

import os
import threading
import time
from typing import Any, Callable, Dict, Set, Tuple

from .scoreboard import QUARANTINE_SERIAL, script_key

SECOND = 10 ** 9
TRIAL_WAIT = 1.0                # seconds to wait while another request is on trial


class Gate:
    """See the module's contract.

    changed: called with the script's key when its file has changed since it went into quarantine, once each time;
    it tells the master.
    """

    def __init__(self, board: Any, changed: Callable[[bytes], None],
                 clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._cells, self._lines, self._changed, self._clock = board.cells, board.quarantine, changed, clock
        self.serial = -1
        self._lock = threading.Lock()
        # Not empty while something is in quarantine.  Key -> (end of the back-off, beginning as nanoseconds since
        # 1970).
        self.held: Dict[bytes, Tuple[int, int]] = {}
        # (key, end) of one quarantine: which thread runs the trial, and whether one went well.
        self._trials: Dict[Tuple[bytes, int], int] = {}
        self._open: Set[Tuple[bytes, int]] = set()

    def check(self, path: bytes) -> float:
        """Seconds until the script may be asked for again, 0 = it may run now, and `done` must be called after."""
        if self._cells[QUARANTINE_SERIAL] != self.serial:
            self._read()
        return self._wait(path) if self.held else 0

    def done(self, path: bytes, well: bool) -> None:
        """The script that `check` let through has run in this thread; well: it earned no strike."""
        if not self.held:
            return
        with self._lock:
            held = self.held.get(script_key(path))
            trial = (script_key(path), held[0] if held else 0)
            # A request that ran before the quarantine began is no trial.
            if self._trials.get(trial) == threading.get_ident():
                del self._trials[trial]
                if well:
                    self._open.add(trial)

    def _read(self) -> None:
        with self._lock:
            # The number first: lines that change meanwhile are read again at the next check.
            serial = self._cells[QUARANTINE_SERIAL]
            held = {line.path: (line.until, line.since) for line in self._lines if line.path}
            trials = {(name, until) for name, (until, _) in held.items()}
            self._trials = {trial: thread for trial, thread in self._trials.items() if trial in trials}
            self._open &= trials
            self.held, self.serial = held, serial

    def _wait(self, path: bytes) -> float:
        name = script_key(path)
        until, since = self.held.get(name, (0, 0))
        trial = (name, until)
        if not until or trial in self._open:
            return 0
        if _newer(path, since):
            self._open.add(trial)
            self._changed(name)
            return 0
        left = until - self._clock()
        if left > 0:
            return left / SECOND
        mine = threading.get_ident()
        with self._lock:
            return 0 if self._trials.setdefault(trial, mine) == mine else TRIAL_WAIT


def _newer(path: bytes, since: int) -> bool:
    """Whether the file was written or replaced after `since`; the time of its last change of any kind tells,
    because copies often keep the modification time.  A time to come is of a clock that was wrong, and tells
    nothing."""
    try:
        return since < os.stat(path).st_ctime_ns <= time.time_ns() + SECOND
    except OSError:
        return False
