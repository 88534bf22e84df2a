"""Answers one whole request: finds the script, takes a state, makes the crossing, renders errors.

In: params, body and problem of a request, and the seat of the thread.  Out: an Answer, that is, the CGI response
or a Reply.  worker.py makes one Responder per worker and hands its `respond` to the FastCGI server.  No sockets,
no fork.
"""
from __future__ import annotations

import logging
from time import monotonic
from typing import Any, Callable

from .errors import Error, NoRoom, ProtocolError, RequestTooLarge, ScriptError
from .pages import render
from .params import decode, find, guess
from .pool import StatePool
from .replies import Answer, Reply
from .script import Resolver
from .seat import Seat

_NO_TIME = b"X-ElapsedTime: 0\r\n"
_FIVE = ord("5")


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

    def respond(self, params: bytes, body: Any, problem: int, seat: Seat) -> Answer:
        """The answer to a request.  Never raises for what a script or a client did; ProtocolError for params that
        the web server cut off, which ends the connection.

        `body` is bytes, or a file to read; `problem` the HTTP status for a body that was refused, or 0.
        """
        seat.started = started = monotonic()
        seat.params = params
        try:
            if problem:
                raise _problem(problem)
            try:
                answer = self._run(params, body, guess(params) or find(params), seat)
            except ProtocolError:
                # Bytes that look like a pair, or lengths that lie: walk them, and say what is wrong.
                answer = self._run(params, body, find(params), seat)
        except ProtocolError:
            raise
        except Error as error:
            answer = self._failure(error, params)
        except Exception as error:
            self._logger.exception("unexpected error")
            answer = self._failure(ScriptError("unexpected error: %r" % error), params)
        seconds = monotonic() - started
        if answer.__class__ is bytes:
            if seconds >= 0.001 and self._elapsed:
                answer = answer.replace(_NO_TIME, b"X-ElapsedTime: %d\r\n" % (seconds * 1000), 1)
            size, digit = len(answer), answer[8]
        else:
            if seconds >= 0.001 and self._elapsed:
                head = answer.head.replace(_NO_TIME, b"X-ElapsedTime: %d\r\n" % (seconds * 1000), 1)
                answer = answer._replace(head=head)
            size, digit = len(answer.head) + len(answer.rest), answer.head[8]
        if digit == _FIVE:
            seat.errors += 1
        seat.count(seconds, size)
        return answer

    def _run(self, params: bytes, body: Any, wanted: Any, seat: Seat) -> Answer:
        generation, started = self._generation(), seat.started
        script = self._resolver.resolve(wanted[0], wanted[1], started, generation)
        self.last_script = script.path
        seat.state = state = self._pool.checkout(script, started, generation)
        # What `with` does, without its two calls.
        try:
            answer = state.handle(params, body, seat.number, wanted)
        except ScriptError as error:
            raise state.version.explain(error) from None
        finally:
            seat.state = None
            self._pool.checkin(state)
        if answer.__class__ is bytes:
            return answer
        if len(answer) == 3:
            # The heap has grown: it is collected once the response is out.
            self._pool.wants_collection(state)
        return Reply(answer[0], answer[1])

    def _failure(self, error: Error, params: bytes) -> Reply:
        traceback = getattr(error, "traceback", "")
        message = str(error) + traceback
        status = error.status
        self._logger.log(logging.ERROR if status >= 500 else logging.INFO, "%d %s", status, message)
        head, body = render(status, str(error), traceback, self._show_errors)
        if _method(params) == b"HEAD":
            body = b""
        return Reply(head, body, message.encode("utf-8", "backslashreplace") if status >= 500 else b"")


def _method(data: bytes) -> bytes:
    try:
        return decode(data).get(b"REQUEST_METHOD", b"")
    except ProtocolError:
        return b""


def _problem(status: int) -> Error:
    if status == 413:
        return RequestTooLarge("the request's body is over MaxPostSize")
    return NoRoom("no room for the request's body in TempDir")
