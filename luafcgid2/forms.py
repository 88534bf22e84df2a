"""Forms with files, for lf.form(): multipart/form-data (RFC 7578), and the only door to the library `multipart`.

In: a Content-Type and the body in pieces, from lua/forms.lua.  Out: fields and descriptions of files as bytes that
lua/values.lua reads.  Files are written to TempDir as they come, under names of ours, and go again with `clear`
unless they are saved.  What the client did wrong comes back as an HTTP status and a sentence; wiring.py makes a
FormService for each worker, and each Lua state has a Form.  It reads no body itself, and knows no urlencoded forms.
"""
from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from typing import Any, Callable, Dict, List, NamedTuple, Union

from .errors import Error
from .luavalues import encode

PREFIX = "luafcgid2-form-"
STALE = 3600         # seconds
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")
# Bytes; RFC 2046, section 5.1.1 allows 70.
_LONGEST_BOUNDARY = 200
MISSING = "lf.form needs the Python package multipart: pip install 'luafcgid2[forms]'"


class FormLimits(NamedTuple):
    """Bytes of one file, of all files of a form, of its fields; how many of both.  0: no limit."""

    file: int
    files: int
    fields: int
    parts: int


class Refused(Exception):
    """The form cannot be taken: an HTTP status, and what the log says."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FormService:
    """What the Forms of a worker share.  `temp_dir` is TempDir, "" the system's."""

    def __init__(self, limits: FormLimits, temp_dir: str) -> None:
        self.limits, self._temp_dir = limits, temp_dir
        self._swept = False

    @property
    def temp_dir(self) -> str:
        """Where files of forms are kept until they are saved."""
        # Here, because most sites take no files.
        import tempfile
        return self._temp_dir or tempfile.gettempdir()

    def sweep(self) -> None:
        """Once in a worker: remove the files of ours that a worker which was killed could not remove."""
        if self._swept:
            return
        self._swept = True
        # Another worker may be faster; what is another user's stays.
        with contextlib.suppress(OSError):
            for name in os.listdir(self.temp_dir):
                pid = name[len(PREFIX):].partition("-")[0] if name.startswith(PREFIX) else ""
                path = os.path.join(self.temp_dir, name)
                # The age, because a process of another container may be nobody here.
                if pid.isdigit() and not _is_running(int(pid)) and time.time() - os.stat(path).st_mtime > STALE:
                    os.unlink(path)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        # Somebody else's.
        return True
    return True


class Form:
    """The form of the request that one Lua state serves: begin, feed and end read it, save and clear end its files.

    Used by one thread at a time.
    """

    __slots__ = ("_service", "_parser", "_parts", "_part", "_file", "_paths", "_files_size", "_fields_size")

    def __init__(self, service: FormService) -> None:
        self._service = service
        self._parser: Any = None
        self._parts: List[List[Any]] = []
        self._part: List[Any] = []
        self._file: Any = None
        # Number of a file -> its path, while it is ours to remove.
        self._paths: Dict[int, str] = {}
        self._files_size = self._fields_size = 0

    def call(self, verb: bytes, *arguments: Any) -> Any:
        """The host function: True, False, bytes or None; or an HTTP status and a message.  One for all verbs, since
        each costs time in every new state.  Raises Error."""
        if verb == b"save":
            return self._save(*arguments)
        try:
            return _VERBS[verb](self, *arguments)
        except Refused as refused:
            self.clear()
            return refused.status, str(refused).encode("utf-8", "backslashreplace")
        except BaseException:
            self.clear()
            raise

    def begin(self, content_type: bytes) -> bool:
        """A form comes.  Raises Error where the library is missing."""
        self.clear()
        library = _library()
        self._service.sweep()
        options = library.parse_options_header(content_type.decode("latin-1"))[1]
        boundary = options.get("boundary", "")
        if not boundary or len(boundary) > _LONGEST_BOUNDARY or not boundary.isprintable():
            raise Refused(400, "the form's Content-Type has no usable boundary")
        # latin-1 keeps every byte what it is.
        self._parser = library.PushMultipartParser(boundary.encode("latin-1"), header_charset="latin-1")
        return True

    def feed(self, chunk: bytes) -> bool:
        """A piece of the body, not empty; False when the form is over."""
        parser = self._parser
        try:
            for event in parser.parse(chunk):
                if event is None:
                    self._end_part()
                elif isinstance(event, (bytes, bytearray)):
                    self._write(event)
                else:
                    self._begin_part(event)
        except (ValueError, LookupError) as error:
            # The library's errors are ValueErrors; before 1.3 odd headers could be IndexErrors.
            raise Refused(400, "the form is broken: %s" % error) from None
        return not parser.closed

    def end(self) -> bytes:
        """The parts in their order: {name, value} or {name, filename, content type, size, path, number}."""
        parser, self._parser = self._parser, None
        try:
            parser.close()
        except ValueError as error:
            raise Refused(400, "the form is broken: %s" % error) from None
        parts, self._parts = self._parts, []
        return encode(parts)

    def _begin_part(self, segment: Any) -> None:
        limits = self._service.limits
        if limits.parts and len(self._parts) >= limits.parts:
            raise Refused(413, "the form has over %d fields and files (FormMaxParts)" % limits.parts)
        name = (segment.name or "").encode("latin-1", "replace")
        if segment.filename is None:
            self._part = [name, bytearray()]
        else:
            filename = _plain(segment.filename.encode("latin-1", "replace"))
            kind = (segment.content_type or "").encode("latin-1", "replace")
            self._part = [name, filename, kind, 0]
            self._open()
        self._count(len(name))
        self._parts.append(self._part)

    def _open(self) -> None:
        try:
            import tempfile
            descriptor, path = tempfile.mkstemp(prefix="%s%d-" % (PREFIX, os.getpid()), dir=self._service.temp_dir)
        except OSError as error:
            raise _no_room(error) from error
        number = len(self._parts) + 1
        self._paths[number] = path
        self._part += [os.fsencode(path), number]
        self._file = open(descriptor, "wb", buffering=65536)

    def _count(self, size: int) -> None:
        """What stays in memory."""
        self._fields_size += size
        if 0 < self._service.limits.fields < self._fields_size:
            raise Refused(413, "the form's fields are over FormMemory (%d bytes)" % self._service.limits.fields)

    def _write(self, content: Union[bytes, bytearray]) -> None:
        part, limits, size = self._part, self._service.limits, len(content)
        if self._file is None:
            self._count(size)
            part[1] += content
            return
        part[3] += size
        self._files_size += size
        if limits.file and part[3] > limits.file:
            raise Refused(413, "a file of the form is over FormMaxFileSize (%d bytes)" % limits.file)
        if limits.files and self._files_size > limits.files:
            raise Refused(413, "the files of the form are over FormMaxSize (%d bytes)" % limits.files)
        try:
            self._file.write(content)
        except OSError as error:
            raise _no_room(error) from error

    def _end_part(self) -> None:
        if self._file is None:
            self._part[1] = bytes(self._part[1])
            return
        file, self._file = self._file, None
        try:
            file.close()
        except OSError as error:
            raise _no_room(error) from error

    def _save(self, number: int, path: bytes) -> bool:
        """Move a file to where the script wants it, replacing what is there, in one step.  Raises Error."""
        source = self._paths.get(int(number))
        if source is None:
            raise Error("the file was saved before, or its request is over")
        try:
            _move(source, os.fsdecode(path))
        except (OSError, ValueError) as error:
            raise Error("%s cannot be written: %s" % (os.fsdecode(path), error)) from error
        del self._paths[int(number)]
        return True

    def clear(self) -> None:
        """The request is over: what was not saved goes."""
        self._parser = None
        self._part, self._parts, self._files_size, self._fields_size = [], [], 0, 0
        file, self._file = self._file, None
        if file is not None:
            # What was buffered no longer matters, and the descriptor is closed all the same.
            with contextlib.suppress(OSError):
                file.close()
        paths, self._paths = self._paths, {}
        for path in paths.values():
            # The script may have moved it.
            with contextlib.suppress(OSError):
                os.unlink(path)

    def __del__(self) -> None:
        """A state that failed as a whole cannot say that its request is over."""
        self.clear()


def _library() -> Any:
    try:
        import multipart
    except ImportError:
        raise Error(MISSING) from None
    if not hasattr(multipart, "PushMultipartParser"):
        # The package python-multipart once had this name, too.
        raise Error(MISSING)
    return multipart


def _plain(filename: bytes) -> bytes:
    """What a client calls its file, without folders: only something to show, never a path."""
    name = _CONTROLS.sub(b"", re.split(rb"[/\\]", filename)[-1])
    return b"" if name in (b".", b"..") else name


def _no_room(error: OSError) -> Refused:
    return Refused(507, "a file of the form cannot be kept in TempDir: %s" % error)


def _move(source: str, target: str) -> None:
    """Nobody sees half a file.  Its rights are those of a new file, not those of a temporary one."""
    fresh = os.path.join(os.path.dirname(target), ".%s.new" % os.urandom(8).hex())
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb") as file:
        try:
            os.chmod(source, os.fstat(file.fileno()).st_mode & 0o777)
            try:
                os.rename(source, target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                with open(source, "rb") as content:
                    import shutil
                    shutil.copyfileobj(content, file, 1 << 20)
                file.flush()
                os.replace(fresh, target)
                os.unlink(source)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)


_VERBS: Dict[bytes, Callable[..., Any]] = {
    b"begin": Form.begin, b"feed": Form.feed, b"end": Form.end, b"clear": Form.clear,
}
