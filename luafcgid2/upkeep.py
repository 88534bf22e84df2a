"""What the state pool does while nobody waits for it: promised clones, garbage collections, giving memory back.

In: a pool's entries.  Out: states made, collected and closed.  It is the lower half of pool.StatePool, which alone
derives from it and owns the counts; worker.py calls `spare_time` when a response is out, `housekeep` when the
worker is idle, monitor.py calls `evict`.
"""
from __future__ import annotations

import logging
import threading
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Tuple

from .entry import Entry, Rules
from .errors import Error
from .state import LuaState, Services


class Upkeep:
    """See the module's contract."""

    _rules: Rules
    _services: Services
    _logger: logging.Logger
    _entries: Dict[Tuple[bytes, bytes], Entry]
    _lock: threading.Lock
    _total: int
    _short: Deque[Entry]
    _heavy: Deque[LuaState]
    _closing: Deque[LuaState]

    def checkin(self, state: LuaState) -> None:
        """Take a state back; see pool.py."""
        raise NotImplementedError

    def _another(self, entry: Entry) -> LuaState:
        raise NotImplementedError

    def _take_idle(self, entry: Entry) -> Optional[LuaState]:
        raise NotImplementedError

    def _forget_spare(self) -> None:
        """Drop what is kept only to save time."""
        raise NotImplementedError

    def wants_collection(self, state: LuaState) -> None:
        """The heap of `state` has grown: collect it in `spare_time`."""
        self._heavy.append(state)

    @property
    def queues(self) -> Tuple[Deque[Any], ...]:
        """Where work for `spare_time` waits."""
        return self._short, self._heavy, self._closing

    @property
    def pending(self) -> bool:
        """Whether `spare_time` has something to do."""
        return bool(self._short or self._heavy or self._closing)

    def spare_time(self) -> None:
        """Work put off until the response was out: states to close and, where there are such, one to have ready;
        garbage collections, clones that LuaStates promises."""
        if self._closing:
            self._close_victims()
            self._services.prepare()
        for state in taken(self._heavy.popleft):
            try:
                state.entry.idle.remove(state)
            except ValueError:
                continue
            self._collect(state)
        for entry in taken(self._short.popleft):
            self._make_clones(entry)

    def _close_victims(self) -> None:
        """Close the states that had to go for others; they are counted out already."""
        for state in taken(self._closing.popleft):
            state.close()

    def _collect(self, state: LuaState) -> None:
        try:
            state.entry.heap = state.collect()
        except Exception as error:
            # Lua 5.1 to 5.3 raise what a __gc metamethod of the script raises.
            self._logger.error("%s: %s", state.version.script.path.decode("utf-8", "replace"), error)
        finally:
            self.checkin(state)

    def _make_clones(self, entry: Entry) -> None:
        while entry.total < self._rules.states and self._total < self._rules.total and not entry.gone:
            try:
                state = self._another(entry)
            except Error as error:
                self._logger.warning("cannot make a clone: %s", error)
                return
            self.checkin(state)
            if not state.pooled:
                return

    def housekeep(self) -> None:
        """Full collections in idle states that have served since the last one."""
        for entry in self.entries:
            for _ in range(len(entry.idle)):
                try:
                    state = entry.idle.pop(0)
                except IndexError:
                    break
                if state.served:
                    state.served = False
                    self._collect(state)
                else:
                    self.checkin(state)

    def evict(self) -> int:
        """Give memory back: close the idle states of half of the scripts, those used longest ago, and all but one
        of the others; collect what is left.  The number of states closed."""
        entries = sorted(self.entries, key=lambda entry: entry.used)
        closed = 0
        for place, entry in enumerate(entries):
            while len(entry.idle) > (2 * place >= len(entries)):
                with self._lock:
                    state = self._take_idle(entry)
                    self._total -= state is not None
                if state is None:
                    break
                state.close()
                closed += 1
        self._forget_spare()
        self.housekeep()
        return closed

    @property
    def building(self) -> Dict[int, LuaState]:
        """The states whose top level runs now, by thread."""
        return self._services.building

    @property
    def entries(self) -> List[Entry]:
        """What is known of every script now."""
        return list(self._entries.values())

    @property
    def total(self) -> int:
        """How many states the pool holds."""
        return self._total

    def counts(self) -> Dict[bytes, int]:
        """Script path -> number of pooled states, as ThreadData() shows them."""
        return {entry.script.path: entry.total for entry in self.entries}


def taken(take: Callable[[], Any]) -> Iterator[Any]:
    """What `take` gives until a queue is empty; other threads may take from it, too."""
    while True:
        try:
            yield take()
        except IndexError:
            return
