"""The state pool of one worker: which clone serves a request, and which version of the script.

In: a Script.  Out: a LuaState to use in `with`; leaving it checks the state in.  responder.py calls
`checkout`; worker.py calls `spare_time` when a response is out and `housekeep` when the worker is idle.
All threads of a worker share one pool.

Rules: LuaStates clones soon after the first use, up to LuaMaxStates a script, LuaTotalStates a worker (the
least recently used script loses an idle clone), beyond that a one-off state that is closed after its
request.  A new version of a script is built aside and swapped in; one that cannot be built leaves the last
good version serving (OnReloadError).  It holds no lock while Lua or the disk works.
"""
from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from typing import Callable, Deque, Dict, List, Optional, Tuple

from .errors import Error, ScriptNotFound
from .script import Script, Version
from .state import LuaState, Services


class Entry:
    """All that is known of one script: its current version and the clones of it."""

    __slots__ = ("script", "version", "idle", "total", "used", "next_check", "generation", "failed", "failure",
                 "refreshing")

    def __init__(self, script: Script, version: Version, generation: int) -> None:
        self.script, self.version, self.generation = script, version, generation
        self.idle: List[LuaState] = []
        self.total = 0
        self.used = 0
        self.next_check = 0.0
        # The newer version that could not be built, and why.
        self.failed: Optional[Version] = None
        self.failure: Optional[Error] = None
        self.refreshing = threading.Lock()


class Rules:
    """The pool's options.  `keep` is MinFileInfoTime in seconds; `last_good` whether an edit that fails
    leaves the version before it serving."""

    __slots__ = ("states", "max_states", "total", "keep", "checksum", "startup", "last_good")

    def __init__(self, states: int, max_states: int, total: int, keep: float, checksum: bool, startup: str,
                 last_good: bool) -> None:
        self.states, self.max_states, self.total = min(states, max_states), max_states, total
        self.keep, self.checksum, self.startup, self.last_good = keep, checksum, startup, last_good


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

    def checkout(self, script: Script) -> LuaState:
        """A state of the script's current version; use it in `with`.

        Raises ScriptNotFound, ScriptForbidden, ScriptError (no good version).
        """
        entry = self._entries.get((script.path, script.root))
        if entry is None:
            return self._first(script)
        entry.used = next(self._clock)
        if entry.next_check <= time.monotonic() or entry.generation != self._generation():
            self._refresh(entry)
        if entry.failure is not None:
            raise entry.failure
        try:
            state = entry.idle.pop()
        except IndexError:
            return self._another(entry)
        return state

    def checkin(self, state: LuaState) -> None:
        """Take a state back: kept if its version is current, closed otherwise."""
        if state.pooled:
            entry = self._entries.get((state.version.script.path, state.version.script.root))
            if entry is not None and entry.version is state.version and not state.broken:
                entry.idle.append(state)
                # A refresh between the look and the append has emptied the list already.
                if entry.version is state.version:
                    return
                self._drop_idle(entry, state.version)
                return
            self._forget(state)
        state.close()

    def _first(self, script: Script) -> LuaState:
        generation = self._generation()
        version = self._new_version(script)
        state = self._build(version)
        entry = Entry(script, version, generation)
        entry.next_check = time.monotonic() + self._rules.keep
        entry.used = next(self._clock)
        entry = self._entries.setdefault((script.path, script.root), entry)
        if entry.version is version and self._reserve(entry):
            state.pooled = True
            if self._rules.states > 1:
                self._short.append(entry)
        return state

    def _new_version(self, script: Script) -> Version:
        return Version(self._services.engine, script, self._rules.startup, self._rules.checksum)

    def _build(self, version: Version) -> LuaState:
        state = LuaState(self._services, version, next(self._numbers))
        state.pool = self
        return state

    def _another(self, entry: Entry) -> LuaState:
        version = entry.version
        reserved = self._reserve(entry)
        try:
            state = self._build(version)
        except Error:
            if reserved:
                self._release(entry)
            raise
        state.pooled = reserved
        return state

    def _reserve(self, entry: Entry) -> bool:
        """Count one more pooled state of `entry` if the limits allow, evicting another's if need be."""
        victim = None
        with self._lock:
            if entry.total >= self._rules.max_states:
                return False
            if self._total >= self._rules.total:
                victim = self._victim(entry)
                if victim is None:
                    return False
                self._total -= 1
            entry.total += 1
            self._total += 1
        if victim is not None:
            victim.close()
        return True

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

    def _release(self, entry: Entry) -> None:
        with self._lock:
            entry.total -= 1
            self._total -= 1

    def _forget(self, state: LuaState) -> None:
        entry = self._entries.get((state.version.script.path, state.version.script.root))
        with self._lock:
            self._total -= 1
            if entry is not None and entry.version is state.version:
                entry.total -= 1

    def _drop_idle(self, entry: Entry, keep: Optional[Version] = None) -> None:
        """Close the idle states that are not of `entry.version`."""
        for _ in range(len(entry.idle)):
            try:
                state = entry.idle.pop(0)
            except IndexError:
                return
            if state.version is entry.version:
                entry.idle.append(state)
            else:
                with self._lock:
                    self._total -= 1
                state.close()

    def _refresh(self, entry: Entry) -> None:
        """Look at the disk if it is time to; one thread does, the others go on with what is there."""
        if not entry.refreshing.acquire(blocking=False):
            return
        try:
            generation = self._generation()
            forced = generation != entry.generation
            newest = entry.failed or entry.version
            if forced or newest.changed():
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
        with self._lock:
            entry.version, entry.failed, entry.failure = version, None, None
            # States of the old version leave the count as they are closed; the new ones start at one.
            entry.total = 1
            self._total += 1
        state.pooled = True
        entry.idle.append(state)
        self._drop_idle(entry)
        if self._rules.states > 1:
            self._short.append(entry)
        self._logger.info("reloaded %s%s", entry.script.path.decode("utf-8", "replace"),
                          " (flush)" if forced else "")

    def _remove(self, entry: Entry) -> None:
        with self._lock:
            if self._entries.get((entry.script.path, entry.script.root)) is entry:
                del self._entries[entry.script.path, entry.script.root]
        while entry.idle:
            state = entry.idle.pop()
            with self._lock:
                self._total -= 1
            state.close()

    def wants_collection(self, state: LuaState) -> None:
        """The heap of `state` has grown: collect it in `spare_time`."""
        self._heavy.append(state)

    @property
    def pending(self) -> bool:
        """Whether `spare_time` has something to do."""
        return bool(self._short or self._heavy)

    def spare_time(self) -> None:
        """Work put off until the response was out: clones that LuaStates promises, garbage collections."""
        while self._heavy:
            state = self._heavy.popleft()
            entry = self._entries.get((state.version.script.path, state.version.script.root))
            try:
                entry.idle.remove(state)
            except (AttributeError, ValueError):
                continue
            state.collect()
            self.checkin(state)
        while self._short:
            self._make_clones(self._short.popleft())

    def _make_clones(self, entry: Entry) -> None:
        while entry.total < self._rules.states and self._total < self._rules.total:
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
                    state.collect()
                self.checkin(state)

    def counts(self) -> Dict[bytes, int]:
        """Script path -> number of pooled states, as ThreadData() shows them."""
        return {entry.script.path: entry.total for entry in list(self._entries.values())}

    def close(self) -> None:
        """Close every idle state; Lua's finalizers run."""
        for entry in list(self._entries.values()):
            self._remove(entry)
