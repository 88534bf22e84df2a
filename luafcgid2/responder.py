"""Answers one whole request: finds the script, takes a state, makes the crossing, renders errors.

In: params, body and problem of a request, and the seat of the thread.  Out: an Answer, that is, the CGI response
or a Reply.  worker.py makes one Responder per worker and hands its `respond` to the FastCGI server.  No sockets,
no fork.
"""
from __future__ import annotations

import logging
import math
from time import monotonic
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from .decisions import Strike
from .errors import (
    Error, NoRoom, ParamsTooLarge, ProtocolError, RequestTooLarge, ScriptError, ScriptMemory, ScriptTimeout,
    Unavailable)
from .gate import Gate
from .pages import render
from .params import decode, find, guess
from .pool import StatePool
from .replies import Answer, Reply
from .routes import Route, Routes
from .runtime import text
from .scoreboard import CHANGES, GENERATION, SHEDDING, script_key
from .script import Resolver
from .seat import Seat

SHED_WAIT = 5.0                 # seconds after which a client may try again when memory is short
HARM = {ScriptTimeout: "timeout", ScriptMemory: "memory"}
_NO_TIME = b"X-ElapsedTime: 0\r\n"
_FIVE = ord("5")


class Crossed(NamedTuple):
    """A crossing that the fast path has made: in which state, by which route, and what it gave or raised."""

    state: Any
    route: Route
    result: Any


class Responder:
    """See the module's contract.

    `elapsed` adds X-ElapsedTime as the ancestor does; `show_errors` puts message, traceback and source lines
    on error pages; `board` is the scoreboard; `gate` tells which scripts are in quarantine; `strike` is told of
    scripts that did harm; `pages` answers what is not a script (status and ping), or None; `errors` makes the page of
    a request that failed (errorpages.py), or None for the built-in one; `kept` is the
    kept.Writer of requests whose script failed, or None.
    """

    def __init__(self, pool: StatePool, resolver: Resolver, board: Any, gate: Gate, logger: logging.Logger,
                 show_errors: bool = False, elapsed: bool = True,
                 strike: Callable[[Strike], None] = lambda strike: None,
                 pages: Optional[Callable[[bytes], Optional[Reply]]] = None,
                 errors: Optional[Callable[[Error, Dict[bytes, bytes], Seat], Optional[Reply]]] = None,
                 kept: Optional[Any] = None) -> None:
        self._errors, self._kept = errors, kept
        self._pool, self._resolver, self._cells, self._gate, self._logger = pool, resolver, board.cells, gate, logger
        self._show_errors, self._elapsed, self._strike, self._pages = show_errors, elapsed, strike, pages
        self.routes = Routes()

    def respond(self, params: bytes, body: Any, problem: int, seat: Seat, crossed: Optional[Crossed] = None) -> Answer:
        """The answer to a request.  Never raises for what a script or a client did; ProtocolError for params that
        the web server cut off, which ends the connection.

        `body` is bytes, or a file to read; `problem` the HTTP status for a body that was refused, or 0.  `crossed`: the
        fast path was there, and leaves the rest to us.
        """
        if crossed is None:
            started = monotonic()
            seat.started, seat.params, seat.entry, seat.heap, seat.stream = started, params, None, 0, None
        else:
            started = seat.started
        seconds, size, failed = 0.0, 0, False
        try:
            answer = self._answer(params, body, problem, seat, crossed)
            seconds = monotonic() - started
            if seconds >= 0.001 and self._elapsed:
                answer = _stamped(answer, b"X-ElapsedTime: %d\r\n" % (seconds * 1000))
            if answer.__class__ is bytes:
                size, failed = len(answer), answer[8] == _FIVE
            else:
                size, failed = answer.size, answer.head[8:9] == b"5"
                if seat.stream is not None:
                    failed = seat.stream.status >= 500
            return answer
        finally:
            seat.end(seconds or monotonic() - started, size, failed)

    def _answer(self, params: bytes, body: Any, problem: int, seat: Seat, crossed: Optional[Crossed] = None) -> Answer:
        try:
            state, route = None, None
            if crossed is not None:
                state, route = crossed.state, crossed.route
            else:
                if self._pages is not None:
                    page = self._pages(params)
                    if page is not None:
                        return page
                if problem:
                    raise _problem(problem, params)
                route = self.routes.find(params)
                if (route is not None and route.changes == self._cells[CHANGES] and route.until > seat.started
                        and route.entry.failure is None):
                    try:
                        state = route.entry.idle.pop()
                    except IndexError:
                        pass
            try:
                if state is None:
                    return self._find_and_run(guess(params) or find(params), params, body, seat)
                route.entry.used = seat.started
                seat.run(route.path)
                return self._run(state, route.wanted, params, body, seat, crossed)
            except ProtocolError:
                # Bytes that look like a pair, or lengths that lie: walk them, and say what is wrong.
                return self._find_and_run(find(params), params, body, seat)
        except ProtocolError:
            raise
        except Error as error:
            harm = HARM.get(type(error))
            if harm:
                self._strike(Strike(script_key(seat.script), harm, int(seat.started * 1e9)))
            return self._failure(error, params, body, seat)
        except Exception as error:
            self._logger.exception("unexpected error")
            return self._failure(ScriptError("unexpected error: %r" % error), params, body, seat)

    def _find_and_run(self, wanted: Tuple[bytes, bytes], params: bytes, body: Any, seat: Seat) -> Answer:
        """For the first request to a script, and when its file, the generation or the quarantine is to be looked at."""
        cells, gate, started = self._cells, self._gate, seat.started
        changes = cells[CHANGES]
        generation = cells[GENERATION]
        script = self._resolver.resolve(wanted[0], wanted[1], started, generation)
        path = script.path
        if cells[SHEDDING]:
            raise Unavailable("memory is short (MemoryBudget): %s is not run" % text(path), SHED_WAIT)
        wait = gate.check(path)
        if wait:
            raise Unavailable("%s is in quarantine for %.0f s more" % (text(path), wait), wait)
        well = True
        seat.run(path)
        try:
            state = self._pool.checkout(script, started, generation)
            if not gate.held:
                until = min(state.entry.next_check, self._resolver.until(wanted))
                self.routes.learn(Route(until, changes, wanted, state.entry, path))
            return self._run(state, wanted, params, body, seat)
        except (ScriptTimeout, ScriptMemory):
            well = False
            raise
        finally:
            gate.done(path, well)

    def _run(self, state: Any, wanted: Tuple[bytes, bytes], params: bytes, body: Any, seat: Seat,
             crossed: Optional[Crossed] = None) -> Answer:
        """The crossing, in a state that is checked out."""
        seat.state, seat.entry = state, state.entry
        # What `with` does, without its two calls.
        try:
            if crossed is None:
                answer = state.handle(params, body, seat.number, wanted)
            else:
                answer = state.outcome(crossed.result)
        except ScriptError as error:
            raise state.version.explain(error) from None
        finally:
            seat.state = None
            self._pool.checkin(state)
        if answer.__class__ is bytes:
            return answer
        if seat.stream is not None and seat.stream.problem:
            # The script was told, and went on: its answer has a hole.
            raise ScriptError(text(seat.stream.problem))
        if len(answer) > 2:
            seat.heap = abs(int(answer[2]))
            if answer[2] > 0:
                # The heap has grown: it is collected once the response is out.
                self._pool.wants_collection(state)
        return Reply(answer[0], answer[3:] if answer[1] is False else answer[1])

    def _failure(self, error: Error, params: bytes, body: Any, seat: Seat) -> Reply:
        if seat.stream is not None and seat.stream.gone:
            self._logger.info("%s", error)
            raise ConnectionAbortedError("the client left while it was sent")
        traceback = getattr(error, "traceback", "")
        message = str(error) + traceback
        status = error.status
        values = _values(params)
        self._logger.log(logging.ERROR if status >= 500 else logging.INFO, "%d %s", status, message, extra={
            "script": text(values.get(b"SCRIPT_FILENAME", b"")), "uri": text(values.get(b"REQUEST_URI", b"")),
            "seconds": round(monotonic() - seat.started, 3)})
        if self._kept is not None and isinstance(error, ScriptError):
            self._kept.keep(status, str(error), traceback, monotonic() - seat.started, values, body)
        if seat.stream is not None:
            # The client has a part of the answer, and must see that it is not all.
            seat.errors += 1
            if seat.entry is not None:
                seat.entry.errors += 1
            raise ConnectionAbortedError("a script failed in the middle of its answer")
        stderr = message.encode("utf-8", "backslashreplace") if status >= 500 else b""
        page = self._errors(error, values, seat) if self._errors is not None else None
        if page is not None:
            return page._replace(stderr=stderr)
        more = b"Retry-After: %d\r\n" % math.ceil(error.wait) if isinstance(error, Unavailable) else b""
        head, body = render(status, str(error), traceback, self._show_errors, more, values)
        if values.get(b"REQUEST_METHOD") == b"HEAD":
            body = b""
        return Reply(head, body, stderr)


def _stamped(answer: Answer, line: bytes) -> Answer:
    """The answer with the time in its header; the prelude has written that of most answers, 0 ms."""
    if answer.__class__ is bytes:
        return answer.replace(_NO_TIME, line, 1)
    return answer._replace(head=answer.head.replace(_NO_TIME, line, 1))


def _values(data: bytes) -> Dict[bytes, bytes]:
    try:
        return decode(data)
    except ProtocolError:
        return {}


def _problem(status: int, params: bytes) -> Error:
    values = _values(params)
    what = text(b" ".join(filter(None, (values.get(b"REQUEST_METHOD"), values.get(b"REQUEST_URI")))) or b"a request")
    if status == 413:
        return RequestTooLarge("the body of %s is over MaxPostSize" % what)
    if status == 431:
        return ParamsTooLarge("the params of %s are over MaxParamsSize or MaxParams" % what)
    return NoRoom("no room for the body of %s in TempDir" % what)
