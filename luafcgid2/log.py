"""The server's log: one event, one line, appended to `LogFilePath`.

In: the Config (`log_file_path`, `log_level`).  Out: the `logging.Logger` named "luafcgid2", whose lines read
`2026-11-23 12:00:00.123 [pid] level: message`.  The master calls `setup` before it forks; master and workers
call `reopen` on SIGUSR1, after logrotate moved the file away.  A line is one write(2) on an O_APPEND
descriptor, so lines of several processes do not mix.  This module rotates nothing and raises nothing: a log
that cannot be written must not stop a server.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Optional

from . import privileges

NAME = "luafcgid2"
STDERR_PATHS = ("", "-", "stderr", "/dev/stderr")
FILE_MODE = 0o640
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "notice": logging.INFO, "warning": logging.WARNING,
          "error": logging.ERROR, "critical": logging.CRITICAL}
# A message may hold what a client sent: no control character may reach the terminal of who reads the log, and
# a further line is indented, so that it cannot pass for an event of its own.
ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if code not in (9, 10)}
ESCAPES[10] = "\n    "


class LineFormatter(logging.Formatter):
    """Makes the line; the time is local, with milliseconds."""

    def __init__(self) -> None:
        super().__init__("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).rstrip("\n").translate(ESCAPES)
        day = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        # os.getpid(), not record.process: the logging module may cache that over a fork.
        return f"{day}.{int(record.msecs):03d} [{os.getpid()}] {record.levelname.lower()}: {text}\n"


class FileHandler(logging.Handler):
    """Appends lines to a file, or to standard error while the file cannot be opened.

    path: the file, or one of STDERR_PATHS.  `problem` is "" or why standard error is in use.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.problem = ""
        self._fd = 2
        self.setFormatter(LineFormatter())
        self.reopen()

    def reopen(self) -> None:
        """Open the path anew; when that fails, stay with what is open and say why in `problem`."""
        if self.path in STDERR_PATHS:
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
        self.problem = ""
        try:
            fd = _open(self.path, flags)
        except OSError as error:
            kept = "standard error" if self._fd == 2 else "the file opened before"
            self.problem = f"LogFilePath = {self.path!r}: {error.strerror}; logging to {kept}"
            return
        if self._fd == 2:
            self._fd = fd
            return
        # The number stays the same, so a thread that is writing meets either file and never a closed one.
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            data = self.format(record).encode("utf-8", "surrogateescape")
            while data:
                data = data[os.write(self._fd, data):]
        except (OSError, UnicodeError, ValueError, TypeError):
            # A full disk or a bad format must not end a request.
            return


def _open(path: str, flags: int) -> int:
    try:
        # Without O_CREAT first: kernels with fs.protected_regular refuse O_CREAT on another user's file.
        return os.open(path, flags)
    except FileNotFoundError:
        return os.open(path, flags | os.O_CREAT, FILE_MODE)


def setup(config: object, stderr: bool = False,
          identity: Optional[privileges.Identity] = None) -> logging.Logger:
    """Open the log and return the logger; calling it again replaces the earlier one.

    stderr: log to standard error whatever the Config says.  identity: who opens the file (the user that the
    workers become), so that they can reopen it and that it belongs to them; None = as the process is.
    An unusable file is a warning on standard error, where the log then goes.
    """
    logger = logging.getLogger(NAME)
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
    with privileges.acting_as(identity):
        handler = FileHandler("" if stderr else config.log_file_path)
    logger.addHandler(handler)
    logger.setLevel(LEVELS.get(config.log_level, logging.INFO))
    logger.propagate = False
    if handler.problem:
        logger.warning("%s", handler.problem)
    return logger


def reopen(logger: logging.Logger) -> None:
    """Open the log file again by its name, in this process; a failure is a line in the old file."""
    for handler in logger.handlers:
        if isinstance(handler, FileHandler):
            handler.reopen()
            if handler.problem:
                logger.warning("%s", handler.problem)
