"""A Lua state: one runtime with the prelude and one version of a script, ready to handle requests.

In: an engine, a script's version, settings; then per request the PARAMS bytes and the body.  Out: the CGI
response in two pieces, or ScriptError.  pool.py makes and closes states; responder.py calls `handle`, which
is the one crossing of a request.  A state serves one request at a time; any thread may use it.

Nothing that a script can reach is a Python object: each host function sits behind a Lua closure, takes and
returns only nil, booleans, numbers and bytes, and never raises into Lua.
"""
from __future__ import annotations

import logging
import os
import tempfile
from typing import Any, Callable, Dict, Tuple, Union

from .errors import ProtocolError, ScriptError
from .params import Wanted
from .runtime import Engine, text
from .script import Version

Response = Union[bytes, Tuple[bytes, bytes]]
# Files of the prelude that a new state does not get: it starts with the first, the next is for config.lua, the
# others are fetched when a script first needs them.
APART = (b"boot", b"config_eval", b"shared")


class Services:
    """What all states of a worker share: the engine, settings for the prelude and host functions.

    `calls` are functions shared by all states; `per_state` makes the functions that keep something for one
    state (a session).  Settings are bytes, numbers or booleans.
    """

    def __init__(self, engine: Engine, settings: Dict[str, Any], logger: logging.Logger,
                 calls: Dict[str, Callable[..., Any]],
                 per_state: Callable[[], Dict[str, Callable[..., Any]]] = dict) -> None:
        self.engine, self.logger, self.calls, self.per_state = engine, logger, calls, per_state
        self.settings = settings
        self.prelude = tuple(item for item in engine.prelude() if item[0] not in APART)
        prelude = dict(engine.prelude())
        self.boot = prelude[b"boot"]
        calls["prelude"] = prelude.__getitem__


class Host:
    """The host functions of one state.  It must not refer to the state's runtime: Python cannot collect a
    cycle through Lua, and such a state would never be closed."""

    def __init__(self, version: Version, logger: logging.Logger) -> None:
        self._version, self._logger = version, logger
        self.body: Any = None

    def log(self, message: bytes) -> None:
        """Log() and print(): one line that names the script."""
        self._logger.info("%s", text(message), extra={"script": text(self._version.script.path)})

    def receive(self, size: int) -> bytes:
        """Receive() of a body on disk; -1 reads all that is left."""
        return self.body.read(int(size)) if self.body is not None else b""

    def calls(self) -> Dict[str, Callable[..., Any]]:
        """Name in Lua -> function."""
        return {"log": self.log, "receive": self.receive, "module": self._version.module,
                "watch": self._version.watch, "random_seed": _random_seed, "tmpname": _tmpname}


def _random_seed() -> int:
    return int.from_bytes(os.urandom(4), "big") >> 1


def _tmpname() -> bytes:
    """os.tmpname(): C's tmpnam only invents a name, this makes the file, as Lua does on POSIX."""
    descriptor, name = tempfile.mkstemp(prefix="lua_")
    os.close(descriptor)
    return os.fsencode(name)


def _safe(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` for Lua: errors come back as nil, message.  An exception that crossed would be kept alive
    by lupa, and its traceback would show Python frames to the script."""
    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            return None, str(error).encode("utf-8", "backslashreplace")
    return call


class LuaState:
    """One clone of a script.

    `number` is Info.State, unique in its worker.  Raises ScriptError when the top level of the script
    fails.  Used in `with` by the pool's checkout: leaving it gives the state back.
    """

    __slots__ = ("version", "pool", "entry", "pooled", "broken", "served", "heap", "_runtime", "_host", "_handle",
                 "_collect")

    def __init__(self, services: Services, version: Version, number: int) -> None:
        self.version, self.pooled, self.broken, self.served = version, False, False, 0
        # Set by the pool.
        self.pool = self.entry = None
        self._host = Host(version, services.logger)
        code, startup = version.code(), version.startup()
        self._runtime = services.engine.new_runtime()
        boot = self._runtime.execute(services.boot)
        set_host, set_setting, set_module = boot[b"host"], boot[b"setting"], boot[b"module"]
        for calls in (services.calls, self._host.calls(), services.per_state()):
            for name, function in calls.items():
                set_host(name.encode(), _safe(function))
        script = version.script
        own = {"script_dir": script.directory, "document_root": script.root, "state": number}
        for settings in (services.settings, own):
            for key, value in settings.items():
                set_setting(key.encode(), value)
        for name, module in services.prelude:
            set_module(name, module)
        load, self._handle, self._collect = boot[b"start"]()
        try:
            result = load(code, b"@" + script.path, startup, version.startup_name() if startup else None)
        except Exception as error:
            raise ScriptError("Lua failed: %s" % error) from None
        # Kilobytes that it takes when nothing runs.
        self.heap = int(self._result(result))

    @staticmethod
    def _result(result: Any) -> Any:
        if isinstance(result, tuple) and result[0] is None:
            raise ScriptError(text(result[1]), text(result[2]))
        return result

    def handle(self, params: bytes, body: Any, thread: int, wanted: Wanted) -> Response:
        """Run the script's entry point for one request: the CGI response, or (head, body) of one with a large body,
        or (head, body, b"gc") if the state's heap has grown so much that it should be collected soon.

        `params` is the raw PARAMS stream; `body` is bytes, or a file to read; `thread` is Info.Thread.
        `wanted` is what the state was chosen by: if the prelude reads other values in `params`, nothing runs.
        Raises ScriptError with the Lua traceback; ProtocolError for params that are not what they seemed.
        """
        self.served += 1
        on_disk = body.__class__ is not bytes
        if on_disk:
            self._host.body, body = body, None
        try:
            result = self._handle(params, body, thread, wanted[0], wanted[1])
        except Exception as error:
            # Lua itself gave up (memory, a broken _G): what the state holds cannot be trusted.
            self.broken = True
            raise ScriptError("Lua failed: %s" % error) from None
        finally:
            if on_disk:
                self._host.body = None
        if result.__class__ is not bytes and result[0] is None:
            if result[1] is False:
                raise ProtocolError("the params are cut off, or name another script than they seem to")
            raise ScriptError(text(result[1]), text(result[2]))
        return result

    def collect(self) -> int:
        """A full garbage collection; only between requests.  The kilobytes that are in use after it."""
        return int(self._collect())

    def close(self) -> None:
        """Close the runtime: Lua's finalizers run now."""
        self._handle = self._collect = self._runtime = None

    def __enter__(self) -> "LuaState":
        return self

    def __exit__(self, *_error: Any) -> None:
        self.pool.checkin(self)
