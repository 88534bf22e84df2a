"""Samples of many rounds as one table and as plain data.

In: the places of a workload, {place: [Sample of each round]}, seconds to the first answer.  Out: text that is both a
readable table and reStructuredText, and a dictionary for JSON.  bench.py and published.py call it.  It prints and
measures nothing.
"""
from __future__ import annotations

import os
import platform
import statistics
import textwrap
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from aims import ratio
from load import Sample
from workloads import KEEP, Place, Workload

FIELDS = ("rate", "p50", "p99", "p999", "cpu", "cpu_all", "pss")
MEGABYTE = 1 / 1048576
# A column: heading, key of a row, form of the number, scale.  One that no row has is left out.
COLUMNS: Tuple[Tuple[str, str, str, float], ...] = (
    ("requests/s", "rate", "%.0f", 1), ("spread", "spread", "%.0f %%", 100), ("of C", "rate_ratio", "%.2f", 1),
    ("p50 ms", "p50", "%.2f", 1), ("p99 ms", "p99", "%.2f", 1), ("p99.9 ms", "p999", "%.2f", 1),
    ("CPU us", "cpu", "%.1f", 1), ("of C", "cpu_ratio", "%.2f", 1), ("with nginx", "cpu_all", "%.1f", 1),
    ("PSS MB", "pss", "%.1f", MEGABYTE), ("bytes each", "each", "%.0f", 1),
    ("KB a worker", "worker", "%.0f", 1 / 1024), ("KB a state", "clone", "%.1f", 1 / 1024),
    ("wake-ups/s", "wakeups", "%.1f", 1), ("failures", "failures", "%d", 1), ("start s", "first_answer", "%.2f", 1))
# The overview: a column for each of these servers, in the first of its modes.
SHORT = {"luafcgid2": "luafcgid2", "c": "C", "php": "php-fpm", "uwsgi-fcgi": "uWSGI", "wsapi": "lua-wsapi",
         "nginx": "nginx"}
# Workloads that compare luafcgid2 with itself are no row of it.
NOT_IN_OVERVIEW = ("threads", "idle", "footprint")


def summary(places: Sequence[Place], samples: Mapping[str, Sequence[Sample]],
            first: Mapping[str, Sequence[float]]) -> Dict[str, Any]:
    """{place: {figure: median of the rounds}}; `failures` is the sum, `each` the largest, `spread` the range of the
    requests/s in parts of their median; ratios are to C in the same mode, `title` is the place's name."""
    rows: Dict[str, Any] = {}
    for place in places:
        runs = samples[place.name]
        row: Dict[str, Any] = {name: statistics.median(getattr(run, name) for run in runs) for name in FIELDS}
        rates = [run.rate for run in runs]
        row["spread"] = (max(rates) - min(rates)) / max(1e-9, row["rate"])
        row["failures"] = sum(run.failures for run in runs)
        base = samples.get("c" + (KEEP if place.keep else ""))
        if base:
            row["rate_ratio"] = ratio(runs, base, "rate")
            row["cpu_ratio"] = ratio(runs, base, "cpu")
        # What the first connections need at all is no figure of one of them.
        if place.variant.idle >= 1000:
            row["each"] = max(run.each for run in runs)
        if first.get(place.name):
            row["first_answer"] = statistics.median(first[place.name])
        row["title"], row["server"] = place.title, place.server.key
        rows[place.name] = row
    return rows


def lines(cells: Sequence[Sequence[str]]) -> str:
    """A simple table of reStructuredText; the first column is text, numbers are right-aligned."""
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    rule = "  ".join("=" * width for width in widths)

    def text(line: Sequence[str]) -> str:
        row = [line[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(line[1:], widths[1:])]
        return "  ".join(row).rstrip()
    return "\n".join([rule, text(cells[0]), rule, *map(text, cells[1:]), rule])


def table(rows: Mapping[str, Any]) -> str:
    """The rows of one workload.  What a row lacks is left empty: a hyphen would begin a list."""
    columns = [column for column in COLUMNS if any(column[1] in row for row in rows.values())]
    cells = [["server", *(column[0] for column in columns)]]
    for row in rows.values():
        cells.append([row["title"], *(form % (row[key] * scale) if key in row else ""
                                      for _, key, form, scale in columns)])
    return lines(cells)


def overview(results: Sequence[Mapping[str, Any]]) -> str:
    """Microseconds of CPU for a request, a row for each workload, a column for each server; the best of its ways to
    connect."""
    cells = [["CPU us for a request", *SHORT.values()]]
    for result in results:
        if result["workload"] in NOT_IN_OVERVIEW:
            continue
        line = [result["title"]]
        for key in SHORT:
            found = [row["cpu"] for name, row in result["rows"].items()
                     if row["server"] == key and not name.startswith((key + "-alone", key + "-hit"))]
            line.append("%.0f" % min(found) if found else "")
        cells.append(line)
    return lines(cells)


def caption(workload: Workload, seconds: float, rounds: int, workers: int) -> str:
    """One paragraph: the machine and the method."""
    if workload.name == "footprint":
        return textwrap.fill(
            "Medians of %d rounds, workload ``footprint``: a server that has answered once and is left alone, then "
            "for %g s; %d cores, %s, Python %s. PSS is the memory of all processes, shared pages split among them; "
            "what a worker and a Lua state take is the difference of two servers. Start is the time to the first "
            "answer." % (
                rounds, seconds, os.cpu_count() or 1, platform.machine(), platform.python_version()), 118)
    load = ("%d connections on which 10 quick requests follow each other, then a slow one" if workload.slow
            else "wrk with %d connections") % workload.connections
    text = (
        "%s of %g s, workload ``%s``: %s, nginx with %d worker process%s, unix sockets, %d cores, %s, Python %s. CPU "
        "is the server's own user and system time for one request, ``with nginx`` together with nginx's, PSS its "
        "memory, spread the range of the rounds' requests/s.%s" % (
            "Medians of %d interleaved rounds" % rounds if rounds > 1 else "One round", seconds, workload.name, load,
            workers, "es" if workers != 1 else "", os.cpu_count() or 1, platform.machine(), platform.python_version(),
            "" if "c" in workload.without else
            " Ratios are medians of the rounds' ratios to the C responder in the same mode."))
    return textwrap.fill(text, 118)


def left_out(reasons: Mapping[str, str], titles: Mapping[str, str]) -> str:
    """One paragraph: which servers are not there and why; "" if all are."""
    if not reasons:
        return ""
    grouped: Dict[str, List[str]] = {}
    for key, reason in reasons.items():
        grouped.setdefault(reason, []).append(titles[key])
    text = "Not there: " + "; ".join("%s (%s)" % (", ".join(names), reason) for reason, names in grouped.items()) + "."
    return textwrap.fill(text, 118)
