"""Error pages: what a visitor sees when a request fails.

In: an HTTP status, the message, the Lua traceback, and whether details may be shown (ShowErrors).  Out: the
CGI response in two pieces: up to the end of the header block, and the body.  responder.py calls it.  It logs
nothing; a page with details is details.py's.
"""
from __future__ import annotations

from typing import Mapping, Optional, Tuple

REASONS = {400: "400 Bad Request", 403: "403 Forbidden", 404: "404 Not Found", 413: "413 Payload Too Large",
           431: "431 Request Header Fields Too Large", 500: "500 Internal Server Error",
           503: "503 Service Unavailable", 504: "504 Gateway Timeout", 507: "507 Insufficient Storage"}
# What any visitor may know; the rest is in the log.
SENTENCES = {400: "The request cannot be understood.", 403: "Access to this page is not allowed.",
             404: "This page was not found.",
             413: "The request is too large.", 431: "The request's header is too large.",
             500: "The script failed.",
             503: "The server is busy. Try again.", 504: "The script took too long.",
             507: "The server has no room for this request."}


def render(status: int, message: str, traceback: str, details: bool, more: bytes = b"",
           params: Optional[Mapping[bytes, bytes]] = None) -> Tuple[bytes, bytes]:
    """(head, body) of the page for `status`; `message`, `traceback` and the request's `params` are shown only if
    `details`; `more` are further header lines."""
    title = REASONS[status]
    if details:
        from .details import page
        kind, body = "text/html; charset=utf-8", page(title, message, traceback, params or {})
    else:
        kind, body = "text/plain; charset=utf-8", SENTENCES[status] + "\n"
    content = body.encode("utf-8", "backslashreplace")
    head = "Status: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (title, kind, len(content))
    return head.encode("ascii")[:-2] + more + b"\r\n", content
