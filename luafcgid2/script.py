"""Scripts on disk: which file a request means, its bytecode, and whether it changed.

In: SCRIPT_FILENAME and DOCUMENT_ROOT of a request; paths.  Out: a Script (which file), and a Version (one
snapshot of that file and of all it requires).  pool.py calls it.  It runs no Lua and keeps no cache of
versions.  Path rules: PITFALLS of FastCGI front ends; the ancestor checked nothing (any file could be run).
"""
from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import threading
from typing import BinaryIO, Dict, Iterable, Iterator, NamedTuple, Optional, Tuple

from .digests import sha256
from .errors import ScriptError, ScriptForbidden, ScriptMemory, ScriptNotFound
from .runtime import Engine, text
from .units import size

# What keeps a file from being read; any other reason (no descriptors, a broken disk) is the server's: 500.
_KINDS = {errno.ENOENT: ScriptNotFound, errno.ENOTDIR: ScriptNotFound, errno.EISDIR: ScriptNotFound,
          errno.ENAMETOOLONG: ScriptNotFound, errno.ELOOP: ScriptNotFound, errno.ENXIO: ScriptNotFound,
          errno.EACCES: ScriptForbidden, errno.EPERM: ScriptForbidden}
# What Lua leaves of a file's name that is over 59 bytes long (LUA_IDSIZE), in messages and tracebacks.
_CUT_NAME = re.compile(r"\.\.\.([^:\n]{40,}):(?=\d)")
# Resolved names kept per worker; beyond it the table is emptied, so that made-up names cost no memory.
MAX_NAMES = 2048
# Pages that a Lua library reads: what runs instead, by the prelude's name.
LAUNCHERS = {b".op": b"launch_op", b".lp": b"launch_lp"}
PIECE = 1 << 16                 # bytes that are read at once of a file whose content is compared


class Script(NamedTuple):
    """Which file to run: `path` as the web server names it (messages, Dir()), `real` with symlinks resolved
    (what is read), `root` the document root.  All are bytes without a trailing slash."""

    path: bytes
    real: bytes
    root: bytes

    @property
    def directory(self) -> bytes:
        """The folder of the script, as Dir() gives it."""
        return os.path.dirname(self.path)


class Resolver:
    """Finds the file of a request and refuses what may not run.

    Answers are kept for `keep` seconds (MinFileInfoTime) and dropped when the generation moves.
    """

    def __init__(self, roots: Tuple[str, ...], extensions: Tuple[str, ...], keep: float) -> None:
        self._roots = tuple(os.path.realpath(os.fsencode(root)) for root in roots)
        self._extensions = tuple(os.fsencode(extension) for extension in extensions)
        self._keep = keep
        self._known: Dict[Tuple[bytes, bytes], Tuple[float, int, Script]] = {}

    def resolve(self, name: bytes, root: bytes, now: float, generation: int) -> Script:
        """The Script for SCRIPT_FILENAME `name` below DOCUMENT_ROOT `root`.

        Raises ScriptError (the web server sent no name), ScriptNotFound, ScriptForbidden.
        """
        known = self._known.get((name, root))
        if known is not None and known[0] > now and known[1] == generation:
            return known[2]
        script = self._look(name, root)
        if len(self._known) >= MAX_NAMES:
            self._known.clear()
        self._known[name, root] = (now + self._keep, generation, script)
        return script

    def until(self, wanted: Tuple[bytes, bytes]) -> float:
        """When the answer to these two was or is to be found anew (monotonic seconds)."""
        known = self._known.get(wanted)
        return known[0] if known is not None else 0.0

    def _look(self, name: bytes, root: bytes) -> Script:
        if not name or not root:
            missing = "SCRIPT_FILENAME" if not name else "DOCUMENT_ROOT"
            raise ScriptError("the web server sends no %s: add it to its fastcgi parameters" % missing)
        if name.startswith(b"proxy:"):
            # Apache: proxy:fcgi://host:port/path
            name = b"/" + name.partition(b"://")[2].partition(b"/")[2]
        if b"\0" in name or not name.startswith(b"/"):
            raise ScriptNotFound("script %s: not an absolute file name" % text(name))
        if b"\0" in root:
            raise ScriptForbidden("script %s: the document root %s is no name of a folder" % (text(name), text(root)))
        if self._extensions and not name.endswith(self._extensions):
            raise ScriptForbidden("script %s: its extension is not one of ScriptExtensions (%s)" % (
                text(name), text(b", ".join(self._extensions))))
        real = os.path.realpath(name)
        try:
            mode = os.stat(real).st_mode
        except OSError as error:
            raise _file_error(name, error) from None
        if not stat.S_ISREG(mode):
            raise ScriptNotFound("script %s: not a regular file" % text(name))
        roots = self._roots or (os.path.realpath(root),)
        if not any(real.startswith(folder.rstrip(b"/") + b"/") for folder in roots):
            raise ScriptForbidden("script %s: lies outside of %s (see ScriptRoots)" % (
                text(real), text(b", ".join(roots))))
        # Behind a symbolic link `..` means something else than in the text of the name.
        path = real if b"/../" in name else b"/" + os.path.normpath(name).lstrip(b"/")
        return Script(path, real, os.path.normpath(root))


class Stamp(NamedTuple):
    """What tells one content of a file from another without reading it."""

    mtime_ns: int
    size: int
    inode: int


def stamp(status: os.stat_result) -> Stamp:
    """The stamp of a file's status."""
    return Stamp(status.st_mtime_ns, status.st_size, status.st_ino)


@contextlib.contextmanager
def _open(path: bytes) -> Iterator[Tuple[BinaryIO, os.stat_result]]:
    """A regular file, and its status from before anything is read: a write in between shows as a change later.

    Raises OSError.  Nothing else is opened, and nothing is waited for: opening a pipe waits for a writer, and devices
    have no end.
    """
    status = os.stat(path)
    if stat.S_ISREG(status.st_mode):
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode):
                yield file, status
                return
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise OSError(errno.ENXIO, "not a regular file")


def _file_error(path: bytes, error: OSError) -> Exception:
    kind = _KINDS.get(error.errno or 0, ScriptError)
    return kind("script %s: %s" % (text(path), error.strerror))


class Version:
    """One snapshot of a script: bytecode of the file, of StartupScript and of every module it has required.

    All clones of a version load from here, so an edit in progress never mixes two versions.  Threads may
    share a version.  A file of over `largest` bytes (0 = any) is a ScriptMemory.
    """

    def __init__(self, engine: Engine, script: Script, startup: str = "", checksum: bool = True,
                 largest: int = 0) -> None:
        self.script, self._largest = script, largest
        self._engine, self._startup, self._checksum = engine, startup, checksum
        self._lock = threading.Lock()
        self._codes: Dict[bytes, bytes] = {}
        # path -> (stamp, digest); None stands for a file that was not there.
        self._files: Dict[bytes, Optional[Tuple[Stamp, bytes]]] = {}

    def code(self) -> bytes:
        """Bytecode of the script.  Raises ScriptNotFound, ScriptForbidden, ScriptError."""
        try:
            return self._compiled(self.script.real, self.script.path)
        except OSError as error:
            raise _file_error(self.script.path, error) from None

    def startup(self) -> Optional[bytes]:
        """Bytecode of StartupScript; None if none is set or the file is missing, as with the ancestor."""
        return self.module(os.fsencode(self._startup)) if self._startup else None

    def startup_name(self) -> bytes:
        """The chunk name of StartupScript."""
        return b"@" + os.fsencode(self._startup)

    def module(self, path: bytes) -> Optional[bytes]:
        """Bytecode of the Lua file `path`, None if there is none.  Raises ScriptError."""
        try:
            return self._compiled(path, path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
            return None
        except OSError as error:
            raise ScriptError("cannot open %s: %s" % (text(path), error.strerror)) from None

    @property
    def size(self) -> int:
        """Bytes of bytecode that it holds."""
        with self._lock:
            return sum(map(len, self._codes.values()))

    def explain(self, error: ScriptError) -> ScriptError:
        """The same error with the names in full of the files that this version has read."""
        with self._lock:
            names = [text(path) for path in (self.script.path, *self._files)]

        def full(found: re.Match[str]) -> str:
            return next((name for name in names if name.endswith(found[1])), "..." + found[1]) + ":"
        return type(error)(_CUT_NAME.sub(full, str(error)), _CUT_NAME.sub(full, error.traceback))

    def watch(self, path: bytes) -> None:
        """Reload the script when `path` changes, too."""
        with self._lock:
            if path not in self._files:
                self._files[path] = self._identify(path)

    def _compiled(self, path: bytes, name: bytes) -> bytes:
        with self._lock:
            code = self._codes.get(path)
            if code is None:
                if b"\0" not in path:
                    # Until it is read: a file that comes later, or becomes readable, is a change, too.
                    self._files.setdefault(path, None)
                with _open(path) as (file, status):
                    if self._largest and status.st_size > self._largest:
                        raise ScriptMemory("%s: a file of %s: ScriptMaxMemory is %s" % (
                            text(path), size(status.st_size / 1024), size(self._largest / 1024)))
                    source = file.read()
                self._files[path] = (stamp(status), self._digest((source,)))
                launcher = LAUNCHERS.get(os.path.splitext(path)[1]) if path == self.script.real else None
                code = self._codes[path] = (dict(self._engine.prelude())[launcher] if launcher
                                            else self._engine.compile(source, b"@" + name))
            return code

    def _digest(self, pieces: Iterable[bytes]) -> bytes:
        if not self._checksum:
            return b""
        total = sha256()
        for piece in pieces:
            total.update(piece)
        return total.digest()

    def _identify(self, path: bytes) -> Optional[Tuple[Stamp, bytes]]:
        try:
            with _open(path) as (file, status):
                return stamp(status), self._digest(iter(lambda: file.read(PIECE), b""))
        except OSError:
            return None

    def changed(self) -> bool:
        """Whether any file of this version has other content now.

        Size, time and inode are compared; with UseFileChecksum a file whose stamp moved is read, and one with
        the same bytes has not changed.  Raises ScriptNotFound when the script itself is gone.
        """
        with self._lock:
            files = list(self._files.items())
        for path, before in files:
            try:
                now = stamp(os.stat(path))
            except OSError as error:
                if path == self.script.real:
                    raise _file_error(self.script.path, error) from None
                if before is not None:
                    return True
                continue
            if before is not None and before[0] == now:
                continue
            after = self._identify(path)
            if before is None and after is None:
                continue
            if before is None or after is None or not self._checksum or after[1] != before[1]:
                return True
            with self._lock:
                self._files[path] = after
        return False
