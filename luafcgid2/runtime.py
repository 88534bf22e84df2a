"""The only door to lupa: Lua runtimes, bytecode and the prelude's bytecode.

In: a Lua version's name ("5.1" to "5.5" or "jit"), Lua source.  Out: fresh runtimes that work in bytes, and
bytecode that every runtime of the same engine can load.  The master makes one Engine before it forks, so
that workers share its pages; state.py and config.py make runtimes with it.  This module runs no script and
knows nothing of requests.  One engine per process: C modules of two Lua versions in one process crash it.
"""
from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import threading
from typing import Any, Dict, Optional, Tuple

import lupa

from .errors import BootError, ScriptError

MODULES = {
    "5.1": "lua51", "5.2": "lua52", "5.3": "lua53", "5.4": "lua54", "5.5": "lua55", "jit": "luajit21",
}
# Debian's directories; the first entry of each pair is the triplet's, filled in by machine.
_LUA_DIRECTORY = {"jit": "5.1"}
# string.dump gives one bytecode for all clones.  Scripts keep file:line for their messages; the prelude is
# stripped (Lua 5.1 cannot), which halves the time that a new state takes to load it.
_COMPILER = b"""
local dump, load = string.dump, loadstring or load
return function(source, name, strip)
  local chunk, message = load(source, name)
  if not chunk then return nil, message end
  return dump(chunk, strip)
end
"""
# What every Lua state starts with, and what it needs for its first request; the other files of the prelude are fetched
# when a script first needs them.
_START = ("guard", "later", "faces", "memory", "stdlib", "start")
_SERVE = ("params", "response", "run")
# Bytes.  LuaJIT bounds its own stack, not that of the C functions in it: so many string.gsub fit into each other, with
# 8 KB each.  What is not used costs no memory.
_JIT_STACK = 96 << 20
_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lua")
# A line of a module that fetches functions of the standard library, and the names of these.
_FETCH = re.compile(rb"^local ([\w, ]+) = ([\w., ]+)$", re.MULTILINE)
_LIBRARY = re.compile(rb"[\w.]+")
_FORGET_PYTHON = b"python = nil; package.loaded.python = nil"


def _deny(*_ignored: Any) -> None:
    raise AttributeError("Lua scripts cannot look into Python objects")


class Engine:
    """One Lua version, ready to make runtimes.  `stack`: bytes that a thread which runs scripts needs, 0 = as usual.

    `version` is a key of MODULES; `c_modules` lets Lua load C modules (lua-cjson and the like), which works
    only if no other engine was made in this process before.  Raises BootError for a version that this lupa
    does not ship.
    """

    def __init__(self, version: str = "5.3", c_modules: bool = True) -> None:
        self.version = version
        name = MODULES.get(version)
        if name is None:
            raise BootError("LuaVersion %r is unknown: use one of %s" % (version, ", ".join(MODULES)))
        try:
            if c_modules:
                with lupa.allow_lua_module_loading():
                    self._module = importlib.import_module("lupa." + name)
            else:
                self._module = importlib.import_module("lupa." + name)
        except ImportError as error:
            raise BootError("LuaVersion %r: lupa %s has no %s on this machine (it has %s)" % (
                version, lupa.__version__, name, ", ".join(self.versions()))) from error
        self.LuaError = self._module.LuaError
        self.stack = _JIT_STACK if version == "jit" else 0
        self._lock = threading.Lock()
        self._compiler = self.new_runtime().execute(_COMPILER)
        self._prelude: Tuple[Tuple[bytes, bytes], ...] = ()
        self._core: Optional[Tuple[bytes, bytes]] = None

    @staticmethod
    def versions() -> Tuple[str, ...]:
        """The versions that the installed lupa ships for this machine."""
        return tuple(v for v, name in MODULES.items() if importlib.util.find_spec("lupa." + name))

    @property
    def library(self) -> str:
        """The shared library that holds Lua itself; interrupt.py calls into it."""
        return str(self._module.__file__)

    def new_runtime(self, bounded: bool = False) -> Any:
        """A fresh Lua runtime: bytes in, bytes out, no way into Python.  `bounded`: its memory is counted, and can be
        limited by its set_max_memory."""
        runtime = self.raw_runtime(bounded)
        runtime.execute(_FORGET_PYTHON)
        return runtime

    def raw_runtime(self, bounded: bool = False) -> Any:
        """The same, but for lupa's global `python`, which who starts the prelude in it need not remove."""
        return self._module.LuaRuntime(
            encoding=None, unpack_returned_tuples=True, register_eval=False, register_builtins=False,
            attribute_handlers=(_deny, _deny), max_memory=0 if bounded else None)

    def compile(self, source: bytes, chunkname: bytes, strip: bool = False) -> bytes:
        """Bytecode of `source`.  `chunkname` is `@/path/x.lua`, so that messages read `/path/x.lua:2:`.

        `strip` leaves out what messages need.  A byte order mark and a `#!` first line are skipped, line numbers
        stay.  Raises ScriptError for a syntax error and for precompiled code, which could crash the worker.
        """
        if source.startswith(b"\xef\xbb\xbf"):
            source = source[3:]
        if source.startswith(b"#"):
            source = b"--" + source
        if source.startswith(b"\x1b"):
            raise ScriptError("%s: precompiled Lua code is refused" % text(chunkname.lstrip(b"@")))
        with self._lock:
            result = self._compiler(source, chunkname, strip)
        if isinstance(result, tuple):
            raise ScriptError(text(result[1]))
        code: bytes = result
        return code

    def prelude(self) -> Tuple[Tuple[bytes, bytes], ...]:
        """(module name, bytecode) of every file in lua/, compiled once per engine."""
        if not self._prelude:
            modules = []
            for name in sorted(os.listdir(_FOLDER)):
                if name.endswith(".lua"):
                    code = self.compile(_source(name[:-4]), b"=[luafcgid2 " + name.encode() + b"]", strip=True)
                    modules.append((name[:-4].encode(), code))
            self._prelude = tuple(modules)
            # While the files can be read: a worker is another user, perhaps.
            self.core()
        return self._prelude

    def core(self) -> Tuple[bytes, bytes]:
        """Bytecode of what a Lua state starts with, and of what its first request needs, each in one piece.  The first
        is boot.lua, with the modules of _START and the list of plain.lua; it passes on what the chunk is given.  The
        second gives the modules of _SERVE.  Compiled once per engine."""
        if not self._core:
            boot = b"local function boot(...)\n%s\nend\nlocal function plain()\n%s\nend\n" % (
                _source("boot"), _source("plain"))
            self._core = (self.compile(_joined(_START, boot + b"return boot(modules, plain(), ...)"),
                                       b"=[luafcgid2 start]", strip=True),
                          self.compile(_joined(_SERVE, b"return modules"), b"=[luafcgid2 serve]", strip=True))
        return self._core

    def default_cpath(self) -> bytes:
        """Where Debian and /usr/local keep C modules of this version (`package.cpath` entries)."""
        short = _LUA_DIRECTORY.get(self.version, self.version)
        folders = ["/usr/local/lib/lua/" + short]
        for triplet in _triplets():
            folders.append("/usr/lib/%s/lua/%s" % (triplet, short))
        folders.append("/usr/lib/lua/" + short)
        return ";".join("%s/?.so" % folder for folder in folders).encode()

    def default_path(self) -> bytes:
        """Where Debian and /usr/local keep Lua modules of this version (`package.path` entries)."""
        short = _LUA_DIRECTORY.get(self.version, self.version)
        folders = ["/usr/local/share/lua/" + short, "/usr/local/lib/lua/" + short, "/usr/share/lua/" + short]
        if self.version == "jit":
            folders.append("/usr/share/luajit-2.1")
        return ";".join("%s/?.lua;%s/?/init.lua" % (folder, folder) for folder in folders).encode()


def _source(name: str) -> bytes:
    with open(os.path.join(_FOLDER, name + ".lua"), "rb") as file:
        return file.read()


def _joined(names: Tuple[str, ...], rest: bytes) -> bytes:
    """Source of a chunk: a table `modules`, name -> the function that makes the module, then `rest`.

    Each module fetches what it needs of the standard library.  Here they share that: a variable costs each Lua state
    its own place, in every module.
    """
    library = set(_LIBRARY.findall(_source("plain")))
    shared: Dict[bytes, bytes] = {}

    def fetched(line: re.Match[bytes]) -> bytes:
        found = dict(zip(line[1].split(b", "), line[2].split(b", ")))
        clash = any(shared.get(name, value) != value for name, value in found.items())
        if clash or not library.issuperset(found.values()):
            return line[0]
        shared.update(found)
        return b""
    modules = b",\n".join(b"%s = function(...)\n%s\nend" % (name.encode(), _FETCH.sub(fetched, _source(name)))
                          for name in names)
    first = b"local %s = %s\n" % (b", ".join(shared), b", ".join(shared.values()))
    return first + b"local modules = {\n%s\n}\n" % modules + rest


def _triplets() -> Tuple[str, ...]:
    """Debian's multiarch directory of this Python, else those that exist."""
    triplet = getattr(sys.implementation, "_multiarch", "")
    return (triplet,) if triplet else ()


def text(value: Any) -> str:
    """A Lua value (bytes, number, nil) as text for logs and pages; undecodable bytes are kept visible."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
