"""Error pages: what a visitor sees when a request fails.

In: an HTTP status, the message, the Lua traceback, and whether details may be shown (ShowErrors).  Out: the
CGI response in two pieces: up to the end of the header block, and the body.  responder.py calls it.  It logs
nothing; with details on it reads the lines of the script around the error.
"""
from __future__ import annotations

import html
import re
from typing import List, Optional, Tuple

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
AROUND = 5
# Lua's `/path/x.lua:12: message`.
_PLACE = re.compile(r"(/[^:\n]*):(\d+): ")
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>%(title)s</title><style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #222; background: #fff }
h1 { font-size: 1.3rem; color: #b00020 } h2 { font-size: 1rem }
pre { background: #f4f4f7; padding: 1rem; overflow: auto; font-size: .9rem; border-radius: .4rem }
mark { background: #ffd9de; color: inherit; display: inline-block; min-width: 100%% }
.message { font-size: 1.1rem; white-space: pre-wrap; overflow-wrap: anywhere }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #16161a }
  h1 { color: #ff6b81 } pre { background: #222229 } mark { background: #5a1e28 } }
</style></head><body><h1>%(title)s</h1><p class="message">%(message)s</p>%(details)s
<p><small>You see the details because <code>ShowErrors</code> is on.</small></p></body></html>
"""


def render(status: int, message: str, traceback: str, details: bool, more: bytes = b"") -> Tuple[bytes, bytes]:
    """(head, body) of the page for `status`; `message` and `traceback` are shown only if `details`; `more` are
    further header lines."""
    title = REASONS[status]
    if details:
        kind, body = "text/html; charset=utf-8", _page(title, message, traceback)
    else:
        kind, body = "text/plain; charset=utf-8", SENTENCES[status] + "\n"
    content = body.encode("utf-8", "backslashreplace")
    head = "Status: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (title, kind, len(content))
    return head.encode("ascii")[:-2] + more + b"\r\n", content


def _page(title: str, message: str, traceback: str) -> str:
    details: List[str] = []
    place = _PLACE.search(message)
    lines = _source(place.group(1), int(place.group(2))) if place else None
    if place and lines:
        details.append("<h2>%s</h2><pre>%s</pre>" % (html.escape(place.group(1)), lines))
    if traceback:
        details.append("<h2>Traceback</h2><pre>%s</pre>" % html.escape(traceback.strip()))
    return _PAGE % {"title": html.escape(title), "message": html.escape(message), "details": "\n".join(details)}


def _source(path: str, number: int) -> Optional[str]:
    """The lines around line `number` of the script, that line marked; None if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            lines = file.read().split("\n")
    except (OSError, ValueError):
        return None
    shown = []
    for index in range(max(1, number - AROUND), min(len(lines), number + AROUND) + 1):
        line = html.escape("%5d  %s" % (index, lines[index - 1]))
        shown.append("<mark>%s</mark>" % line if index == number else line)
    return "\n".join(shown)
