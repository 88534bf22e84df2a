"""Answers one whole request: finds the script, takes a state, makes the crossing, renders errors.

In: an fcgi.Request (params, body, problem) and the number of the thread.  Out: a Reply.  worker.py makes one
Responder per worker and hands its `respond` to the FastCGI server.  No sockets, no fork.
"""
from __future__ import annotations

import logging
import time
from typing import Any, Callable

from .errors import Error, NoRoom, ProtocolError, RequestTooLarge, ScriptError
from .pages import render
from .params import Wanted, decode, find, guess
from .pool import StatePool
from .replies import Reply
from .script import Resolver

_NO_TIME = b"X-ElapsedTime: 0\r\n"


class Responder:
    """See the module's contract.

    `elapsed` adds X-ElapsedTime as the ancestor does; `show_errors` puts message, traceback and source lines
    on error pages; `generation` gives the scoreboard's number.
    """

    def __init__(self, pool: StatePool, resolver: Resolver, generation: Callable[[], int],
                 logger: logging.Logger, show_errors: bool = False, elapsed: bool = True) -> None:
        self._pool, self._resolver, self._generation, self._logger = pool, resolver, generation, logger
        self._show_errors, self._elapsed = show_errors, elapsed
        self.last_script = b""

    def respond(self, request: Any, thread: int) -> Reply:
        """The Reply to `request`.  Never raises for what a script or a client did; ProtocolError for params that
        the web server cut off, which ends the connection."""
        started = time.monotonic()
        try:
            if request.problem:
                raise _problem(request)
            params = request.params
            try:
                result = self._run(request, guess(params) or find(params), started, thread)
            except ProtocolError:
                # Bytes that look like a pair, or lengths that lie: walk them, and say what is wrong.
                result = self._run(request, find(params), started, thread)
        except ProtocolError:
            raise
        except Error as error:
            return self._failure(error, request)
        except Exception as error:
            self._logger.exception("unexpected error")
            return self._failure(ScriptError("unexpected error: %r" % error), request)
        if not self._elapsed:
            return Reply(result[0], result[1])
        seconds = time.monotonic() - started
        elapsed = _NO_TIME if seconds < 0.001 else b"X-ElapsedTime: %d\r\n" % (seconds * 1000)
        return Reply(result[0] + elapsed, result[1])

    def _run(self, request: Any, wanted: Wanted, started: float, thread: int) -> Any:
        generation = self._generation()
        script = self._resolver.resolve(wanted[0], wanted[1], started, generation)
        self.last_script = script.path
        with self._pool.checkout(script, started, generation) as state:
            try:
                result = state.handle(request.params, request.body, thread, wanted)
            except ScriptError as error:
                raise state.version.explain(error) from None
            if len(result) == 3:
                # The heap has grown: it is collected once the response is out.
                self._pool.wants_collection(state)
        return result

    def _failure(self, error: Error, request: Any) -> Reply:
        traceback = getattr(error, "traceback", "")
        message = str(error) + traceback
        status = error.status
        self._logger.log(logging.ERROR if status >= 500 else logging.INFO, "%d %s", status, message)
        head, body = render(status, str(error), traceback, self._show_errors)
        if _method(request.params) == b"HEAD":
            body = b""
        return Reply(head, body, message.encode("utf-8", "backslashreplace") if status >= 500 else b"")


def _method(data: bytes) -> bytes:
    try:
        return decode(data).get(b"REQUEST_METHOD", b"")
    except ProtocolError:
        return b""


def _problem(request: Any) -> Error:
    if request.problem == 413:
        return RequestTooLarge("the request's body is over MaxPostSize")
    return NoRoom("no room for the request's body in TempDir")
