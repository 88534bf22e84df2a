"""Ends or inspects, from another thread, a script that runs in a Lua state.

In: an Engine; per state a Target, which knows where the state lies in memory.  Out: an error in the running
script (`stop`), or its traceback (`trace`).  state.py makes the targets, the worker's main thread reaches them by
LuaState.interrupt and LuaState.traceback.  It decides no limits, and it costs nothing while nobody calls it.

lua_sethook is the one function of Lua's that may be called while the state runs elsewhere.  The hook that it
sets fires at the next instruction, once, and is Python (ctypes): it reads the stack, which cannot fail in Lua, so
that no longjmp ever crosses Python's frames.  To stop the script it leaves luaL_error as the hook: its second
argument, a lua_Debug, begins with the event's number, LUA_HOOKCOUNT, and so is the text "\\3" (little-endian; elsewhere
it is "").  That hook stays: a script that catches the error meets the next one at its next instruction, until the
request has left Lua.  The state is closed then.

A hook belongs to one coroutine (in LuaJIT to the state).  coroutines.lua keeps the running one in a table,
which is read here in memory.  Not to hook a coroutine that is collected at that moment, `claimed` is set before
it is read: who leaves a coroutine then waits in `resumed`.

What no hook can interrupt: C functions (a pattern that backtracks, a blocking read), LuaJIT's compiled loops, __gc
metamethods, hooks of the script's own (LuaJIT may not even stop a script that sets such).  Then nothing happens and
the caller must go further: the master kills.  Nothing is switched off here for the sake of a limit: jit.off() makes
LuaJIT several times slower, so that is a site's choice, in StartupScript.
"""
from __future__ import annotations

import ctypes
import threading
import time
import weakref
from typing import Any, Callable, List, Optional, Tuple, cast

from .runtime import Engine, text

MASK_COUNT = 8                  # LUA_MASKCOUNT
TRACE_TIME = 0.2                # seconds that `trace` waits for the script's next instruction
TRACE_TRIES = 4                 # a script may change coroutines just when one of them is hooked
CLAIM_TIME = 0.001              # seconds: far longer than a store takes to become visible to other processors
FRAMES = 50                     # of a traceback; deeper ones are left out
ONE = 0x3FF0000000000000        # a number that is not 0, as an integer and as a double
POINTER = ctypes.sizeof(ctypes.c_void_p)
# Where a Lua table holds the pointer to its array: since 5.2.4, and before, when there was the metatable's (here 0).
ARRAYS = (POINTER + 8, 3 * POINTER)
# Where the first element of the array is; Lua 5.5 counts its values down from there.
FIRST = {"5.5": -8}
HOOK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_INT, _TEXT = ctypes.c_int, ctypes.c_char_p


def _debug_struct(*more: Tuple[str, Any]) -> Any:
    """lua_Debug as far as it is needed; the rest of it, which Lua fills in, too, is room."""
    fields = [("event", _INT), ("name", _TEXT), ("namewhat", _TEXT), ("what", _TEXT), ("source", _TEXT)]
    return type("lua_Debug", (ctypes.Structure,), {"_fields_": fields + list(more) + [("rest", ctypes.c_char * 256)]})


_LINES = [("currentline", _INT), ("linedefined", _INT)]
_DEBUG_NEW = _debug_struct(("srclen", ctypes.c_size_t), *_LINES)
DEBUG = {
    "5.1": _debug_struct(_LINES[0], ("nups", _INT), _LINES[1]), "5.2": _debug_struct(*_LINES),
    "5.3": _debug_struct(*_LINES), "5.4": _DEBUG_NEW, "5.5": _DEBUG_NEW,
}
DEBUG["jit"] = DEBUG["5.1"]


class Interrupter:
    """The functions of the one Lua version of this process.  Raises OSError or AttributeError where lupa's library
    does not show them.  Its lock guards every Target: it is held for microseconds, CLAIM_TIME at most."""

    def __init__(self, engine: Engine) -> None:
        library = ctypes.PyDLL(engine.library)
        pointer = ctypes.c_void_p
        self.sethook = _function(library.lua_sethook, None, pointer, pointer, _INT, _INT)
        self.gethook = _function(library.lua_gethook, pointer, pointer)
        self.gethookmask = _function(library.lua_gethookmask, _INT, pointer)
        self.gethookcount = _function(library.lua_gethookcount, _INT, pointer)
        self._getstack = _function(library.lua_getstack, _INT, pointer, _INT, pointer)
        self._getinfo = _function(library.lua_getinfo, _INT, pointer, _TEXT, pointer)
        self.error = ctypes.cast(library.luaL_error, pointer).value
        self.lock = threading.Lock()
        self.tracing = threading.Lock()
        self._debug = DEBUG[engine.version]
        self._first = FIRST.get(engine.version, 0)
        # A kernel that refuses to make memory executable may leave no way to call Python.
        try:
            HOOK(print)
            self.calls_back = True
        except (MemoryError, OSError):
            self.calls_back = False

    def elements(self, tables: List[int], expected: int) -> List[int]:
        """The addresses of the only elements of some tables, the first of which is the object at `expected`; [] if
        that is not so."""
        for offset in ARRAYS:
            arrays = [_word(table + offset) for table in tables]
            if all(arrays) and _word(arrays[0] + self._first) == expected:
                return [array + self._first for array in arrays]
        return []

    def frames(self, state: int) -> List[str]:
        """The lines of a traceback of one coroutine; only while it stands in a hook, or waits for another."""
        lines, info = [], self._debug()
        where = ctypes.addressof(info)
        for level in range(FRAMES):
            if not self._getstack(state, level, where):
                break
            self._getinfo(state, b"nSl", where)
            line = _line(info)
            if line:
                lines.append(line)
        # Those at the end are of the prelude, which called the script.
        while lines and lines[-1].startswith("[C]"):
            lines.pop()
        return lines


def _function(function: Any, result: Any, *arguments: Any) -> Any:
    function.restype, function.argtypes = result, arguments
    return function


def _line(info: Any) -> str:
    """One frame as Lua shows it; "" for those of the prelude, whose code has no names, and what they call."""
    source, what, name = info.source or b"", info.what or b"", info.name
    if name == b"?":
        name = b""
    if source.startswith(b"=[luafcgid2") or source in (b"=?", b"=(tail call)") or what == b"C" and not name:
        return ""
    if source.startswith((b"@", b"=")):
        short = text(source[1:])
    else:
        short = '[string "%s"]' % text(source.split(b"\n")[0][:40])
    if name:
        of = "method" if info.namewhat == b"method" else "function"
        shown = "in %s '%s'" % (of, text(name))
    elif what == b"main":
        shown = "in main chunk"
    else:
        shown = "in function <%s:%d>" % (short, info.linedefined)
    line = "%d:" % info.currentline if info.currentline > 0 else ""
    return "%s:%s %s" % (short, line, shown)


class Target:
    """One Lua state as this module sees it.

    `pending` is True from the moment that `stop` or `trace` begins to the end of `trace`, or to `disarm`: whoever
    runs the state looks at it, without a lock, after the state's work is done, and calls `disarm`.  For that to
    be free of races, `stop` and `trace` first set it, then ask `still()` whether the same work is under way.
    """

    __slots__ = ("pending", "_interrupter", "_main", "_stand_in", "_current", "_claimed", "_message", "_trace",
                 "_fired", "_hook", "_address", "_prior", "__weakref__")

    def __init__(self, interrupter: Optional[Interrupter]) -> None:
        self.pending = False
        self._interrupter = interrupter
        self._main = self._stand_in = self._current = self._claimed = 0
        self._message: Optional[str] = None
        self._trace: Optional[str] = None
        self._fired: Optional[threading.Event] = None
        self._hook: Any = None
        self._address = 0
        self._prior: Tuple[Optional[int], int, int] = (None, 0, 0)

    def attach(self, main: bytes) -> None:
        """Take what the prelude says of the state: the main coroutine, as Lua shows it."""
        if self._interrupter is not None:
            self._main = _address(main)

    def track(self, stand_in: bytes, current: bytes, claimed: bytes) -> None:
        """Take what coroutines.lua says of the state, when its script first uses coroutines: what stands for the main
        one, and the two tables.  Where these are not as expected, coroutines are not interrupted, the main one is."""
        if self._interrupter is None:
            return
        with self._interrupter.lock:
            expected = _address(stand_in)
            cells = self._interrupter.elements([_address(current), _address(claimed)], expected)
            if cells and not self._is_claimed(cells[1]):
                self._current, self._claimed = cells
                self._stand_in = expected

    def stop(self, message: str, still: Callable[[], bool]) -> bool:
        """Raise an error in the running script; `disarm` gives `message` and where the script was.

        Call it again until the script is gone: it may have been about to change coroutines.  False if it cannot
        be, or if `still()` says that the work is done.
        """
        if self._interrupter is None:
            return False
        with self._interrupter.lock:
            if not self._begin(still):
                return False
            if self._message is None:
                self._message, self._trace = message, None
            self._arm()
            return True

    def trace(self, still: Callable[[], bool], seconds: float = TRACE_TIME) -> Optional[str]:
        """The traceback of the running script, which goes on.  None if it does not come to an instruction within
        `seconds`, or if `still()` says that the work is done."""
        if self._interrupter is None or not self._interrupter.calls_back:
            return None
        with self._interrupter.tracing:
            fired = threading.Event()
            for _ in range(TRACE_TRIES):
                with self._interrupter.lock:
                    if fired.is_set() or not self._begin(still) or self._message is not None:
                        break
                    self._fired = fired
                    self._arm()
                if fired.wait(seconds / TRACE_TRIES):
                    break
            with self._interrupter.lock:
                found, self._fired = self._trace, None
                if self._message is None:
                    self._trace = None
                    self._unhook()
                return found

    def disarm(self) -> Optional[Tuple[str, str]]:
        """The state's work is done: nothing shall hit what it does next.  (message, traceback or "") if it was to
        be stopped; then the state must be closed, for hooks may be left in its coroutines."""
        if self._interrupter is None:
            return None
        with self._interrupter.lock:
            message, trace, fired = self._message, self._trace, self._fired
            self._message = self._trace = None
            self._unhook()
            if fired:
                fired.set()
            return None if message is None else (message, "\n" + trace if trace else "")

    def resumed(self) -> None:
        """The state's thread has left a coroutine, while somebody was interrupting: wait for that, and if the script
        is to be stopped, stop what it went back to."""
        if self._interrupter is None:
            return
        with self._interrupter.lock:
            if self._message is not None:
                self._arm()

    def forget(self) -> None:
        """The state is closed next: it is not touched from now on."""
        if self._interrupter is not None:
            with self._interrupter.lock:
                self._main = self._current = self._claimed = 0

    @property
    def _lua(self) -> Interrupter:
        # What needs it is only called where there is one.
        return cast(Interrupter, self._interrupter)

    def _begin(self, still: Callable[[], bool]) -> bool:
        before = self.pending
        self.pending = True
        if self._main and still():
            return True
        self.pending = before
        return False

    def _arm(self) -> None:
        """Hook the coroutine that runs; and the main one, which it may leave for."""
        if self._hook is None and self._lua.calls_back:
            # By a weak reference: the callback shall not keep alive what keeps it.
            self._hook = HOOK(_Hook(self))
            self._address = ctypes.cast(self._hook, ctypes.c_void_p).value or 0
        stopping = self._message is not None
        claimed = stopping and self._is_claimed(self._claimed)
        if stopping:
            self._set(self._main)
        if not self._in_coroutine():
            if not stopping:
                self._set(self._main)
            return
        if not claimed:
            self._claim(ONE)
            time.sleep(CLAIM_TIME)
        state = _word(self._current)
        self._set(self._main if state == self._stand_in else state)
        if not stopping:
            self._claim(0)

    def _set(self, state: int) -> None:
        lua = self._lua
        hook = lua.gethook(state)
        if hook == lua.error and not self._stand_in:
            # LuaJIT notes that a hook is running in the same byte, which must not be written in vain.
            return
        if self._message is not None and (self._trace is not None or not lua.calls_back):
            lua.sethook(state, lua.error, MASK_COUNT, 1)
        elif hook != lua.error:
            if hook != self._address:
                self._prior = (hook, lua.gethookmask(state), lua.gethookcount(state)) if hook else (None, 0, 0)
            lua.sethook(state, self._address, MASK_COUNT, 1)

    def fired(self, state: int) -> None:
        """The hook, in the state's own thread.  It never raises."""
        lua = self._lua
        with lua.lock:
            wanted = self._message is not None or self._fired is not None
            if wanted and self._trace is None:
                lines = lua.frames(state)
                if state != self._main and self._stand_in:
                    lines += lua.frames(self._main)
                self._trace = "stack traceback:\n\t" + "\n\t".join(lines or ["(no Lua function)"])
            if self._message is not None:
                lua.sethook(state, lua.error, MASK_COUNT, 1)
            else:
                lua.sethook(state, *self._prior)
                self._prior = (None, 0, 0)
            if self._fired:
                self._fired.set()

    def _unhook(self) -> None:
        lua = self._lua
        if self._main and lua.gethook(self._main) in (self._address, lua.error):
            lua.sethook(self._main, *self._prior)
        self._prior = (None, 0, 0)
        self._claim(0)
        self.pending = False

    def _in_coroutine(self) -> bool:
        return bool(self._current) and _word(self._current) != self._stand_in

    @staticmethod
    def _is_claimed(cell: int) -> bool:
        return bool(cell) and ctypes.c_uint64.from_address(cell).value != 0

    def _claim(self, number: int) -> None:
        if self._claimed:
            ctypes.c_uint64.from_address(self._claimed).value = number


class _Hook:
    """A Target's hook as a function that does not keep the Target alive."""

    def __init__(self, target: Target) -> None:
        self._target = weakref.ref(target)

    def __call__(self, state: int, _activation: int) -> None:
        target = self._target()
        if target is not None:
            target.fired(state)


def _address(shown: bytes) -> int:
    """The address in what tostring gives, 0 if there is none."""
    return int(shown.rpartition(b"0x")[2], 16) if b"0x" in shown else 0


def _word(address: int) -> int:
    """What lies in memory there, as a pointer."""
    return ctypes.c_void_p.from_address(address).value or 0
