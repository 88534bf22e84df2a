"""A Lua state: one runtime with the prelude and one version of a script, ready to handle requests.

In: an engine, a script's version, settings; then per request the PARAMS bytes and the body.  Out: the CGI
response in two pieces, or ScriptError.  pool.py makes and closes states; responder.py calls `handle`, which
is the one crossing of a request.  A state serves one request at a time; any thread may use it.  Another thread
may meanwhile ask for a `traceback`, or `interrupt` it.

Nothing that a script can reach is a Python object: each host function sits behind a Lua closure, takes and
returns only nil, booleans, numbers and bytes, and never raises into Lua.
"""
from __future__ import annotations

import functools
import logging
import os
import threading
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from .allowance import EXHAUSTED
from .blank import AT_ONCE, Blank
from .errors import ProtocolError, RequestRefused, ScriptError, ScriptMemory, ScriptTimeout
from .interrupt import Interrupter
from .params import Wanted
from .runtime import Engine, text
from .script import Version
from .units import size

# See LuaState.handle.
Response = Union[bytes, Tuple[Any, ...]]


class Services:
    """What all states of a worker share: the engine, settings for the prelude and host functions.

    `settings` gives them, as bytes, numbers or booleans; `calls` are functions shared by all states; `per_state` makes
    the functions that keep something for one state (a session).  `max_memory` is ScriptMaxMemory in bytes, 0 = none.

    What only states need is made with the first one: a worker that never had any stays smaller by a tenth.
    """

    def __init__(self, engine: Engine, settings: Callable[[], Dict[str, Any]], logger: logging.Logger,
                 calls: Dict[str, Callable[..., Any]],
                 per_state: Callable[[], Dict[str, Callable[..., Any]]] = dict, max_memory: int = 0) -> None:
        self.engine, self.logger, self.calls, self.per_state = engine, logger, calls, per_state
        self._settings, self.max_memory = settings, max_memory
        # Bytes in Lua -> function: what of `calls` a script has used.
        self.known: Dict[bytes, Callable[..., Any]] = {}
        self._spare: List[Blank] = []
        # Thread identifier -> the state whose script it runs for the first time.
        self.building: Dict[int, "LuaState"] = {}

    @functools.cached_property
    def settings(self) -> Dict[bytes, Any]:
        """Those of the prelude, by name."""
        return {name.encode(): value for name, value in self._settings().items()}

    @functools.cached_property
    def core(self) -> bytes:
        """Bytecode of what a new state runs; the other files of the prelude are a host function's from now on."""
        core, serve = self.engine.core()
        self.calls["prelude"] = {**dict(self.engine.prelude()), b"serve": serve}.__getitem__
        return core

    @functools.cached_property
    def interrupter(self) -> Optional[Interrupter]:
        """What the states' Targets use; None where Lua's library does not allow it."""
        try:
            return Interrupter(self.engine)
        except (OSError, AttributeError) as error:
            self.logger.warning("scripts cannot be interrupted, nor traced: %s", error)
            return None

    @functools.cached_property
    def _at_once(self) -> Tuple[Any, ...]:
        names = [name.encode() for name in AT_ONCE]
        return tuple(piece for name in names for piece in (name, self.settings[name]))

    def first(self) -> Tuple[Any, ...]:
        """Names and values of the settings that a new state wants at once."""
        return self._at_once + (b"seed", int.from_bytes(os.urandom(4), "big") >> 1)

    def blank(self) -> Blank:
        """A state that has no script yet."""
        try:
            return self._spare.pop()
        except IndexError:
            return Blank(self)

    def prepare(self) -> None:
        """Have a state ready for the next script that has none."""
        if not self._spare:
            blank = Blank(self)
            blank.prepare()
            self._spare.append(blank)

    def forget(self) -> None:
        """Give back what `prepare` took."""
        self._spare.clear()


class LuaState:
    """One clone of a script.

    `number` is Info.State, unique in its worker.  Raises ScriptError when the top level of the script
    fails.  Used in `with` by the pool's checkout: leaving it gives the state back.  `running` is what it runs
    now: a request's params (that very object), its version while the top level runs, or None.
    """

    __slots__ = ("version", "pool", "entry", "pooled", "broken", "served", "heap", "running", "_runtime", "_host",
                 "_serve", "_handle", "_collect", "_target", "_allowance")

    def __init__(self, services: Services, version: Version, number: int) -> None:
        self.version, self.pooled, self.broken, self.served = version, False, False, False
        # Set by the pool.
        self.pool = self.entry = None
        self.running: Any = None
        code, startup = version.code(), version.startup()
        blank = services.blank()
        self._runtime, self._host, self._target, self._allowance = (
            blank.runtime, blank.host, blank.target, blank.allowance)
        self._serve, self._handle, self._collect = blank.serve, blank.handle, blank.collect
        self._host.version, script, allowance = version, version.script, self._allowance
        thread = threading.get_ident()
        services.building[thread] = self
        try:
            if allowance:
                allowance.attach(self._runtime)
            # Kilobytes that it takes when nothing runs.
            self.heap = self._load(blank.load, number, script.root, script.directory, code, b"@" + script.path, startup,
                                   version.startup_name() if startup else None)
        finally:
            del services.building[thread]
            if allowance:
                allowance.lift()

    def _load(self, load: Callable[..., Any], *arguments: Any) -> int:
        self.running = self.version
        try:
            result = load(*arguments)
        except Exception as error:
            result = None, _described(error).encode("utf-8", "backslashreplace"), b""
        self.running = None
        told = self._target.pending and self._settle()
        if told or result.__class__ is tuple:
            # A top level that went on after it was told to end is a failed one, too.
            message, traceback = result[1:] if result.__class__ is tuple else (b"", b"")
            self.close()
            raise self._failure(told, text(message), text(traceback))
        return int(result)

    def handle(self, params: bytes, body: Any, thread: int, wanted: Wanted) -> Response:
        """Run the script's entry point for one request: the CGI response, or (head, body) of one with a large body, or
        (head, False, KB, part, ...) of one with a larger body, which is in parts; or (head, body, KB) if the state's
        heap has grown so much that it should be collected soon, or (head, body, -KB) if it has not, but the settings
        ask for its size.

        `params` is the raw PARAMS stream; `body` is bytes, or a file to read; `thread` is Info.Thread.
        `wanted` is what the state was chosen by: if the prelude reads other values in `params`, nothing runs; (False,
        False) asks for `authorize` instead (authorizer.py).
        Raises ScriptError with the Lua traceback, ScriptTimeout for one that was interrupted, ScriptMemory for one
        that Lua had no memory for; RequestRefused for one that cannot use what the client sent; ProtocolError for
        params that are not what they seemed.
        """
        self.served = True
        self.running = params
        on_disk = body.__class__ is not bytes
        if on_disk:
            self._host.body, body = body, None
        try:
            # Clones that wait for their first request do without what that needs.
            handle = self._handle
            if handle is None:
                handle = self._handle = self._serve()
            result = handle(params, body, thread, wanted[0], wanted[1])
        except Exception as error:
            return self.outcome(error)
        finally:
            if on_disk:
                self._host.body = None
        self.running = None
        # In this order: see Target.pending.
        if result.__class__ is bytes and not self._target.pending:
            return result
        return self.outcome(result)

    def outcome(self, result: Any) -> Response:
        """What `handle` gives, or raises, for what the crossing gave or raised: for `handle`, and for the fast path,
        which makes the crossing of most requests itself."""
        self.running = None
        if isinstance(result, Exception):
            # Lua itself gave up (memory, a broken _G): what the state holds cannot be trusted.
            self.broken = True
            raise self._failure(self._settle(), _described(result)) from None
        told = self._target.pending and self._settle()
        if result.__class__ is not bytes and result[0] is None:
            if result[1] is False:
                raise ProtocolError("the params are cut off, or name another script than they seem to")
            if not told and result[2].__class__ is not bytes:
                raise RequestRefused(text(result[1]), int(result[2]))
            raise self._failure(told, text(result[1]), text(result[2]))
        return result

    def _failure(self, told: Any, message: str, traceback: str = "") -> ScriptError:
        """The error of a script; `told` is (message, traceback) if it was interrupted."""
        if told:
            return ScriptTimeout(told[0], told[1] or traceback)
        exhausted = EXHAUSTED.fullmatch(message)
        if not exhausted:
            return ScriptError(message, traceback)
        # What was left half done, nobody knows.
        self.broken = True
        place = "" if exhausted[1] else text(self.version.script.path) + ": "
        limit = ": ScriptMaxMemory is %s" % size(self._allowance.size / 1024) if self._allowance else ""
        return ScriptMemory(place + message + limit, traceback)

    def _settle(self) -> Optional[Tuple[str, str]]:
        """Another thread was at this state: nothing shall hit what it runs next.  (message, traceback) if it was
        to be interrupted; such a state is not used again."""
        told = self._target.disarm()
        if told:
            self.broken = True
        return told

    def interrupt(self, message: str, run: Any = None) -> bool:
        """Raise an error in the running script, from another thread: the request ends by a ScriptTimeout with this
        message, unless it ends well by itself before.  `run` is what `running` was when the caller decided.

        False if that is over, or cannot be.  Call it again until the request is gone (see interrupt.py), and count
        with scripts that no error can reach.
        """
        run = self.running if run is None else run
        return run is not None and self._target.stop(message, lambda: self.running is run)

    def traceback(self, run: Any = None) -> Optional[str]:
        """Where the running script is, from another thread; None if nothing runs, or within C for long."""
        run = self.running if run is None else run
        return None if run is None else self._target.trace(lambda: self.running is run)

    def collect(self) -> int:
        """A full garbage collection; only between requests.  The kilobytes that are in use after it."""
        return int(self._collect())

    def close(self) -> None:
        """Close the runtime: Lua's finalizers run now."""
        self._target.forget()
        if self._allowance:
            self._allowance.forget()
        self._serve = self._handle = self._collect = self._runtime = None

    def __enter__(self) -> "LuaState":
        return self

    def __exit__(self, *_error: Any) -> None:
        self.pool.checkin(self)


class BoundedState(LuaState):
    """A state whose script may take so much memory: a class of its own, so that others pay nothing for it."""

    __slots__ = ()

    def handle(self, params: bytes, body: Any, thread: int, wanted: Wanted) -> Response:
        """See LuaState."""
        try:
            return super().handle(params, body, thread, wanted)
        finally:
            self._allowance.lift()


def make(services: Services, version: Version, number: int) -> LuaState:
    """A new state; see LuaState."""
    return (BoundedState if services.max_memory else LuaState)(services, version, number)


def _described(error: Exception) -> str:
    """What is wrong when Lua gave up outside of a script's code."""
    return "not enough memory" if isinstance(error, MemoryError) else "Lua failed: %s" % error
