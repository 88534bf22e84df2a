"""The development front: a WSGI application that serves files and passes scripts on to a FastCGI server.

In:  WSGI requests (from whatever HTTP server runs `Front`), a document root, the FastCGI server's address.
Out: files, the answers of .lua scripts as they come, small error pages, one log line for each request.
Called by serve.py and by tests.  It parses no HTTP, starts no process and keeps no state between requests;
docroot.py decides what a URL names.
"""
from __future__ import annotations

import html
import os
import sys
import time
from http import HTTPStatus
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple
from urllib.parse import quote

from . import __version__, answer, devlog, livereload, records
from .client import Address, Client
from .docroot import Headers, Target, file_headers, resolve
from .errors import ProtocolError

BLOCK = 65536
# RFC 2616 section 13.5.1: these belong to one connection, so WSGI (PEP 3333) keeps them from applications.
HOP_BY_HOP = frozenset("connection keep-alive proxy-authenticate proxy-authorization te trailers "
                       "transfer-encoding upgrade".split())


def params(environ: dict, root: bytes, target: Target) -> Dict[bytes, bytes]:
    """The FastCGI parameters that nginx's stock configuration would send for this WSGI request.

    A client's `Proxy:` header is left out: scripts and the libraries below them may trust HTTP_PROXY.
    """
    found = {key: value for key, value in environ.items() if key.startswith("HTTP_") and key != "HTTP_PROXY"}
    for key in ("REQUEST_METHOD", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH", "SERVER_PROTOCOL",
                "SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "REMOTE_PORT"):
        found[key] = environ.get(key) or ""
    found["SERVER_NAME"] = _host_name(environ.get("HTTP_HOST", "")) or found["SERVER_NAME"]
    found.update(GATEWAY_INTERFACE="CGI/1.1", SERVER_SOFTWARE="luafcgid2/" + __version__,
                 REQUEST_SCHEME=environ["wsgi.url_scheme"], REQUEST_URI=_request_uri(environ),
                 REDIRECT_STATUS="200")
    encoded = {key.encode("latin-1"): value.encode("latin-1") for key, value in found.items()}
    encoded.update({b"SCRIPT_FILENAME": target.path, b"SCRIPT_NAME": target.name, b"DOCUMENT_ROOT": root,
                    b"DOCUMENT_URI": target.name + target.path_info, b"PATH_INFO": target.path_info})
    return encoded


def _host_name(host: str) -> str:
    """The name in a Host header without its port; "" unless it holds what no name or address has."""
    name, _, port = host.rpartition(":")
    if not port.isdigit():
        name = host
    valid = name.isascii() and all(letter.isalnum() or letter in "-._:[]" for letter in name)
    return name.lower() if valid else ""


def _request_uri(environ: dict) -> str:
    query = environ.get("QUERY_STRING", "")
    path = quote(environ.get("PATH_INFO", "").encode("latin-1"), safe="/:@!$&'()*+,;=~-._")
    return environ.get("REQUEST_URI") or path + ("?" + query if query else "")


class Front:
    """The WSGI application.

    `root` is the document root; `address` and `timeout` (seconds) are those of client.Client; `log` is called
    with one line, without its end, after each request, `coloured` or not; `live` (livereload.LiveReload) has
    pages renew themselves, None does not.
    """

    def __init__(self, root: str, address: Address, log: Callable[[str], None],
                 timeout: float = 120.0, coloured: bool = False, live: Optional[livereload.LiveReload] = None) -> None:
        self.root = os.fsencode(os.path.realpath(root))
        self._address = address
        self._log = log
        self._timeout = timeout
        self._coloured, self._live = coloured, live

    def __call__(self, environ: dict, start_response: Callable) -> Iterator[bytes]:
        started = time.monotonic()
        sent: List[str] = []
        live = self._live is not None and livereload.wanted(environ)
        tail: List[bytes] = []

        def start(status: int, reason: str, headers: Headers) -> None:
            line = "%d %s" % (status, reason or _reason(status))
            sent.append(line)
            more = livereload.tagged(status, headers) if live else []
            if more and environ["REQUEST_METHOD"] != "HEAD":
                tail.append(livereload.TAG)
            start_response(line, more or headers)

        if self._live is not None and environ.get("PATH_INFO", "").startswith(livereload.PREFIX):
            yield from self._live.answer(environ, start)
            return
        try:
            yield from self._respond(environ, start)
            yield from tail
        finally:
            self._log(devlog.line(environ["REQUEST_METHOD"], _printable(_request_uri(environ)),
                                  sent[-1][:3] if sent else "---", (time.monotonic() - started) * 1000,
                                  self._coloured))

    def _respond(self, environ: dict, start: Callable) -> Iterable[bytes]:
        target = resolve(self.root, environ.get("PATH_INFO", "").encode("latin-1"))
        if target.kind == "script":
            return self._script(environ, start, target)
        if target.kind == "file":
            return _file(environ, start, target.path)
        if target.kind == "redirect":
            query = environ.get("QUERY_STRING", "")
            location = quote(target.name) + ("?" + query if query else "")
            return _page(environ, start, 301, "The directory is at %s" % location, [("Location", location)])
        return _page(environ, start, 404, "There is nothing at %s" % _request_uri(environ))

    def _script(self, environ: dict, start: Callable, target: Target) -> Iterator[bytes]:
        """Pass the request on; output flows as it comes, once the header block is whole."""
        head: Optional[answer.Head] = None
        output = b""
        try:
            with Client(self._address, self._timeout) as client:
                pairs = params(environ, self.root, target)
                for kind, content in client.exchange(pairs, environ["wsgi.input"], keep_conn=False):
                    if kind != records.STDOUT:
                        continue
                    if head:
                        yield content
                        continue
                    output += content
                    head = answer.parse_head(output)
                    if head:
                        start(head.status, head.reason, [each for each in head.headers
                                                         if each[0].lower() not in HOP_BY_HOP])
                        yield output[head.size:]
        except (OSError, ProtocolError) as failure:
            if head:
                raise
            yield from _failure(environ, start, failure)
            return
        if not head:
            yield from _failure(environ, start, "no header block in %d bytes of output" % len(output))


def _failure(environ: dict, start: Callable, reason: object) -> Iterable[bytes]:
    print("luafcgid2 serve: %s" % reason, file=sys.stderr, flush=True)
    return _page(environ, start, 504 if isinstance(reason, TimeoutError) else 502, str(reason))


def _file(environ: dict, start: Callable, path: bytes) -> Iterator[bytes]:
    """A file, or 304 where the client has it already; GET and HEAD only."""
    method = environ["REQUEST_METHOD"]
    if method not in ("GET", "HEAD"):
        yield from _page(environ, start, 405, "Files take GET and HEAD only", [("Allow", "GET, HEAD")])
        return
    try:
        file = open(path, "rb")
    except OSError:
        yield from _page(environ, start, 403, "This file cannot be read")
        return
    with file:
        since = environ.get("HTTP_IF_MODIFIED_SINCE", "")
        status, headers = file_headers(path, os.fstat(file.fileno()), since)
        start(status, "", headers)
        if method == "GET" and status == 200:
            yield from iter(lambda: file.read(BLOCK), b"")


def _page(environ: dict, start: Callable, status: int, message: str,
          headers: Sequence[Tuple[str, str]] = ()) -> List[bytes]:
    title = html.escape("%d %s" % (status, _reason(status)))
    page = ("<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>%s</title>\n<h1>%s</h1>\n<p>%s</p>\n"
            % (title, title, html.escape(_printable(message)))).encode("utf-8")
    kind = ("Content-Type", "text/html; charset=utf-8")
    start(status, "", [kind, ("Content-Length", str(len(page))), *headers])
    return [page] if environ["REQUEST_METHOD"] != "HEAD" else []


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _printable(text: str) -> str:
    """A request cannot write control characters to the terminal."""
    return "".join(letter if " " <= letter <= "~" else "%%%02X" % ord(letter) for letter in text)
