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
from typing import Callable, Deque, Dict, List, Optional, Tuple

from .entry import Entry, Rules
from .errors import Error, ScriptError, ScriptNotFound
from .script import Script, Version
from .shelf import Shelf
from .state import LuaState, Services, make
from .upkeep import Upkeep, taken

# Seconds that a request waits for another thread to build the version after a flush; a script whose top level
# asks this very server for something would wait for ever.
FLUSH_WAIT = 5.0


class StatePool(Upkeep):
    """See the module's contract.  `generation` is a function that gives the scoreboard's number."""

    def __init__(self, services: Services, rules: Rules, generation: Callable[[], int],
                 logger: logging.Logger) -> None:
        self._services, self._rules, self._generation, self._logger = services, rules, generation, logger
        self._entries: Dict[Tuple[bytes, bytes], Entry] = {}
        self._lock = threading.Lock()
        self._total = 0
        self._numbers = itertools.count()
        self._short: Deque[Entry] = deque()
        self._heavy: Deque[LuaState] = deque()
        self._closing: Deque[LuaState] = deque()
        self._shelf = Shelf()

    def checkout(self, script: Script, now: Optional[float] = None,
                 generation: Optional[int] = None) -> LuaState:
        """A state of the script's current version; use it in `with`.

        `now` (the monotonic clock, seconds) and `generation` spare two look-ups to a caller who has them.

        Raises ScriptNotFound, ScriptForbidden, ScriptError (no good version).
        """
        entry = self._entries.get((script.path, script.root))
        if entry is None:
            return self._first(script)
        now = time.monotonic() if now is None else now
        entry.used = now
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
        entry = state.entry
        idle = entry.idle
        if state.pooled and entry.version is state.version and not state.broken and not entry.gone:
            idle.append(state)
            if entry.idle is idle:
                return
            # The version was replaced just now: whoever did so may have emptied the list before.
            try:
                idle.remove(state)
            except ValueError:
                return
        self._discard(state, entry)

    def _discard(self, state: LuaState, entry: Entry) -> None:
        """Close a state that is not kept, and count it out."""
        if state.pooled:
            with self._lock:
                self._total -= 1
                if not entry.gone and entry.version is state.version:
                    entry.total -= 1
        state.close()

    def _first(self, script: Script) -> LuaState:
        generation = self._generation()
        version = self._shelf.take(script, generation) or self._new_version(script)
        state = self._build(version)
        state.entry = entry = Entry(script, version, generation)
        entry.heap = state.heap
        entry.used = time.monotonic()
        entry.next_check = entry.used + self._rules.keep
        state.pooled = self._reserve(entry) is not None
        with self._lock:
            known = self._entries.setdefault((script.path, script.root), entry)
            if known is not entry and state.pooled:
                # Another thread was first: this state serves one request.
                state.entry, state.pooled = known, False
                self._total -= 1
        if state.pooled and self._rules.states > 1:
            self._short.append(entry)
        return state

    def _new_version(self, script: Script) -> Version:
        return Version(self._services.engine, script, self._rules.startup, self._rules.checksum,
                       self._services.max_memory)

    def _build(self, version: Version, entry: Optional[Entry] = None) -> LuaState:
        try:
            state = make(self._services, version, next(self._numbers))
        except ScriptError as error:
            raise version.explain(error) from None
        state.pool, state.entry = self, entry
        if entry is not None:
            entry.heap = state.heap
        return state

    def _another(self, entry: Entry) -> LuaState:
        version = self._reserve(entry)
        if version is None:
            return self._build(entry.version, entry)
        try:
            state = self._build(version, entry)
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
            self._closing.append(victim)
        return version

    def _victim(self, wanting: Entry) -> Optional[LuaState]:
        """An idle clone of the least recently used other script (called with the lock held)."""
        for entry in sorted(self._entries.values(), key=lambda entry: entry.used):
            if entry is wanting:
                continue
            state = self._take_idle(entry)
            if state is not None:
                return state
        return None

    def _take_idle(self, entry: Entry) -> Optional[LuaState]:
        """Take an idle clone out of the pool, for good; an entry without any is forgotten (called with the lock
        held; the caller closes the clone, and counts it)."""
        try:
            state = entry.idle.pop()
        except IndexError:
            return None
        entry.total -= 1
        if not entry.total and not entry.gone:
            self._forget(entry)
            self._shelf.put(entry.version, entry.generation)
        return state

    def _forget(self, entry: Entry) -> None:
        """Drop an entry that the pool holds (called with the lock held)."""
        entry.gone = True
        del self._entries[entry.script.path, entry.script.root]

    def _forget_spare(self) -> None:
        self._services.forget()
        self._shelf.clear()

    def _close_all(self, idle: List[LuaState]) -> None:
        """Close pooled states that no entry holds any more; a checkout may still take one away."""
        for state in taken(idle.pop):
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
            state = self._build(version, entry)
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
            # In this order: see checkin, which takes no lock.
            entry.version, entry.failed, entry.failure, entry.total = version, None, None, 1
            old, entry.idle = entry.idle, [state]
            self._total += 1
            if entry.gone:
                # Evicted while we built: nobody will ask this entry for a state again.
                old.append(entry.idle.pop())
        self._close_all(old)
        if self._rules.states > 1:
            self._short.append(entry)
        self._logger.info("reloaded %s%s", entry.script.path.decode("utf-8", "replace"),
                          " (flush)" if forced else "")

    def _remove(self, entry: Entry) -> None:
        with self._lock:
            if not entry.gone:
                self._forget(entry)
            idle, entry.idle = entry.idle, []
        self._close_all(idle)

    def close(self) -> None:
        """Close every idle state; Lua's finalizers run."""
        for entry in self.entries:
            self._remove(entry)
        self._close_victims()
        self._forget_spare()
