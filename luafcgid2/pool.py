"""The state pool of one worker: which clone serves a request, and which version of the script.

In: a Script.  Out: a LuaState to use in `with`; leaving it checks the state in.  responder.py calls
`checkout`; worker.py calls `spare_time` when a response is out and `housekeep` when the worker is idle.
All threads of a worker share one pool.

Rules: LuaStates clones soon after the first use, up to LuaMaxStates a script, LuaTotalStates a worker (the
least recently used script loses an idle clone), beyond that a one-off state that is closed after its
request.  A new version of a script is built aside and swapped in; one that cannot be built leaves the last
good version serving (OnReloadError).  It holds no lock while Lua or the disk works.

Counts: `Entry.total` counts the pooled states of its current version, idle, busy or being built; the pool's
total counts those of all versions until they are closed.  Both change under the lock.
"""
from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Tuple

from .entry import Entry, Rules
from .errors import Error, ScriptError, ScriptNotFound
from .script import Script, Version
from .state import LuaState, Services

# Seconds that a request waits for another thread to build the version after a flush; a script whose top level
# asks this very server for something would wait for ever.
FLUSH_WAIT = 5.0


class StatePool:
    """See the module's contract.  `generation` is a function that gives the scoreboard's number."""

    def __init__(self, services: Services, rules: Rules, generation: Callable[[], int],
                 logger: logging.Logger) -> None:
        self._services, self._rules, self._generation, self._logger = services, rules, generation, logger
        self._entries: Dict[Tuple[bytes, bytes], Entry] = {}
        self._lock = threading.Lock()
        self._total = 0
        self._numbers = itertools.count()
        self._clock = itertools.count(1)
        self._short: Deque[Entry] = deque()
        self._heavy: Deque[LuaState] = deque()

    def checkout(self, script: Script, now: Optional[float] = None,
                 generation: Optional[int] = None) -> LuaState:
        """A state of the script's current version; use it in `with`.

        `now` (the monotonic clock, seconds) and `generation` spare two look-ups to a caller who has them.

        Raises ScriptNotFound, ScriptForbidden, ScriptError (no good version).
        """
        entry = self._entries.get((script.path, script.root))
        if entry is None:
            return self._first(script)
        entry.used = next(self._clock)
        now = time.monotonic() if now is None else now
        generation = self._generation() if generation is None else generation
        if (entry.next_check <= now or entry.generation != generation
                or entry.script.real != script.real):
            self._refresh(entry, script)
        failure = entry.failure
        if failure is not None:
            # Each raise would add to the traceback that the exception carries.
            raise failure.with_traceback(None)
        try:
            return entry.idle.pop()
        except IndexError:
            return self._another(entry)

    def checkin(self, state: LuaState) -> None:
        """Take a state back: kept if its version is current, closed otherwise."""
        if state.pooled:
            script = state.version.script
            with self._lock:
                entry = self._entries.get((script.path, script.root))
                current = entry is not None and entry.version is state.version
                if current and not state.broken:
                    entry.idle.append(state)
                    return
                self._total -= 1
                if current:
                    entry.total -= 1
        state.close()

    def _first(self, script: Script) -> LuaState:
        generation = self._generation()
        version = self._new_version(script)
        state = self._build(version)
        entry = Entry(script, version, generation)
        entry.next_check = time.monotonic() + self._rules.keep
        entry.used = next(self._clock)
        state.pooled = self._reserve(entry) is not None
        with self._lock:
            known = self._entries.setdefault((script.path, script.root), entry)
            if known is not entry and state.pooled:
                # Another thread was first: this state serves one request.
                state.pooled = False
                self._total -= 1
        if state.pooled and self._rules.states > 1:
            self._short.append(entry)
        return state

    def _new_version(self, script: Script) -> Version:
        return Version(self._services.engine, script, self._rules.startup, self._rules.checksum)

    def _build(self, version: Version) -> LuaState:
        try:
            state = LuaState(self._services, version, next(self._numbers))
        except ScriptError as error:
            raise version.explain(error) from None
        state.pool = self
        return state

    def _another(self, entry: Entry) -> LuaState:
        version = self._reserve(entry)
        if version is None:
            return self._build(entry.version)
        try:
            state = self._build(version)
        except BaseException:
            with self._lock:
                self._total -= 1
                if entry.version is version:
                    entry.total -= 1
            raise
        state.pooled = True
        return state

    def _reserve(self, entry: Entry) -> Optional[Version]:
        """Count one more pooled state of `entry`, evicting another's if need be: the version it is counted
        for, or None where the limits do not allow it."""
        victim = None
        with self._lock:
            if entry.total >= self._rules.max_states:
                return None
            if self._total >= self._rules.total:
                victim = self._victim(entry)
                if victim is None:
                    return None
                self._total -= 1
            entry.total += 1
            self._total += 1
            version = entry.version
        if victim is not None:
            victim.close()
        return version

    def _victim(self, wanting: Entry) -> Optional[LuaState]:
        """An idle clone of the least recently used other script (called with the lock held)."""
        for entry in sorted(self._entries.values(), key=lambda entry: entry.used):
            if entry is wanting:
                continue
            try:
                state = entry.idle.pop()
            except IndexError:
                continue
            entry.total -= 1
            if not entry.total:
                del self._entries[entry.script.path, entry.script.root]
            return state
        return None

    def _close_all(self, idle: List[LuaState]) -> None:
        """Close pooled states that no entry holds any more; a checkout may still take one away."""
        for state in _taken(idle.pop):
            with self._lock:
                self._total -= 1
            state.close()

    def _refresh(self, entry: Entry, script: Script) -> None:
        """Look at the disk if it is time to.  One thread does, the others go on with what is there; but after a
        flush they wait for it, because nobody may be served by the old version then."""
        flushed = entry.generation != self._generation()
        if not entry.refreshing.acquire(timeout=FLUSH_WAIT if flushed else 0):
            return
        try:
            generation = self._generation()
            forced = generation != entry.generation
            if flushed and not forced:
                return
            newest = entry.failed or entry.version
            # The same name may lead to another file now: deployments switch a symbolic link.
            if forced or newest.script.real != script.real or newest.changed():
                entry.script = script
                self._replace(entry, forced)
            entry.generation = generation
            entry.next_check = time.monotonic() + self._rules.keep
        except ScriptNotFound:
            self._remove(entry)
            raise
        finally:
            entry.refreshing.release()

    def _replace(self, entry: Entry, forced: bool) -> None:
        version = self._new_version(entry.script)
        try:
            state = self._build(version)
        except ScriptNotFound:
            raise
        except Error as error:
            entry.failed, entry.failure = version, None if self._rules.last_good else error
            serving = "the last good version goes on serving" if self._rules.last_good else "it answers 500"
            self._logger.error("reload of %s failed, %s: %s", entry.script.path.decode("utf-8", "replace"),
                               serving, error)
            return
        state.pooled = True
        with self._lock:
            old, entry.idle = entry.idle, [state]
            entry.version, entry.failed, entry.failure, entry.total = version, None, None, 1
            self._total += 1
            if self._entries.get((entry.script.path, entry.script.root)) is not entry:
                # Evicted while we built: nobody will ask this entry for a state again.
                old.append(entry.idle.pop())
        self._close_all(old)
        if self._rules.states > 1:
            self._short.append(entry)
        self._logger.info("reloaded %s%s", entry.script.path.decode("utf-8", "replace"),
                          " (flush)" if forced else "")

    def _remove(self, entry: Entry) -> None:
        with self._lock:
            if self._entries.get((entry.script.path, entry.script.root)) is entry:
                del self._entries[entry.script.path, entry.script.root]
            idle, entry.idle = entry.idle, []
        self._close_all(idle)

    def wants_collection(self, state: LuaState) -> None:
        """The heap of `state` has grown: collect it in `spare_time`."""
        self._heavy.append(state)

    @property
    def pending(self) -> bool:
        """Whether `spare_time` has something to do."""
        return bool(self._short or self._heavy)

    def spare_time(self) -> None:
        """Work put off until the response was out: clones that LuaStates promises, garbage collections."""
        for state in _taken(self._heavy.popleft):
            script = state.version.script
            entry = self._entries.get((script.path, script.root))
            try:
                entry.idle.remove(state)
            except (AttributeError, ValueError):
                continue
            self._collect(state)
        for entry in _taken(self._short.popleft):
            self._make_clones(entry)

    def _collect(self, state: LuaState) -> None:
        try:
            state.collect()
        except Exception as error:
            # Lua 5.1 to 5.3 raise what a __gc metamethod of the script raises.
            self._logger.error("%s: %s", state.version.script.path.decode("utf-8", "replace"), error)
        finally:
            self.checkin(state)

    def _make_clones(self, entry: Entry) -> None:
        while (entry.total < self._rules.states and self._total < self._rules.total
                and self._entries.get((entry.script.path, entry.script.root)) is entry):
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
        for entry in list(self._entries.values()):
            for _ in range(len(entry.idle)):
                try:
                    state = entry.idle.pop(0)
                except IndexError:
                    break
                if state.served:
                    state.served = 0
                    self._collect(state)
                else:
                    self.checkin(state)

    def counts(self) -> Dict[bytes, int]:
        """Script path -> number of pooled states, as ThreadData() shows them."""
        return {entry.script.path: entry.total for entry in list(self._entries.values())}

    def close(self) -> None:
        """Close every idle state; Lua's finalizers run."""
        for entry in list(self._entries.values()):
            self._remove(entry)


def _taken(take: Callable[[], Any]) -> Iterator[Any]:
    """What `take` gives until a queue is empty; other threads may take from it, too."""
    while True:
        try:
            yield take()
        except IndexError:
            return
