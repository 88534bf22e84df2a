"""The parts of a worker in this process, for a command that runs a script by hand: no sockets, no fork.

In: a Config; for root, the pid of the running master.  Out: a Workshop, whose `respond` answers one request as a
worker would, from states that nobody has used yet.  failed.py, repl.py and lint.py make one.  Scripts are run for
real: what they write to databases, sessions and files stays.
"""
from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import Any, Dict, Iterator, Optional, Tuple

from . import privileges, wiring
from .config import Config
from .params import encode
from .replies import Reply
from .runtime import Engine
from .scoreboard import Scoreboard
from .script import Resolver, Script
from .seat import Seat

AGAIN_SECONDS = 0.05            # between two attempts to interrupt a script; see LuaState.interrupt


def become_server(config: Any, master: int = 0) -> None:
    """Give up root for good, if we are root: a script shall not do what it cannot do in the server.

    User and Group of `config` count, or else whom the process `master` runs as (0: none runs).  OSError when it
    cannot be looked at, ConfigError for unknown names.
    """
    identity = privileges.resolve(config.user, config.group)
    if identity is None and master and os.geteuid() == 0:
        status = os.stat(f"/proc/{master}")
        if status.st_uid:
            identity = privileges.resolve(str(status.st_uid), str(status.st_gid))
    privileges.become(identity)


class Workshop:
    """See the module's contract.  engine: an Engine to use, or None; options: fields of `config` to change."""

    def __init__(self, config: Any, logger: logging.Logger, engine: Optional[Any] = None, **options: Any) -> None:
        changes: Dict[str, Any] = {"lua_states": 1, "min_file_info_time": 0, "on_reload_error": "error", **options}
        self.config = Config(config.__getstate__(), changes)
        self.engine = engine or Engine(self.config.lua_version)
        board = Scoreboard(1, 1)
        sessions = wiring.make_sessions(self.config, logger)
        self.pool = wiring.make_pool(self.config, self.engine, board, sessions, logger)
        self._responder = wiring.make_responder(self.config, self.pool, board, logger)
        self._resolver = Resolver(tuple(self.config.script_roots), tuple(self.config.script_extensions), 0)

    def script(self, params: Dict[bytes, bytes]) -> Script:
        """The script that a request with these params names.  ScriptNotFound, ScriptForbidden, ProtocolError."""
        return self._resolver.resolve(params.get(b"SCRIPT_FILENAME", b""), params.get(b"DOCUMENT_ROOT", b""), 0.0, 0)

    def respond(self, params: Dict[bytes, bytes], body: bytes) -> Tuple[bytes, bytes]:
        """(the CGI response, message and traceback) of one request; RequestTimeout counts."""
        seat = Seat(0)
        with _limited(seat, self.config.request_timeout):
            answer = self._responder.respond(encode(params), body, 0, seat)
        return (b"".join(answer.parts), answer.stderr) if isinstance(answer, Reply) else (answer, b"")


@contextlib.contextmanager
def _limited(seat: Seat, seconds: float) -> Iterator[None]:
    """Within the `with`, a script that runs longer is told to end; 0 = never."""
    over = threading.Event()

    def watch() -> None:
        passed = over.wait(seconds)
        while not passed:
            state = seat.state
            if state is not None:
                state.interrupt("it ran too long: RequestTimeout is %g s" % seconds)
            passed = over.wait(AGAIN_SECONDS)

    thread = threading.Thread(target=watch, daemon=True)
    if seconds:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if seconds:
            thread.join()
