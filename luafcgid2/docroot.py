"""A document root: what a URL path names below it, and how a plain file is answered.

In:  a root, a decoded URL path.  Out: a `Target`, or the status and headers of a file.  Called by front.py
and by tests.  It looks at the disk and at nothing else: no directory is listed, no script is run.  Nothing
outside the root is found, through a symbolic link neither, and no name that opens with a dot.
"""
from __future__ import annotations

import mimetypes
import os
import stat
from email.utils import formatdate, parsedate_to_datetime
from typing import List, NamedTuple, Tuple

INDEX_NAMES = (b"index.lua", b"index.html")
SCRIPT_SUFFIX = b".lua"
Headers = List[Tuple[str, str]]


class Target(NamedTuple):
    """What a URL path names: `kind` is "script", "file", "redirect" (add the slash) or "missing".

    `name` is the URL path of the script, or where to redirect; `path` the file; `path_info` the rest.
    """

    kind: str
    name: bytes = b""
    path: bytes = b""
    path_info: bytes = b""


MISSING = Target("missing")


def resolve(root: bytes, url_path: bytes) -> Target:
    """Map a decoded URL path to a file below `root`, which must be a real path.  Looks at the disk only."""
    segments = [segment for segment in url_path.split(b"/") if segment]
    path, name = root, b""
    for position, segment in enumerate(segments):
        path, name = os.path.join(path, segment), name + b"/" + segment
        kind = _kind(root, path)
        if kind == "file":
            rest = segments[position + 1:]
            slash = url_path.endswith(b"/")
            if segment.endswith(SCRIPT_SUFFIX):
                return Target("script", name, path, b"".join(b"/" + each for each in rest) + b"/" * slash)
            return MISSING if rest or slash else Target("file", name, path)
        if kind != "directory":
            return MISSING
    if segments and not url_path.endswith(b"/"):
        return Target("redirect", name + b"/")
    for index in INDEX_NAMES:
        inner = os.path.join(path, index)
        if _kind(root, inner) == "file":
            return Target("script" if index.endswith(SCRIPT_SUFFIX) else "file", name + b"/" + index, inner)
    return MISSING


def _kind(root: bytes, path: bytes) -> str:
    """ "file", "directory", or "" for what is missing, hidden, special, or leads out of the root."""
    if b"\0" in path or os.path.basename(path).startswith(b"."):
        return ""
    real = os.path.realpath(path)
    if real != root and not real.startswith(root.rstrip(b"/") + b"/"):
        return ""
    try:
        mode = os.stat(real).st_mode
    except OSError:
        return ""
    return "file" if stat.S_ISREG(mode) else "directory" if stat.S_ISDIR(mode) else ""


def file_headers(path: bytes, info: os.stat_result, since: str = "") -> Tuple[int, Headers]:
    """Status and headers for a file: 304 where If-Modified-Since (`since`, an HTTP date) says it is known."""
    headers = [("Last-Modified", formatdate(info.st_mtime, usegmt=True)), ("Cache-Control", "no-cache")]
    if _not_modified(since, info.st_mtime):
        return 304, headers
    return 200, [("Content-Type", _content_type(path)), ("Content-Length", str(info.st_size))] + headers


def _not_modified(since: str, modified: float) -> bool:
    try:
        return bool(since) and int(modified) <= parsedate_to_datetime(since).timestamp()
    except (TypeError, ValueError, OverflowError):
        return False


def _content_type(path: bytes) -> str:
    kind, encoding = mimetypes.guess_type(os.fsdecode(path))
    if encoding:
        return "application/" + encoding
    if not kind:
        return "application/octet-stream"
    text = kind.startswith("text/") or kind in ("application/javascript", "application/json")
    return kind + ("; charset=utf-8" if text else "")
