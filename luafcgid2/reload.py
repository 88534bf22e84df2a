"""The configuration file, read again while the server runs.

In: how to load it, and the Config in force.  Out: a `ConfigReader`, whose process reads and checks the file, and
`judge`, which says what of a new Config a running server can take on.  The master's loop polls the reader and never
waits for it: the file is a program and may take its time.  Who replaces the workers is roster.py.
"""
from __future__ import annotations

import logging
import os
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

from . import config as configuration
from . import log
from .errors import ConfigError, Error
from .options import OPTIONS
from .sessions import open_store
from .signals import SignalQueue

FIXED = frozenset(option.name for option in OPTIONS if option.fixed)
LOG_OPTIONS = frozenset(option.name for option in OPTIONS if option.group == "Log")


class Reading(NamedTuple):
    """What a ConfigReader found: a Config, or None and why."""

    config: Optional[Any]
    error: str


class ConfigReader:
    """A child process that loads the configuration.

    load: returns a Config or raises Error, in the child; enter: what a child of the master must do first.  `fd` is
    what to poll; `pid` the child, which the master reaps.  OSError when no process can be had.
    """

    def __init__(self, load: Callable[[], Any], signals: SignalQueue, enter: Callable[[], None]) -> None:
        self.fd, writer = os.pipe()
        self._data = b""
        try:
            with signals.blocked():
                self.pid = os.fork()
                if not self.pid:
                    _read(load, enter, writer)
        except OSError:
            os.close(self.fd)
            raise
        finally:
            os.close(writer)

    def hear(self) -> Optional[Reading]:
        """What it found, once that is whole: after `fd` became readable.  It is closed then."""
        part = os.read(self.fd, 65536)
        self._data += part
        if part:
            return None
        self.close()
        if not self._data:
            return Reading(None, "the process that reads the configuration has died")
        import pickle
        return Reading(*pickle.loads(self._data))  # nosec B301  # from our own child, by a pipe that nobody else has

    def close(self) -> None:
        """Let go of the pipe; the child ends by itself."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _read(load: Callable[[], Any], enter: Callable[[], None], writer: int) -> None:
    """The life of the child."""
    code = 1
    try:
        enter()
        outcome: Tuple[Optional[Any], str] = (None, "")
        try:
            config = load()
            _try(config)
            outcome = (config, "")
        except Error as error:
            outcome = (None, str(error))
        import pickle
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(outcome, pipe)
        code = 0
    finally:
        # The master's `with` blocks are on this stack too.
        os._exit(code)


def _try(config: Any) -> None:
    """What only using it shows."""
    open_store(config.session_store, logging.getLogger(log.NAME))
    for handler in log.setup(config).handlers:
        if getattr(handler, "problem", ""):
            raise ConfigError(handler.problem)


def judge(config: Any, running: Any, workers: int, threads: int) -> Tuple[Any, List[str], List[str]]:
    """What a running server can take on: (the Config to use, options that change, options that cannot).

    workers, threads: what the scoreboard has room for.  An option that cannot change keeps its running value; the
    Config is `running` itself when nothing else changes.
    """
    changed = configuration.differences(running, config)
    kept = [name for name in changed if name in FIXED
            or (name == "Workers" and config.worker_count > workers)
            or (name == "WorkerThreads" and config.worker_threads > threads)]
    changed = [name for name in changed if name not in kept]
    return (configuration.keeping(config, running, kept) if changed else running), changed, kept
