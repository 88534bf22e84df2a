"""The Authorizer role (FastCGI 1.0, section 6.3): a script's `authorize` says whether a request may go on.

In: params and problem of a request whose role is AUTHORIZER; there is no body.  Out: an Answer: 200 lets the web
server go on, with a `Variable-NAME` header for each variable; any other is what the client gets.  wiring.py makes it
at the first such request; the FastCGI server calls `respond`.  What fails in any way is an answer, never 200 and never
silence: lighttpd 1.4 takes a request that ends without output, UNKNOWN_ROLE and OVERLOADED too, for allowed.

AuthorizerScript runs whatever SCRIPT_FILENAME says, which is the file that was asked for; without it SCRIPT_FILENAME
itself runs, by the rules for scripts.  What `authorize` may say is in lua/authorizer.lua.
"""
from __future__ import annotations

import os
from typing import Any, Optional, Tuple

from .errors import Error, ScriptError, ScriptForbidden, ScriptNotFound
from .params import encode, find
from .replies import Answer, Reply
from .responder import Crossed, Responder
from .routes import Route, Routes
from .script import Resolver
from .seat import Seat

# Instead of the names that a state was chosen by: the prelude compares nothing then, and asks for `authorize`.
_ROLE: Any = (False, False)


class _Nowhere(Routes):
    """No short cut: it searches for what a client may write, too, and the prelude does not check what it found."""

    __slots__ = ()

    def find(self, params: bytes) -> None:
        """Nothing."""

    def learn(self, route: Route) -> None:
        """Forgets it."""


class Authorizer(Responder):
    """See the module's contract.

    `script` is AuthorizerScript or "", `keep` MinFileInfoTime in seconds, `responder` that of the same worker, with
    which it shares its parts.
    """

    def __init__(self, script: str, keep: float, responder: Responder) -> None:
        vars(self).update(vars(responder))
        self._script = os.fsencode(script)
        if script:
            # The administrator chose the file: it may lie outside of the site, where nobody can ask for it.
            self._resolver = Resolver(("/",), (), keep)
        # The status page says 200.
        self.routes, self._pages = _Nowhere(), None

    def respond(self, params: bytes, body: Any, problem: int, seat: Seat) -> Answer:
        """The answer; nothing leaves before it is known."""
        seat.sock = None
        return super().respond(params, b"", problem, seat)

    def _find_and_run(self, wanted: Tuple[bytes, bytes], params: bytes, body: Any, seat: Seat) -> Answer:
        # `wanted` may be a guess.
        script, root = find(params)
        if self._script:
            script, root = self._script, root or os.path.dirname(self._script)
        try:
            return super()._find_and_run((script, root), params, body, seat)
        except (ScriptNotFound, ScriptForbidden) as error:
            # That the page is missing, or forbidden, would be a lie.
            hint = "" if self._script else " (AuthorizerScript is not set)"
            raise ScriptError("no authorizer: %s%s" % (error, hint)) from None

    def _failure(self, error: Error, params: bytes, body: Any, seat: Seat) -> Reply:
        # It is the authorizer that failed: of a repeated name the last one wins.
        mine = {"SCRIPT_FILENAME": self._script, "DOCUMENT_ROOT": os.path.dirname(self._script)} if self._script else {}
        return super()._failure(error, params + encode(mine), body, seat)

    def _run(self, state: Any, wanted: Tuple[bytes, bytes], params: bytes, body: Any, seat: Seat,
             crossed: Optional[Crossed] = None) -> Answer:
        return super()._run(state, _ROLE, params, body, seat, crossed)
