"""The status page as plain text: php-fpm's layout, one `key: value` a line.

In: a snapshot.  Out: text.  status calls it.  Values that are lists are left out, but the quarantine.
"""
from __future__ import annotations

import time
from typing import Any, Dict, Iterator, List, Tuple

WIDTH = 22                      # php-fpm's column
STARS = "*" * 24 + "\n"


def plain(snapshot: Dict[str, Any], full: bool) -> str:
    """The text; with `full` also one block for each thread, worker and script."""
    blocks = [_block(_flat(snapshot))]
    blocks += [_block(_flat(entry)) for entry in snapshot["quarantine"]]
    if full:
        blocks += [_block(_flat(entry)) for name in ("processes", "workers", "scripts") for entry in snapshot[name]]
    return ("\n" + STARS).join(blocks)


def _flat(entry: Dict[str, Any], before: str = "") -> Iterator[Tuple[str, Any]]:
    for key, value in entry.items():
        if isinstance(value, dict):
            yield from _flat(value, before + key + " ")
        elif not isinstance(value, list):
            yield before + key, _text(key, value)


def _text(key: str, value: Any) -> Any:
    if key == "start time":
        # Always in UTC, so that the page is the same whatever TZ the worker has.
        return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value


def _block(pairs: Any) -> str:
    lines: List[str] = ["%s %s\n" % ((key + ":").ljust(WIDTH - 1), value) for key, value in pairs]
    return "".join(lines)
