"""How many workers there should be: the rules of ProcessManager, after php-fpm's `pm`.

In: what the workers do, as a `Load`, and the Config.  Out: `wanted`, a number of workers, and `Scaler`, which the
master's loop asks once a tick.  The rules are pure.  Nothing here starts or stops a process.

static: always as many as Workers says.  dynamic: never fewer than MinSpareWorkers without work, so that a burst
meets somebody; what is above MaxSpareWorkers leaves at once, what is above MinSpareWorkers after IdleTimeout.
ondemand: one more when all are saturated; whoever was idle for IdleTimeout leaves, the last one too: then the
master itself watches the listener.  Workers is the most there may be.
"""
from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple, Optional

from .children import Child

STEP_SECONDS = 0.5


class Load(NamedTuple):
    """What the workers do.  total: those there should be now; starting: not ready yet; ready: the others; spare:
    those that serve nothing; saturated: those with no free thread; expired: those idle for IdleTimeout."""

    total: int
    starting: int
    ready: int
    spare: int
    saturated: int
    expired: int


def first(config: Any, most: int) -> int:
    """How many workers to start with."""
    if config.process_manager == "dynamic":
        middle = (config.min_spare_workers + config.max_spare_workers) // 2
        return max(1, min(most, config.start_workers or middle))
    # ondemand: one that shows whether the configuration serves at all; it leaves after IdleTimeout.
    return 1 if config.process_manager == "ondemand" else most


def _static(config: Any, load: Load, most: int) -> int:
    return most


def _dynamic(config: Any, load: Load, most: int) -> int:
    lacking = config.min_spare_workers - load.spare - load.starting
    if lacking > 0:
        return min(most, load.total + lacking)
    # One at a time, as php-fpm does: the next moment may want it again.
    surplus = load.spare > config.max_spare_workers
    rested = load.expired and load.spare > config.min_spare_workers
    return load.total - 1 if surplus or rested else load.total


def _ondemand(config: Any, load: Load, most: int) -> int:
    if load.ready and load.saturated == load.ready and not load.starting:
        return min(most, load.total + 1)
    return max(0, load.total - load.expired)


RULES: Dict[str, Callable[[Any, Load, int], int]] = {"static": _static, "dynamic": _dynamic, "ondemand": _ondemand}


def wanted(config: Any, load: Load, most: int) -> int:
    """How many workers there should be from now on, `most` at most."""
    return min(most, RULES[config.process_manager](config, load, most))


class Scaler:
    """A watcher of the master's loop: sets `roster.wanted`."""

    def __init__(self, roster: Any) -> None:
        self._roster = roster
        self._again: Optional[float] = None

    def next_tick(self) -> Optional[float]:
        """When the next worker will have been idle for long enough, if that lets it go; soon after a decision,
        because the rules go step by step."""
        roster = self._roster
        if not self._acts():
            return None
        if self._again is not None:
            return self._again
        times = [child.idle_since + roster.config.idle_timeout for child in roster.children.staff
                 if child.ready and not child.slot.busy]
        least = 0 if roster.config.process_manager == "ondemand" else roster.config.min_spare_workers
        return min(times) if len(times) > least else None

    def tick(self, now: float) -> None:
        """Look at the workers and decide."""
        staff = self._roster.children.staff
        for child in staff:
            self._look(child, now)
        if not self._acts():
            return
        config, ready = self._roster.config, [child for child in staff if child.ready]
        load = Load(self._roster.wanted, len(staff) - len(ready), len(ready),
                    sum(not child.slot.busy for child in ready),
                    sum(child.slot.busy >= child.slot.threads for child in ready),
                    sum(now >= child.idle_since + config.idle_timeout for child in ready))
        number = wanted(config, load, self._roster.target)
        self._again = None if number == self._roster.wanted else now + STEP_SECONDS
        self._roster.wanted = number

    def _acts(self) -> bool:
        # While workers are being replaced there is one more for a moment, which says nothing about the load.
        return self._roster.config.process_manager != "static" and not self._roster.replacing

    @staticmethod
    def _look(child: Child, now: float) -> None:
        if child.slot.busy or child.slot.requests != child.seen:
            child.seen, child.idle_since = child.slot.requests, now
