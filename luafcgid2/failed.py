"""`luafcgid2ctl failed` and `replay`: which requests failed, and one of them once more.

In: the pid of the master, the Config of the server, the id of a failed request.  Out: text or JSON to print, and
whether it failed again.  Only ctl.py calls it.  What was kept is kept.py's; a replay runs the script in this
process, in a state that nobody has used yet, and the server does not notice.
"""
from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from typing import Any, Dict, Iterable, List, NamedTuple, Tuple

from . import kept
from .answer import parse_head
from .control import FAILED, NO_RIGHTS
from .errors import ControlError, ScriptError
from .kept import FailedRequest
from .masks import MASK
from .snapshot import shown
from .workshop import Workshop, become_server

SHOWN_BODY = 4000               # bytes of an answer or of a body that are printed


def load(pid: int) -> List[FailedRequest]:
    """What the server of that master keeps, the latest last.  ControlError when that cannot be read."""
    try:
        return kept.read(pid)
    except OSError as error:
        raise ControlError(f"pid {pid}: {error.strerror}", NO_RIGHTS) from error
    except LookupError as error:
        raise ControlError(str(error), FAILED) from error


def find(entries: List[FailedRequest], name: str) -> FailedRequest:
    """The request with that id, or the latest one for "".  ControlError when it is not there."""
    found = [entry for entry in entries if name in (entry.id, "")]
    if not found:
        raise ControlError(f"no failed request {name} is kept: luafcgid2ctl failed lists them" if name
                           else "no failed request is kept", FAILED)
    return found[-1]


def listing(entries: List[FailedRequest]) -> str:
    """Two lines for each request: what was asked for, and what went wrong."""
    if not entries:
        return "no request has failed"
    lines = ["%-7s %-19s %-6s %8s  %s" % ("ID", "TIME", "STATUS", "SECONDS", "REQUEST")]
    for entry in entries:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.when))
        lines.append("%-7s %s %-6s %8.3f  %s" % (entry.id, moment, entry.status or "died", entry.seconds,
                                                 _request(entry)))
        lines.append("        " + shown(entry.message.split(b"\n")[0]))
    return "\n".join(lines)


def details(entry: FailedRequest) -> str:
    """Everything that is kept of one request."""
    parts = [listing([entry]).partition("\n")[2], "script: " + shown(entry.script),
             *_indented(entry.traceback), "params" + (" (some are cut or left out):" if entry.cut else ":")]
    parts += ["    %s = %s" % (shown(name), shown(value)) for name, value in sorted(entry.params.items())]
    if entry.size:
        parts += ["body (%d bytes, %d kept):" % (entry.size, len(entry.body)), *_indented(entry.body[:SHOWN_BODY])]
    return "\n".join(parts)


def as_json(entries: List[FailedRequest]) -> str:
    """A list of objects; bytes that are no text are escaped."""
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {plain(name): plain(each) for name, each in value.items()}
        return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value

    return json.dumps([{name: plain(value) for name, value in entry._asdict().items()} for entry in entries], indent=2)


class Outcome(NamedTuple):
    """Of a replay: `text` to print, `error` with message and traceback ("" for none), `failed`: a status of 5xx."""

    text: str
    error: str
    failed: bool


def replay(config: Any, pid: int, entry: FailedRequest, changes: Iterable[str] = ()) -> Outcome:
    """Run the request again.  changes: NAME=VALUE, params to set.  ControlError when it cannot be run at all."""
    params, remarks = _params(entry, changes)
    # Python's own handler would wait for Lua to return.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logger = logging.Logger("luafcgid2", logging.INFO)
    logger.addHandler(_Log(sys.stderr))
    # Python's modules come in while they surely can be read.
    workshop = Workshop(config, logger)
    try:
        become_server(config, pid)
    except OSError as error:
        raise ControlError(f"pid {pid}: {error.strerror}", NO_RIGHTS) from error
    lines = ["%s %s" % (entry.id, _request(entry)), *remarks]
    started = time.perf_counter()
    try:
        with workshop.pool.checkout(workshop.script(params)):
            lines.append("state    %9.3f ms  (the file is loaded, its top level run)" % _since(started))
    except ScriptError as error:
        lines.append("state    %9.3f ms  fails" % _since(started))
        return Outcome("\n".join(lines), str(error) + error.traceback, True)
    started = time.perf_counter()
    response, error_text = workshop.respond(params, entry.body)
    lines.append("request  %9.3f ms" % _since(started))
    workshop.pool.close()
    head = parse_head(response)
    failed = head is None or head.status >= 500
    if not error_text:
        lines += ["", *_indented(response[:SHOWN_BODY], "")]
        lines += ["... and %d bytes more" % (len(response) - SHOWN_BODY)] if len(response) > SHOWN_BODY else []
    return Outcome("\n".join(lines), error_text.decode("utf-8", "replace"), failed)


class _Log(logging.StreamHandler):
    """What the script logs; the failure itself is printed anyway."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR


def _params(entry: FailedRequest, changes: Iterable[str]) -> Tuple[Dict[bytes, bytes], List[str]]:
    """The params to run it with, and what is not as it was."""
    params, remarks = dict(entry.params), []
    if not entry.status:
        # The master knows no more than what the dead worker had published.
        params.setdefault(b"DOCUMENT_ROOT", os.path.dirname(entry.script))
        params[b"QUERY_STRING"] = params.get(b"REQUEST_URI", b"").partition(b"?")[2]
        remarks.append("note: of a worker that died, only script, method and URI are known")
    for change in changes:
        name, equals, value = os.fsencode(change).partition(b"=")
        if not equals or not name:
            raise ControlError(f"{change!r} is not NAME=VALUE", FAILED)
        params[name] = value
    hidden = sorted(shown(name) for name, value in params.items() if MASK in value)
    if hidden:
        remarks.append("note: masked: %s (set it with --param NAME=VALUE)" % ", ".join(hidden))
    if entry.cut:
        remarks.append("note: some params were too long to be kept whole")
    if entry.size > len(entry.body):
        remarks.append("note: only %d of %d bytes of the body were kept" % (len(entry.body), entry.size))
    return params, remarks


def _request(entry: FailedRequest) -> str:
    values = entry.params
    words = [shown(values[name]) for name in (b"REQUEST_METHOD", b"REQUEST_URI") if values.get(name)]
    return " ".join(words) or shown(entry.script)


def _indented(text: bytes, margin: str = "    ") -> List[str]:
    return [margin + shown(line.rstrip(b"\r").replace(b"\t", b"    ")) for line in text.strip(b"\n").split(b"\n")
            if text]


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
