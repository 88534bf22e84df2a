"""What the master's policies decide, as plain data.

In: nothing.  Out: the types that the `tick` of hung.py, stopped.py, memory.py and quarantine.py returns in lists, in
the order in which they are to be carried out; master.py carries them out, and looks whether the pid is still that
worker's.  Strikes also come from the workers, through ready.py.  Nothing here acts.
"""
from __future__ import annotations

from typing import NamedTuple, Union


class Retire(NamedTuple):
    """Let the worker finish its requests and leave; its successor starts at once."""

    slot: int
    pid: int
    reason: str


class Kill(NamedTuple):
    """End the worker now, by SIGKILL."""

    slot: int
    pid: int
    reason: str


class EvictStates(NamedTuple):
    """Wake the worker if it sleeps: its cell `evict` has moved, it shall close idle Lua states and collect garbage."""

    slot: int
    pid: int


class Strike(NamedTuple):
    """A script did harm: `reason` is "timeout", "memory" or "death"; `started` of its request, in nanoseconds of
    the monotonic clock, 0 = not known."""

    path: bytes
    reason: str
    started: int = 0


class Log(NamedTuple):
    """One line for the log; `level` is one of logging's numbers."""

    level: int
    text: str


Decision = Union[Retire, Kill, EvictStates, Strike, Log]
