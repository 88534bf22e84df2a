"""The server's log: one event, one line, to where `LogFilePath` says: a file, syslog or standard error.

In: the Config (the options of the group "Log").  Out: the `logging.Logger` named "luafcgid2"; logformat.py says
what its lines look like.  The master calls `setup` before it forks; master and workers call `reopen` on SIGUSR1,
after logrotate moved the file away.  A worker calls `batch` and then `flush` from time to time: its lines below
"warning" wait for a second or for 64 KB, so that a script that logs much costs few writes; a warning or an error
is written at once, with all that waited before it.  Nobody else keeps lines back, so a fork copies none; a
worker that is killed loses at most those of its last second.  This module rotates nothing and raises nothing: a
log that cannot be written must not stop a server; when it can be again, a line says how many lines are missing.
"""
from __future__ import annotations

import logging
import os
import stat
import threading
import time
from typing import Any, Callable, Iterator, List, Optional, Union

from . import privileges
from .logfile import STDERR, LogFile
from .logformat import LineFormatter, formatter, severity
from .syslogger import SyslogHandler

NAME = "luafcgid2"
SYSLOG = "syslog"
STDERR_PATHS = ("", "-", "stderr", "/dev/stderr")
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "notice": logging.INFO, "warning": logging.WARNING,
          "error": logging.ERROR, "critical": logging.CRITICAL}
BATCH_BYTES = 65536
BATCH_SECONDS = 1.0


class FileHandler(logging.Handler):
    """Appends lines to a file, or to standard error while the file cannot be opened.

    path: the file, or one of STDERR_PATHS; key: the option that names it, for messages.  `problem` is "" or why
    standard error is in use.
    """

    lock: threading.RLock
    formatter: LineFormatter

    def __init__(self, path: str, lines: LineFormatter, key: str = "LogFilePath") -> None:
        super().__init__()
        self.setFormatter(lines)
        self._key = key
        self._waiting: List[bytes] = []
        self._size, self._since = 0, 0.0
        self._on_wait: Optional[Callable[[], object]] = None
        self.file = LogFile("" if path in STDERR_PATHS else path, self._notice)
        self._journal = _is_journal(STDERR)

    @property
    def problem(self) -> str:
        return self.file.problem and "%s = %r: %s" % (self._key, self.file.path, self.file.problem)

    def batch(self, on_wait: Optional[Callable[[], object]]) -> None:
        """Keep lines below "warning" back until `flush`, if they go to a file; None: write each at once again.

        on_wait: called by the thread that logs, with the handler's lock held, when the first line begins to wait.
        """
        with self.lock:
            self._on_wait = on_wait
            self.flush()

    def forget(self) -> None:
        """Count lost lines from here on."""
        self.file.lost = 0

    def reopen(self) -> None:
        """Open the path anew, with what waits in the old file; when that fails, see `problem`."""
        with self.lock:
            self.flush()
            self.file.reopen()
            self._journal = _is_journal(STDERR)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.formatter.line(record)
        except (UnicodeError, ValueError, TypeError):
            # A bad format must not end a request.
            return
        if self.file.on_stderr:
            # A journal or a terminal is read while it is written, and is no disk of ours.
            self.file.append(_marked(line, record.levelno) if self._journal else line)
            return
        self._waiting.append(line)
        self._size += len(line)
        if self._on_wait is None or record.levelno >= logging.WARNING or self._size >= BATCH_BYTES:
            self.flush()
        elif len(self._waiting) == 1:
            self._since = time.monotonic()
            self._on_wait()

    def flush(self, older_than: float = 0.0) -> None:
        """Write what waits, if its first line has waited for so many seconds."""
        if not self._waiting and not (self.file.lost and not older_than):
            return
        with self.lock:
            if older_than and time.monotonic() - self._since < older_than:
                return
            data = b"".join(self._waiting)
            self._waiting, self._size = [], 0
            self.file.append(data)

    def close(self) -> None:
        with self.lock:
            self.flush()
            self.file.close()
        super().close()

    def _notice(self, text: str) -> bytes:
        text = "%s = %r: %s" % (self._key, self.file.path, text)
        line = self.formatter.line(logging.LogRecord(NAME, logging.WARNING, "", 0, text, None, None))
        return _marked(line, logging.WARNING) if self.file.on_stderr and self._journal else line


def setup(config: Any, stderr: bool = False,
          identity: Optional[privileges.Identity] = None) -> logging.Logger:
    """Open the log and return the logger; calling it again replaces the earlier one.

    stderr: log to standard error whatever the Config says.  identity: who opens the files (the user that the
    workers become), so that they can reopen them and that they belong to them; None = as the process is.
    An unusable file is a warning on standard error, where the log then goes.
    """
    logger = logging.getLogger(NAME)
    slow_logger = logger.getChild("slow")
    for one in (logger, slow_logger):
        for handler in one.handlers[:]:
            one.removeHandler(handler)
            handler.close()
    lines = formatter(config.log_format)
    with privileges.acting_as(identity):
        if config.log_file_path == SYSLOG and not stderr:
            logger.addHandler(SyslogHandler(config.syslog_socket, config.syslog_facility, lines))
        else:
            logger.addHandler(FileHandler("" if stderr else config.log_file_path, lines))
        if config.slow_log_path and not stderr:
            slow_logger.addHandler(FileHandler(config.slow_log_path, lines, "SlowLogPath"))
    logger.setLevel(LEVELS.get(config.log_level, logging.INFO))
    # Whoever sets SlowLogTime wants the entries, whatever LogLevel hides.
    slow_logger.setLevel(logging.WARNING)
    logger.propagate = False
    slow_logger.propagate = not slow_logger.handlers
    for handler in _handlers(logger):
        _complain(logger, handler)
    return logger


def reopen(logger: logging.Logger) -> None:
    """Open the log again by its name, in this process; a failure is a line in the old file."""
    for handler in _handlers(logger):
        handler.reopen()
        _complain(logger, handler)


def batch(logger: logging.Logger, on_wait: Optional[Callable[[], object]]) -> None:
    """From now on lines below "warning" may wait in this process for a `flush`; None: no longer, before it ends.

    on_wait: called by the thread that logs when the first line begins to wait; it must only wake who flushes.
    Only a worker calls this, which forks no more.
    """
    for handler in _handlers(logger):
        if on_wait is not None:
            # What the master lost before the fork it tells itself.
            handler.forget()
        if isinstance(handler, FileHandler):
            handler.batch(on_wait)


def flush(logger: logging.Logger, older_than: float = 0.0) -> None:
    """Write the lines that wait, if the first of them has waited for `older_than` seconds (0: all)."""
    for handler in _handlers(logger):
        if isinstance(handler, FileHandler):
            handler.flush(older_than)


def slow(logger: logging.Logger, script: str, uri: str, seconds: float, traceback: str) -> None:
    """The entry of a slow request: which, how long it has run so far, and the Lua traceback of that moment.

    It goes to SlowLogPath, or to the log where that is empty, as a warning; further lines are indented, or fields
    of the JSON object.
    """
    logger.getChild("slow").warning("slow request: %.3f s: %s %s", seconds, script, uri, extra={
        "script": script, "uri": uri, "seconds": round(seconds, 3), "traceback": traceback})


def _handlers(logger: logging.Logger) -> Iterator[Union[FileHandler, SyslogHandler]]:
    for one in (logger, logger.getChild("slow")):
        for handler in one.handlers:
            if isinstance(handler, (FileHandler, SyslogHandler)):
                yield handler


def _complain(logger: logging.Logger, handler: Union[FileHandler, SyslogHandler]) -> None:
    if not handler.problem:
        return
    if isinstance(handler, SyslogHandler):
        # It cannot say so itself.
        line = logging.LogRecord(NAME, logging.WARNING, "", 0, "LogFilePath = 'syslog': %s", (handler.problem,), None)
        LogFile("").append(handler.formatter.line(line))
    else:
        logger.warning("%s", handler.problem)


def _is_journal(fd: int) -> bool:
    """Whether the descriptor leads to journald, as systemd.exec(5) says: $JOURNAL_STREAM is its device:inode."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return stat.S_ISSOCK(found.st_mode) and \
        os.environ.get("JOURNAL_STREAM", "") == "%d:%d" % (found.st_dev, found.st_ino)


def _marked(line: bytes, level: int) -> bytes:
    """Each line with the priority of sd-daemon(3) in front: journald takes every line for an event."""
    mark = b"<%d>" % severity(level)
    return b"".join(mark + one + b"\n" for one in line[:-1].split(b"\n"))
