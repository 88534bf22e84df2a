"""Trouble that clients bring comes thousandfold: one line a minute of each kind.

In: a kind, a message.  Out: lines in the log, which say how many were left out since.  Anyone may use it.
"""
from __future__ import annotations

import logging
import time
from typing import Dict, Tuple

PAUSE = 60.0                    # seconds


class Complaints:
    """See the module's contract."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        # By kind: when the next line may come, how many did not.
        self._kinds: Dict[str, Tuple[float, int]] = {}

    def say(self, kind: str, message: str, level: int = logging.WARNING) -> None:
        """Log `message`, unless `kind` was logged less than a minute ago."""
        now = time.monotonic()
        due, left_out = self._kinds.get(kind, (0.0, 0))
        if now < due:
            self._kinds[kind] = due, left_out + 1
            return
        self._kinds[kind] = now + PAUSE, 0
        self._logger.log(level, "%s%s", message, " (and %d more since the last line)" % left_out if left_out else "")
