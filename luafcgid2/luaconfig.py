"""Runs a Lua configuration file in a child process and brings its globals back.

In: the file's bytes and its path.  Out: a dictionary {"globals": {name: value}, "chunk": Lua source bytes
of the Config table, "bare_error": str}, or ConfigError with file and line.  config.py calls run(); tests may
call evaluate(), which does the same in this process.  It knows no option and judges no value.

Why a child: the file is Lua 5.3 whatever LuaVersion says, and one process must not hold two Lua versions
whose C modules are loadable; what the file does to its process ends with the child.
"""
from __future__ import annotations

import contextlib
import marshal
import os
import select
import signal
import sys
import time
from typing import IO, Any, Dict, List, Tuple, cast

from . import rerun
from .errors import ConfigError, ScriptError
from .options import Opaque
from .runtime import Engine, text

TIMEOUT = 30.0
_EVALUATOR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lua", "config_eval.lua")
_SPAWNED = "from luafcgid2 import luaconfig; luaconfig._spawned_child()"


def run(source: bytes, path: str, timeout: float = TIMEOUT) -> Dict[str, Any]:
    """Evaluate in a child process and wait for it, `timeout` seconds at most.  Raises ConfigError."""
    reader, writer = os.pipe()
    try:
        # A module loaded for another Lua version may lend its symbols to a forked child: begin afresh then.
        pid = _spawn(source, path, writer) if _other_lua_loaded() else _fork(source, path, writer)
        os.close(writer)
        writer = -1
        return _result(_collect(reader, pid, path, timeout), path)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def evaluate(source: bytes, path: str) -> Dict[str, Any]:
    """Evaluate in this process.  Raises ConfigError for a syntax error, a runtime error, a bad Config."""
    name = os.path.basename(path)
    try:
        engine = Engine("5.3", c_modules=False)
        code = engine.compile(source, b"@" + os.fsencode(name))
    except ScriptError as error:
        raise ConfigError(_located(str(error), name, path)) from error
    with open(_EVALUATOR, "rb") as file:
        runtime = engine.new_runtime()
        tools = runtime.execute(file.read())
    bare_error = tools[b"bare_error"](code)
    folder = os.fsencode(os.path.dirname(path))
    search = folder + b"/?.lua;" + engine.default_path()
    prepare = b"local exit, path = ...; os.exit = exit; package.path = path"
    runtime.execute(prepare, tools[b"refuse_exit"], search)
    found = tools[b"evaluate"](code)
    runtime.execute(b"io.stdout:flush()")
    if isinstance(found, tuple):
        raise ConfigError(_located(text(found[1]), name, path))
    return {"globals": _globals(found), "chunk": found[b"chunk"],
            "bare_error": _located(text(bare_error), name, path) if bare_error else ""}


def _globals(found: Any) -> Dict[str, Any]:
    names: Dict[str, Any] = {_string(k): Opaque(_string(v)) for k, v in found[b"kinds"].items()}
    for key, value in found[b"values"].items():
        names[_string(key)] = _string(value) if isinstance(value, bytes) else value
    for key, value in found[b"lists"].items():
        names[_string(key)] = tuple(_string(item) for item in value.values())
    return names


def _string(value: bytes) -> str:
    # Paths are bytes: surrogates carry what is not UTF-8 to os.fsencode unchanged.
    return value.decode("utf-8", "surrogateescape")


def _located(message: str, name: str, path: str) -> str:
    # Lua cuts chunk names at 60 characters, so it got the file's name only: put the whole path back.
    if message.startswith(name + ":"):
        return path + message[len(name):]
    return "%s: %s" % (path, message)


def _other_lua_loaded() -> bool:
    return any(name.startswith("lupa.lua") and name != "lupa.lua53" for name in sys.modules)


def _fork(source: bytes, path: str, writer: int) -> int:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    pid = os.fork()
    if pid == 0:
        try:
            _child(source, path, writer)
        finally:
            os._exit(1)
    return pid


def _spawn(source: bytes, path: str, writer: int) -> int:
    import subprocess
    command = [*rerun.statement(_SPAWNED), path, str(writer)]
    # B603: our own code in our own Python; the file is data to it.
    child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(writer,))  # nosec B603
    with contextlib.suppress(BrokenPipeError), cast(IO[bytes], child.stdin) as stdin:
        stdin.write(source)
    # _collect waits for the process id; Popen must not do so again when it is collected.
    child.returncode = 0
    return child.pid


def _spawned_child() -> None:
    writer = int(sys.argv[2])
    # Else a background program that the file starts would hold the pipe open.
    os.set_inheritable(writer, False)
    _child(sys.stdin.buffer.read(), sys.argv[1], writer)


def _child(source: bytes, path: str, writer: int) -> None:
    """Write the outcome and leave, without this process's own exit handlers."""
    try:
        found = evaluate(source, path)
        # marshal is there already, where pickle takes memory that the master would keep; but it knows no Opaque.
        found["opaque"] = {name: value.type for name, value in found["globals"].items() if isinstance(value, Opaque)}
        found["globals"].update(dict.fromkeys(found["opaque"]))
        outcome: Tuple[str, Any] = ("ok", found)
    except ConfigError as error:
        outcome = ("error", str(error))
    except Exception as error:
        outcome = ("error", "%s: %s: %s" % (path, type(error).__name__, error))
    with os.fdopen(writer, "wb") as pipe:
        marshal.dump(outcome, pipe)
    os._exit(0)


def _collect(reader: int, pid: int, path: str, timeout: float) -> bytes:
    """Everything the child wrote.  The child is gone afterwards, whatever happens here."""
    parts: List[bytes] = []
    deadline, ended = time.monotonic() + timeout, False
    try:
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([reader], [], [], left)[0]:
                raise ConfigError("%s: did not end within %g seconds" % (path, timeout))
            part = os.read(reader, 65536)
            if not part:
                ended = True
                return b"".join(parts)
            parts.append(part)
    finally:
        if not ended:
            os.kill(pid, signal.SIGKILL)
        # A caller's SIGCHLD handler may have been quicker.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _result(data: bytes, path: str) -> Dict[str, Any]:
    if not data:
        raise ConfigError("%s: the file ended the process that reads it" % path)
    kind, value = marshal.loads(data)  # nosec B302  # from our own child, by a pipe that nobody else has
    if kind == "error":
        raise ConfigError(value)
    found: Dict[str, Any] = value
    found["globals"].update({name: Opaque(type_) for name, type_ in found.pop("opaque").items()})
    return found
