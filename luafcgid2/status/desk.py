"""Answers requests that are for the server itself, not for a script: the status page and the ping.

In: the raw PARAMS bytes.  Out: a Reply, or None for everybody else's requests.  The responder asks it first, if
StatusPath or PingPath is set, and so does a worker whose threads are all busy.  Who may ask is the web server's
business.
"""
from __future__ import annotations

import time
from typing import Any, Callable, Dict, Optional, Tuple

from ..errors import ProtocolError
from ..params import decode
from ..replies import Reply
from ..snapshot import take
from . import render, render_ping

Page = Callable[[Dict[bytes, bytes]], Tuple[bytes, bytes]]


class Desk:
    """See the module's contract.  board: the Scoreboard that the page shows."""

    def __init__(self, config: Any, board: Any) -> None:
        self._config, self._board = config, board
        pages = ((config.status_path, self._status), (config.ping_path, lambda values: render_ping(config)))
        self._pages: Dict[bytes, Page] = {path.encode("utf-8", "surrogateescape"): page
                                          for path, page in pages if path}

    def wants(self, params: bytes) -> bool:
        """Whether the request is for us."""
        return self._find(params) is not None

    def answer(self, params: bytes) -> Optional[Reply]:
        """The answer to a request that is for us."""
        found = self._find(params)
        if found is None:
            return None
        page, values = found
        head, body = page(values)
        return Reply(head, b"" if values.get(b"REQUEST_METHOD") == b"HEAD" else body)

    def _find(self, params: bytes) -> Optional[Tuple[Page, Dict[bytes, bytes]]]:
        # A search first: most requests do not even contain the path.
        if not any(path in params for path in self._pages):
            return None
        try:
            values = decode(params)
        except ProtocolError:
            return None
        page = self._pages.get(values.get(b"SCRIPT_NAME", b""))
        return (page, values) if page else None

    def _status(self, values: Dict[bytes, bytes]) -> Tuple[bytes, bytes]:
        snapshot = take(self._board, self._config, time.monotonic_ns(), time.time())
        return render(values.get(b"QUERY_STRING", b""), snapshot)
