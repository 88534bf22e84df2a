"""Live reload for `luafcgid2 serve`: a page in the browser renews itself when a file of the site is saved.

In: the served folder, requests of browsers.  Out: a tag at the end of HTML pages, the small script that it names, and
the answers that this script waits for.  serve.py makes one LiveReload, puts its `gate` before the HTTP server's
threads and hands it to front.Front.

The script asks "what changed since ...?" and is answered when something has.  Such a request waits in a list, not in
a thread, and a hidden tab does not ask; so many open tabs cost nothing.  The folder is looked at while somebody
waits only: file times, which the kernel has in memory, and only those of sources, because scripts themselves may
write to the folder.  Nothing is written.
"""
from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple

PREFIX = "/.luafcgid2/"
CHANGES, SCRIPT = PREFIX + "changes", PREFIX + "live.js"
TAG = b'\n<script src="%s"></script>\n' % SCRIPT.encode()
SOURCES = (".lua .ws .op .lp .etlua .tpl .mustache .html .htm .css .js .mjs .md .svg .png .jpg .jpeg .gif .webp "
           ".avif .ico").split()
ROUND_SECONDS = 0.25            # between two looks at the folder; more where one look takes long
WAIT_SECONDS = 25.0             # then a request is answered in any case: who has gone away is noticed
_JAVASCRIPT = """(() => {
  const token = "%s";
  const pause = () => new Promise(go => setTimeout(go, 1000));
  let asking = false;
  async function ask() {
    if (asking) return;
    asking = true;
    while (!document.hidden) {
      try {
        const answer = await fetch("%s?" + token, { cache: "no-store" });
        if (answer.ok && await answer.text() !== token) { location.reload(); return; }
        if (!answer.ok) await pause();
      } catch (away) { await pause(); }
    }
    asking = false;
  }
  document.addEventListener("visibilitychange", ask);
  ask();
})();
"""
Headers = List[Tuple[str, str]]


class LiveReload:
    """See the module's contract.  `close` ends its thread."""

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)
        self._start, self._serial = time.time_ns(), 0
        self._lock, self._wake = threading.Lock(), threading.Event()
        # Channels of waitress that wait, and since when.
        self._waiting: Dict[Any, float] = {}
        self._seen = _stamps(self._root)
        self._add: Callable[[Any], None] = lambda channel: None
        self._closed = False
        threading.Thread(target=self._watch, name="live reload", daemon=True).start()

    @property
    def token(self) -> str:
        """Another one after each change, and after each start of the server."""
        return "%x-%d" % (self._start, self._serial)

    def gate(self, add: Callable[[Any], None]) -> Callable[[Any], None]:
        """`add` gives a channel of waitress to a thread; the result does, too, but lets a channel wait whose request
        asks for changes when there are none."""
        self._add = add

        def add_or_wait(channel: Any) -> None:
            request = channel.requests[0]
            if getattr(request, "path", "") == CHANGES and not request.error:
                with self._lock:
                    if request.query == self.token and not self._closed:
                        self._waiting[channel] = time.monotonic()
                        self._wake.set()
                        return
            add(channel)
        return add_or_wait

    def answer(self, environ: dict, start: Callable[..., None]) -> Iterable[bytes]:
        """The script, or the token of now, for a URL path below PREFIX."""
        if environ.get("PATH_INFO") == SCRIPT:
            # What was edited while nobody looked is no reason to reload a page that has it already.
            self.look()
            kind, body = "text/javascript", (_JAVASCRIPT % (self.token, CHANGES)).encode()
        else:
            kind, body = "text/plain", self.token.encode()
        start(200, "", [("Content-Type", kind + "; charset=utf-8"), ("Content-Length", str(len(body))),
                        ("Cache-Control", "no-store")])
        return [body] if environ["REQUEST_METHOD"] != "HEAD" else []

    def look(self) -> bool:
        """Look at the folder; True if it has changed since the last look."""
        found = _stamps(self._root)
        with self._lock:
            changed = found != self._seen
            self._seen = found
            self._serial += changed
        return changed

    def close(self) -> None:
        """Let everybody go who waits; nobody waits any more."""
        self._closed = True
        self._wake.set()

    def _watch(self) -> None:
        while not self._closed:
            self._wake.wait()
            started = time.monotonic()
            changed = self.look()
            for channel in self._leaving(changed):
                self._add(channel)
            # A large site on a slow card: a tenth of one core at most.
            time.sleep(max(ROUND_SECONDS, 10 * (time.monotonic() - started)))
        for channel in self._leaving(True):
            self._add(channel)

    def _leaving(self, everybody: bool) -> List[Any]:
        """Take those off the list who are to be answered now."""
        now = time.monotonic()
        with self._lock:
            found = [channel for channel, since in self._waiting.items()
                     if everybody or now - since > WAIT_SECONDS or _has_gone(channel)
                     or channel.requests[0].query != self.token]
            for channel in found:
                del self._waiting[channel]
            if not self._waiting and not self._closed:
                self._wake.clear()
        return found


def wanted(environ: dict) -> bool:
    """Whether the answer shall be a page of its own in a browser, and not a part that a page's script asks for."""
    target = environ.get("HTTP_SEC_FETCH_DEST")
    if target:
        return bool(target == "document")
    # Browsers send it to https and to this machine only.
    return ("text/html" in environ.get("HTTP_ACCEPT", "")
            and not (environ.get("HTTP_X_REQUESTED_WITH") or environ.get("HTTP_HX_REQUEST")))


def tagged(status: int, headers: Headers) -> Headers:
    """The headers of an answer to whose body TAG will be added; [] for one that is not HTML."""
    names = {name.lower(): value for name, value in headers}
    kind = names.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "text/html" or status in (204, 304) or names.get("content-encoding", "identity") != "identity":
        return []
    return [(name, str(int(value) + len(TAG)) if name.lower() == "content-length" and value.isdigit() else value)
            for name, value in headers]


def _stamps(root: str) -> Dict[str, Tuple[int, int, int]]:
    return {entry.path: _stamp(entry) for entry in _sources(root)}


def _sources(folder: str) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _sources(entry.path)
                elif os.path.splitext(entry.name)[1].lower() in SOURCES:
                    yield entry
    except OSError:
        # It was removed meanwhile, or is not for us.
        return


def _stamp(entry: "os.DirEntry[str]") -> Tuple[int, int, int]:
    try:
        status = entry.stat()
    except OSError:
        return 0, 0, 0
    return status.st_mtime_ns, status.st_size, status.st_ino


def _has_gone(channel: Any) -> bool:
    """Whether the browser has closed the connection: nobody reads it while its request waits."""
    try:
        return bool(channel.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"")
    except BlockingIOError:
        return False
    except OSError:
        return True
