"""What a worker remembers of requests to its scripts: from the params of a request straight to the script's entry.

In: PARAMS; and, of a request that was answered the long way, what it led to.  Out: a Route, or None.  responder.py
calls it, and checks whether a route still holds.  It decides nothing: a route only spares the look-ups of resolver
and pool, and the prelude runs nothing unless the params say what the route was found by.
"""
from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

from .script import MAX_NAMES

Wanted = Tuple[bytes, bytes]


class Route:
    """Where requests for one script go: until a time (monotonic seconds), and while the scoreboard's `changes` stays.

    wanted: (SCRIPT_FILENAME, DOCUMENT_ROOT); entry: the pool's; path: the script's.
    """

    __slots__ = ("until", "changes", "wanted", "entry", "path", "root")

    def __init__(self, until: float, changes: int, wanted: Wanted, entry: Any, path: bytes) -> None:
        self.until, self.changes, self.wanted, self.entry, self.path = until, changes, wanted, entry, path
        self.root = _pair(b"DOCUMENT_ROOT", wanted[1])


class Routes:
    """See the module's contract."""

    __slots__ = ("known",)

    def __init__(self) -> None:
        # Never another dictionary: the fast path looks into it, too.
        self.known: Dict[bytes, Route] = {}

    def find(self, params: bytes) -> Optional[Route]:
        """By searching for what looks like the two pairs."""
        at = params.find(b"SCRIPT_FILENAME")
        if at > 1:
            # A length of one byte, another one, the name and the value.
            route = self.known.get(params[at - 2:at + 15 + params[at - 1]])
            if route is not None and route.root in params:
                return route
        return None

    def learn(self, route: Route) -> None:
        """Remember a route; those with longer values are always looked up."""
        if max(map(len, route.wanted)) < 128:
            if len(self.known) >= MAX_NAMES:
                self.known.clear()
            self.known[_pair(b"SCRIPT_FILENAME", route.wanted[0])] = route


def _pair(name: bytes, value: bytes) -> bytes:
    return b"%c%c%b%b" % (len(name), len(value) & 127, name, value)
