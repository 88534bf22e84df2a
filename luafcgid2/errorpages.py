"""ErrorScript: a Lua script of the user's renders the pages of requests that failed.

In: the error and the params of a request that failed.  Out: an Answer, or None: then the built-in page is sent.
responder.py calls `page`; wiring.py makes it.  The script runs as any other does, in states of its own, and an error
of its own is logged and not shown by another page: there is no loop.
"""
from __future__ import annotations

import logging
import os
from typing import Any, Callable, Dict, Optional

from .decisions import Strike
from .errors import Error, ProtocolError, ScriptTimeout, Unavailable
from .gate import Gate
from .pages import REASONS
from .params import encode
from .pool import StatePool
from .replies import Answer, Reply
from .responder import Responder
from .runtime import text
from .script import Resolver
from .seat import Seat

# What the body was is not told: nobody reads it again.
_DROPPED = (b"CONTENT_LENGTH", b"CONTENT_TYPE", b"ERROR_MESSAGE", b"ERROR_TRACEBACK")


class ErrorPages(Responder):
    """See the module's contract.

    `script` is the file's absolute name, `details` whether it gets message and traceback (ShowErrors), `default` the
    status of answers that set none (DefaultHttpStatus), `keep` MinFileInfoTime in seconds.
    """

    def __init__(self, script: str, details: bool, default: str, keep: float, pool: StatePool, board: Any, gate: Gate,
                 logger: logging.Logger, strike: Callable[[Strike], None]) -> None:
        # The administrator chose the file: it may lie outside of the site, where nobody can ask for it.
        super().__init__(pool, Resolver(("/",), (), keep), board, gate, logger, strike=strike)
        self._path, self._details = os.fsencode(script), details
        # A page of a failure never says that it went well: nginx's auth_request takes any 2xx for allowed.
        self._unset = (b"Status: 2", b"Status: %s\r\n" % default.encode("utf-8", "surrogateescape"))

    def page(self, error: Error, values: Dict[bytes, bytes], seat: Seat) -> Optional[Reply]:
        """The page for `error`; `values` are the params of the request that failed.

        None where it cannot be made, and where none shall be: the request's time is over, or the server is busy.
        """
        if isinstance(error, (ScriptTimeout, Unavailable)):
            return None
        params = encode(self._environment(error, values))
        failed, entry = seat.params, seat.entry
        # What runs now: see monitor.py, which ends scripts that run for too long.
        seat.params = params
        # Its page gets the status of the failed request, so it cannot leave in pieces.
        seat.sock = None
        try:
            return self._with_status(self._answer(params, b"", 0, seat), error.status)
        except (Error, ProtocolError) as problem:
            self._logger.error("ErrorScript %s: %s%s", text(self._path), problem, getattr(problem, "traceback", ""))
            return None
        finally:
            seat.params, seat.entry = failed, entry

    def _environment(self, error: Error, values: Dict[bytes, bytes]) -> Dict[bytes, bytes]:
        found = {name: value for name, value in values.items() if name not in _DROPPED}
        found[b"ERROR_STATUS"] = b"%d" % error.status
        found[b"ERROR_SCRIPT"] = values.get(b"SCRIPT_FILENAME", b"")
        found[b"SCRIPT_FILENAME"] = self._path
        found.setdefault(b"DOCUMENT_ROOT", os.path.dirname(self._path))
        if self._details:
            found[b"ERROR_MESSAGE"] = str(error).encode("utf-8", "backslashreplace")
            found[b"ERROR_TRACEBACK"] = getattr(error, "traceback", "").encode("utf-8", "backslashreplace")
        return found

    def _with_status(self, answer: Answer, status: int) -> Reply:
        """The answer with the status of the failed request, unless the script has set another."""
        reply = Reply(answer, b"") if isinstance(answer, bytes) else answer
        if not reply.head.startswith(self._unset):
            return reply
        rest = reply.head.partition(b"\r\n")[2]
        return reply._replace(head=b"Status: %s\r\n%s" % (REASONS[status].encode(), rest))

    def _failure(self, error: Error, params: bytes, body: Any, seat: Seat) -> Reply:
        raise error
