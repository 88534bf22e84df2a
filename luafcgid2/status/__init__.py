"""The status page and the ping page: a snapshot in, bytes out.

In: the query string of the request, and what snapshot.take() gave.  Out: a content type and a body, or the
whole CGI response.  `json`, `openmetrics`, `text`, `html` (the default) and `full` in the query choose, as in
php-fpm; `&` joins them; whatever else stands there is ignored.  The responder calls it.  It reads its own
package's page, opens nothing else, and knows neither the scoreboard nor sockets.  Who may see the page is the
web server's business: it shows addresses of requests and paths of scripts.
"""
from __future__ import annotations

import json
from typing import Any, Dict, Tuple

from ..snapshot import LISTS
from .metrics import OPENMETRICS, metrics
from .page import page
from .plain import plain

JSON, HTML, TEXT = "application/json", "text/html; charset=utf-8", "text/plain; charset=utf-8"


def respond(query: bytes, snapshot: Dict[str, Any]) -> Tuple[str, bytes]:
    """(content type, body) for the query string."""
    words = {word.partition(b"=")[0] for word in query.split(b"&")}
    full = b"full" in words
    if b"json" in words:
        shown = snapshot if full else without_lists(snapshot)
        return JSON, json.dumps(shown, separators=(",", ":")).encode("ascii")
    if b"openmetrics" in words:
        return OPENMETRICS, metrics(snapshot).encode()
    if b"text" in words:
        return TEXT, plain(snapshot, full).encode()
    return HTML, page(snapshot, full).encode()


def without_lists(snapshot: Dict[str, Any]) -> Dict[str, Any]:
    """What is shown unless the query says `full`."""
    return {key: value for key, value in snapshot.items() if key not in LISTS}


def render(query: bytes, snapshot: Dict[str, Any]) -> Tuple[bytes, bytes]:
    """(head, body) of the CGI response with the status page; nobody may keep or frame it."""
    kind, body = respond(query, snapshot)
    return _head(kind, body, b"X-Frame-Options: DENY\r\n"), body


def render_ping(config: Any) -> Tuple[bytes, bytes]:
    """(head, body) of the CGI response with PingResponse."""
    body = config.ping_response.encode("utf-8", "surrogateescape")
    return _head(TEXT, body), body


def _head(kind: str, body: bytes, more: bytes = b"") -> bytes:
    return (b"Status: 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\nCache-Control: no-store\r\n"
            b"X-Content-Type-Options: nosniff\r\n%b\r\n" % (kind.encode("ascii"), len(body), more))
