"""A Lua state that has the prelude and no script yet, and the host functions by which its script reaches Python.

In: what all states of a worker share (state.Services).  Out: a Blank, whose parts state.LuaState takes over; it is used
once.  Only state.py makes them: for each new state, or one ahead, so that a script which finds no state waits for less.
It runs no script.
"""
from __future__ import annotations

import os
from typing import Any, Callable, Dict, Optional

from .allowance import Allowance
from .interrupt import Target
from .runtime import text

# Settings that the prelude wants at once; it asks for others when it first needs them.
AT_ONCE = ("entrypoint", "generational", "config_code", "lua_path", "lua_cpath", "local_c_modules")


class Blank:
    """See the module's contract.  `load`, `serve` and `collect` are functions of the prelude (boot.lua), `handle` is
    what `serve` gives, or None."""

    __slots__ = ("runtime", "host", "target", "allowance", "load", "serve", "handle", "collect")

    def __init__(self, services: Any) -> None:
        self.target, self.handle = Target(services.interrupter), None
        self.allowance = allowance = Allowance(services.max_memory) if services.max_memory else None
        self.host = host = Host(services, self.target, allowance)
        self.runtime = services.engine.raw_runtime(bounded=allowance is not None)
        self.load, self.serve, self.collect, address = self.runtime.execute(
            services.core, host.bounded if allowance else host.call, allowance.enter if allowance else None,
            *services.first(), name=b"=[luafcgid2 start]")
        self.target.attach(address)

    def prepare(self) -> None:
        """Do what the first request would have to wait for."""
        self.handle = self.serve()


class Host:
    """The host functions of one state, which Lua calls by way of `call`: a Python object for each would cost every
    state more than the scripts that use one.  It must not refer to the state's runtime: Python cannot collect a cycle
    through Lua, and such a state would never be closed."""

    __slots__ = ("_services", "version", "_target", "_leave", "_own", "body", "__weakref__")

    def __init__(self, services: Any, target: Target, allowance: Optional[Allowance]) -> None:
        self._services, self._target = services, target
        # Set when a script is loaded.
        self.version: Any = None
        self._leave = allowance.leave if allowance else None
        self._own: Optional[Dict[bytes, Callable[..., Any]]] = None
        self.body: Any = None

    def call(self, name: bytes, *arguments: Any) -> Any:
        """The host function `name`.  Errors come back as nil, message: an exception that crossed would be kept alive by
        lupa, and its traceback would show Python frames to the script."""
        try:
            function = self._services.known.get(name) or self._find(name)
            return function(*arguments)
        except Exception as error:
            return None, str(error).encode("utf-8", "backslashreplace")

    def bounded(self, name: bytes, *arguments: Any) -> Any:
        """The same in a state whose memory is limited: Python's results are not; see allowance.py."""
        self._leave()
        return self.call(name, *arguments)

    def _find(self, name: bytes) -> Callable[..., Any]:
        if self._own is None:
            self._own = {key.encode(): function for key, function in self._services.per_state().items()}
        function = self._own.get(name)
        if function is None and name in _OF_HOST:
            # Not kept: a table of its own methods would be a cycle.
            return _OF_HOST[name](self)
        if function is None:
            # What all states share.
            function = self._services.known[name] = self._services.calls[name.decode()]
        return function

    def _setting(self, name: bytes) -> Any:
        if name == b"script_dir":
            return self.version.script.directory
        return self._services.settings[name]

    def _log(self, message: bytes) -> None:
        """Log() and print(): one line that names the script."""
        self._services.logger.info("%s", text(message), extra={"script": text(self.version.script.path)})

    def _receive(self, size: int) -> bytes:
        """Receive() of a body on disk; -1 reads all that is left."""
        return self.body.read(int(size)) if self.body is not None else b""


def _tmpname() -> bytes:
    """os.tmpname(): C's tmpnam only invents a name, this makes the file, as Lua does on POSIX."""
    import tempfile
    descriptor, name = tempfile.mkstemp(prefix="lua_")
    os.close(descriptor)
    return os.fsencode(name)


# Name in Lua -> what gives the function of a state.
_OF_HOST: Dict[bytes, Callable[[Host], Callable[..., Any]]] = {
    b"setting": lambda host: host._setting, b"log": lambda host: host._log, b"receive": lambda host: host._receive,
    b"module": lambda host: host.version.module, b"watch": lambda host: host.version.watch,
    b"interrupted": lambda host: host._target.resumed, b"tracked": lambda host: host._target.track,
    b"tmpname": lambda _host: _tmpname,
}
