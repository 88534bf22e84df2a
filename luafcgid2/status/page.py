"""The status page as HTML: one file that needs nothing else, whole without JavaScript.

In: a snapshot.  Out: the page as text.  status calls it.  page.html is the frame, page.css the looks, page.js
the charts; what they show is made here, so that there is one place that escapes.  The script fetches this same
page again and takes over what changed.  Only that script may run: the page names its SHA-256.
"""
from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import string
from typing import Any, Dict, Iterable, List

from ..units import count, duration, share, short_time, size

LONG_MS = 1000                  # a request that runs for longer than this is marked
NEARLY = .85                    # of the memory budget
MANY_ERRORS = .01               # of all requests
# What the script draws its charts from.
DRAWN = ("now", "start time", "requests", "errors", "active processes", "total processes", "latency buckets")
# One sentence each, for a state of the whole server.
CALM, SHEDDING, HUNG, QUARANTINED = "All is well", "Short of memory: requests are refused", "Hung threads", \
    "Scripts in quarantine"


def page(snapshot: Dict[str, Any], full: bool) -> str:
    """The page; with `full` every thread is listed, without it those that run a request."""
    script = _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    drawn = json.dumps({key: snapshot[key] for key in DRAWN}, separators=(",", ":")).replace("<", "\\u003c")
    parts = {"tiles": _tiles(snapshot), "workers": _workers(snapshot), "running": _running(snapshot, full),
             "scripts": _scripts(snapshot), "quarantine": _quarantine(snapshot)}
    return string.Template(_file("page.html")).substitute(
        parts, css=_file("page.css"), script=script, digest=digest, data=drawn, pill=_pill(snapshot),
        version=html.escape(snapshot["version"]), uptime=duration(snapshot["start since"]))


def _file(name: str) -> str:
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
        return file.read()


def _pill(found: Dict[str, Any]) -> str:
    if found["shedding"]:
        return '<span class="pill bad">%s</span>' % SHEDDING
    if found["hung"]:
        return '<span class="pill bad">%s: %d</span>' % (HUNG, found["hung"])
    if found["quarantine"]:
        return '<span class="pill warn">%s: %d</span>' % (QUARANTINED, len(found["quarantine"]))
    return '<span class="pill good">%s</span>' % CALM


def _tiles(found: Dict[str, Any]) -> str:
    latency, memory, states = found["latency"], found["memory"], found["lua states"]
    errors = found["errors"]
    tiles = [
        _tile("Threads busy", "%d<small> of %d</small>" % (found["active processes"], found["total processes"]),
              _meter(found["active processes"], found["total processes"]),
              "most so far %d" % found["max active processes"]),
        _tile("Requests", count(found["requests"]), "", "%s in, %s out" % (
            size(found["bytes in"] / 1024), size(found["bytes out"] / 1024))),
        _tile("Errors", count(errors), "", "%s of requests, %s timed out" % (
            share(errors, found["requests"]), count(found["timeouts"])),
              "bad" if errors > MANY_ERRORS * found["requests"] else ""),
        _tile("Median since start", short_time(latency["p50 ms"]), "", "p95 %s, p99 %s" % (
            short_time(latency["p95 ms"]), short_time(latency["p99 ms"]))),
        _memory(memory),
        _tile("Waiting", str(found["listen queue"]), "", "most %d, room for %d" % (
            found["max listen queue"], found["listen queue len"]), "warn" if found["listen queue"] else ""),
        _tile("Lua states", count(states["total"]), "", "heap %s, %s evicted" % (
            size(memory["lua heap kb"]), count(states["evicted"]))),
        _tile("Workers", str(found["total workers"]), "", "%s restarted, generation %d" % (
            count(found["restarts"]), found["generation"])),
    ]
    return "\n".join(tiles)


def _memory(memory: Dict[str, int]) -> str:
    used, budget = memory["pss kb"], memory["budget kb"]
    if not budget:
        return _tile("Memory", size(used) if used else "&ndash;", "", "no budget set")
    kind = "bad" if used > budget else "warn" if used > NEARLY * budget else ""
    return _tile("Memory", size(used), _meter(used, budget, kind), "%s of %s" % (
        share(used, budget), size(budget)), kind)


def _tile(label: str, value: str, meter: str, note: str, kind: str = "") -> str:
    return '<div class="tile"><dt>%s</dt><dd class="value %s">%s</dd><dd class="note">%s%s</dd></div>' % (
        label, kind, value, meter, note)


def _meter(part: float, whole: float, kind: str = "") -> str:
    """A bar; the figures beside it say the same, so it is hidden from screen readers."""
    return '<i class="bar %s" style="--share:%.3f" aria-hidden="true"></i>' % (
        kind, min(1, part / whole) if whole else 0)


def _workers(found: Dict[str, Any]) -> str:
    rows = []
    for worker in found["workers"]:
        lamps = "".join(_lamp(entry) for entry in found["processes"] if entry["worker"] == worker["worker"])
        busy, threads = worker["busy"], worker["threads"]
        memory = worker["pss kb"] or worker["rss kb"]
        rows.append([
            "<td>%d</td>" % worker["pid"],
            '<td><span class="state %s">%s</span></td>' % (worker["state"].lower(), worker["state"]),
            '<td><span class="lamps" aria-hidden="true">%s</span> %d of %d</td>' % (lamps, busy, threads),
            _number(count(worker["requests"])),
            _number(count(worker["errors"]), "wide bad" if worker["errors"] else "wide"),
            _number(count(worker["lua states"]), "wide"), _number(size(worker["lua heap kb"]), "wide"),
            _number(size(memory) if memory else "&ndash;"), _number(duration(worker["start since"]), "wide")])
    heads = ("Pid", "State", "Threads busy", "#Requests", "#Errors", "#Lua states", "#Lua heap", "#Memory", "#Up")
    return _table("Workers", heads, rows, "No worker runs.", wide=(4, 5, 6, 8))


def _lamp(entry: Dict[str, Any]) -> str:
    if entry["state"] != "Running":
        return '<i class="lamp"></i>'
    long = entry["request duration"] > LONG_MS * 1000
    return '<i class="lamp on%s" title="%s"></i>' % (" long" if long else "", html.escape(entry["request uri"]))


def _path(text: str) -> str:
    """A path or an address as HTML; it may be broken behind each slash."""
    return html.escape(text).replace("/", "/<wbr>")


def _running(found: Dict[str, Any], full: bool) -> str:
    """Requests under way, the longest first; or, with `full`, all threads in their order."""
    entries = [entry for entry in found["processes"] if full or entry["state"] == "Running"]
    if not full:
        entries.sort(key=lambda entry: -entry["request duration"])
    rows = []
    for entry in entries:
        milliseconds = entry["request duration"] / 1000
        running = entry["state"] == "Running"
        rows.append([
            _number(short_time(milliseconds) if running else "idle",
                    "soft" if not running else "warn" if milliseconds > LONG_MS else ""),
            '<td class="text"><span class="method">%s</span> %s</td>' % (
                html.escape(entry["request method"]), _path(entry["request uri"])) if running else "<td></td>",
            '<td class="text soft wide">%s</td>' % (_path(entry["script"]) if running else ""),
            _number("%d / %d" % (entry["pid"], entry["thread"]), "wide"), _number(count(entry["requests"]), "wide"),
            _number(size(entry["last request memory"] / 1024), "wide")])
    heads = ("#For", "Request", "Script", "#Pid / thread", "#Served", "#Lua heap")
    return _table("Threads" if full else "Running now", heads, rows, "Every thread is idle.", wide=(2, 3, 4, 5))


def _scripts(found: Dict[str, Any]) -> str:
    total = sum(entry["busy seconds"] for entry in found["scripts"])
    rows = [[
        '<td class="text">%s</td>' % _path(entry["script"]),
        '<td class="share">%s<span>%s</span></td>' % (
            _meter(entry["busy seconds"], total), share(entry["busy seconds"], total)),
        _number(count(entry["requests"])), _number(short_time(entry["p50 ms"])),
        _number(short_time(entry["p95 ms"]), "wide"),
        _number(short_time(entry["max ms"]), "warn" if entry["max ms"] > LONG_MS else ""),
        _number(count(entry["errors"]), entry["errors"] and "bad"),
        _number(count(entry["lua states"]), "wide"), _number(size(entry["lua heap kb"]), "wide"),
    ] for entry in found["scripts"]]
    heads = ("Script", "Share of time", "#Requests", "#Median", "#95 %", "#Longest", "#Errors", "#States", "#Heap")
    return _table("Scripts by time", heads, rows, "No script has run in these workers.", wide=(4, 7, 8))


def _quarantine(found: Dict[str, Any]) -> str:
    if not found["quarantine"]:
        return ""
    rows = [['<td class="text">%s</td>' % _path(entry["script"]),
             _number(duration(entry["seconds left"] + .999), "warn"),
             _number(str(entry["strikes"]), "wide"), _number(str(entry["level"]), "wide")]
            for entry in found["quarantine"]]
    return _table("Quarantine", ("Script, answered with 503", "#For another", "#Strikes", "#Level"), rows, "",
                  wide=(2, 3))


def _number(text: str, kind: Any = "") -> str:
    return '<td class="n %s">%s</td>' % (kind or "", text)


def _table(title: str, heads: Iterable[str], rows: List[List[str]], empty: str, wide: Iterable[int] = ()) -> str:
    """A headed table that scrolls by itself where it is too wide; `#` opens the head of a column of numbers."""
    top = "<h2>%s</h2>" % title
    if not rows:
        return top + '<p class="empty">%s</p>' % empty
    cells = "".join('<th scope="col" class="%s%s">%s</th>' % (
        "n" if head[0] == "#" else "", " wide" if index in wide else "", head.lstrip("#"))
        for index, head in enumerate(heads))
    body = "\n".join("<tr>%s</tr>" % "".join(row) for row in rows)
    return top + '<div class="scroll" role="region" aria-label="%s" tabindex="0"><table><thead><tr>%s</tr></thead>' \
                 '<tbody>%s</tbody></table></div>' % (title, cells, body)
