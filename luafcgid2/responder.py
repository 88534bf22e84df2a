"""Answers one whole request: finds the script, takes a state, makes the crossing, renders errors.

In: params, body and problem of a request, and the seat of the thread.  Out: an Answer, that is, the CGI response
or a Reply.  worker.py makes one Responder per worker and hands its `respond` to the FastCGI server.  No sockets,
no fork.
"""
from __future__ import annotations

import logging
import math
from time import monotonic
from typing import Any, Callable, Optional

from .decisions import Strike
from .errors import Error, NoRoom, ProtocolError, RequestTooLarge, ScriptError, ScriptMemory, ScriptTimeout, Unavailable
from .gate import Gate
from .pages import render
from .params import decode, find, guess
from .pool import StatePool
from .replies import Answer, Reply
from .runtime import text
from .scoreboard import GENERATION, QUARANTINE_SERIAL, SHEDDING, script_key
from .script import Resolver
from .seat import Seat

SHED_WAIT = 5.0                 # seconds after which a client may try again when memory is short
HARM = {ScriptTimeout: "timeout", ScriptMemory: "memory"}
_NO_TIME = b"X-ElapsedTime: 0\r\n"
_FIVE = ord("5")


class Responder:
    """See the module's contract.

    `elapsed` adds X-ElapsedTime as the ancestor does; `show_errors` puts message, traceback and source lines
    on error pages; `board` is the scoreboard; `gate` tells which scripts are in quarantine; `strike` is told of
    scripts that did harm; `pages` answers what is not a script (status and ping), or None.
    """

    def __init__(self, pool: StatePool, resolver: Resolver, board: Any, gate: Gate, logger: logging.Logger,
                 show_errors: bool = False, elapsed: bool = True,
                 strike: Callable[[Strike], None] = lambda strike: None,
                 pages: Optional[Callable[[bytes], Optional[Reply]]] = None) -> None:
        self._pool, self._resolver, self._cells, self._gate, self._logger = pool, resolver, board.cells, gate, logger
        self._show_errors, self._elapsed, self._strike, self._pages = show_errors, elapsed, strike, pages
        self.last_script = b""

    def respond(self, params: bytes, body: Any, problem: int, seat: Seat) -> Answer:
        """The answer to a request.  Never raises for what a script or a client did; ProtocolError for params that
        the web server cut off, which ends the connection.

        `body` is bytes, or a file to read; `problem` the HTTP status for a body that was refused, or 0.
        """
        started = monotonic()
        seat.begin(started, params)
        size, failed = 0, False
        try:
            answer = self._answer(params, body, problem, seat)
            seconds = monotonic() - started
            if seconds >= 0.001 and self._elapsed:
                answer = _stamped(answer, b"X-ElapsedTime: %d\r\n" % (seconds * 1000))
            if answer.__class__ is bytes:
                size, failed = len(answer), answer[8] == _FIVE
            else:
                size, failed = len(answer.head) + len(answer.rest), answer.head[8] == _FIVE
            return answer
        finally:
            seat.end(monotonic() - started, size, failed)

    def _answer(self, params: bytes, body: Any, problem: int, seat: Seat) -> Answer:
        try:
            if self._pages is not None:
                page = self._pages(params)
                if page is not None:
                    return page
            if problem:
                raise _problem(problem)
            try:
                return self._run(params, body, guess(params) or find(params), seat)
            except ProtocolError:
                # Bytes that look like a pair, or lengths that lie: walk them, and say what is wrong.
                return self._run(params, body, find(params), seat)
        except ProtocolError:
            raise
        except Error as error:
            return self._failure(error, params)
        except Exception as error:
            self._logger.exception("unexpected error")
            return self._failure(ScriptError("unexpected error: %r" % error), params)

    def _run(self, params: bytes, body: Any, wanted: Any, seat: Seat) -> Answer:
        cells, started = self._cells, seat.started
        generation = cells[GENERATION]
        script = self._resolver.resolve(wanted[0], wanted[1], started, generation)
        path = self.last_script = script.path
        if path is not seat.script:
            seat.show_script(path)
        if cells[SHEDDING]:
            raise Unavailable("memory is short (MemoryBudget): %s is not run" % text(path), SHED_WAIT)
        gate = self._gate
        if gate.held or gate.serial != cells[QUARANTINE_SERIAL]:
            wait = gate.check(path)
            if wait:
                raise Unavailable("%s is in quarantine for %.0f s more" % (text(path), wait), wait)
        well = True
        try:
            state = self._pool.checkout(script, started, generation)
            seat.state, seat.entry = state, state.entry
            # What `with` does, without its two calls.
            try:
                answer = state.handle(params, body, seat.number, wanted)
            except ScriptError as error:
                raise state.version.explain(error) from None
            finally:
                seat.state = None
                self._pool.checkin(state)
        except (ScriptTimeout, ScriptMemory) as error:
            well = False
            self._strike(Strike(script_key(path), HARM[type(error)], int(started * 1e9)))
            raise
        finally:
            if gate.held:
                gate.done(path, well)
        if answer.__class__ is bytes:
            return answer
        if len(answer) == 3:
            seat.heap = abs(int(answer[2]))
            if answer[2] > 0:
                # The heap has grown: it is collected once the response is out.
                self._pool.wants_collection(state)
        return Reply(answer[0], answer[1])

    def _failure(self, error: Error, params: bytes) -> Reply:
        traceback = getattr(error, "traceback", "")
        message = str(error) + traceback
        status = error.status
        self._logger.log(logging.ERROR if status >= 500 else logging.INFO, "%d %s", status, message)
        more = b"Retry-After: %d\r\n" % math.ceil(error.wait) if isinstance(error, Unavailable) else b""
        head, body = render(status, str(error), traceback, self._show_errors, more)
        if _method(params) == b"HEAD":
            body = b""
        return Reply(head, body, message.encode("utf-8", "backslashreplace") if status >= 500 else b"")


def _stamped(answer: Answer, line: bytes) -> Answer:
    """The answer with the time in its header; the prelude has written that of most answers, 0 ms."""
    if answer.__class__ is bytes:
        return answer.replace(_NO_TIME, line, 1)
    return answer._replace(head=answer.head.replace(_NO_TIME, line, 1))


def _method(data: bytes) -> bytes:
    try:
        return decode(data).get(b"REQUEST_METHOD", b"")
    except ProtocolError:
        return b""


def _problem(status: int) -> Error:
    if status == 413:
        return RequestTooLarge("the request's body is over MaxPostSize")
    return NoRoom("no room for the request's body in TempDir")
