"""Samples of many rounds as one table and as plain data.

In: {location: [Sample of each round]}, seconds to the first answer.  Out: text that is both a readable table
and reStructuredText, and a dictionary for JSON.  bench.py calls it.  It prints and measures nothing.
"""
from __future__ import annotations

import os
import platform
import statistics
import textwrap
from typing import Any, Dict, List, Mapping, Sequence

from front import CONNECTIONS, KEEP, Sample
from servers import SERVERS

HEADINGS = ("server", "requests/s", "of C", "p50 ms", "p99 ms", "CPU us", "of C", "PSS MB", "failures",
            "start s")
# What `--check` demands of luafcgid2 with default settings, without keep_conn.
LEAST_RATE, MOST_CPU, MOST_START = 0.85, 2.2, 0.4


def _ratio(samples: Sequence[Sample], base: Sequence[Sample], field: str) -> float:
    """Median of the rounds' own ratios: the two runs of one round met the same weather."""
    pairs = zip(samples, base)
    return statistics.median(getattr(a, field) / max(1e-9, getattr(b, field)) for a, b in pairs)


def summary(samples: Mapping[str, Sequence[Sample]],
            first: Mapping[str, Sequence[float]]) -> Dict[str, Any]:
    """{location: {figure: median of the rounds}}; `failures` is the sum, ratios are to C in the same mode, `title`
    is the server's name."""
    rows: Dict[str, Any] = {}
    for name, runs in samples.items():
        row: Dict[str, Any] = {field: statistics.median(getattr(run, field) for run in runs)
                               for field in ("rate", "p50", "p99", "cpu", "pss")}
        row["failures"] = sum(run.failures for run in runs)
        base = samples.get("c" + (KEEP if name.endswith(KEEP) else ""))
        if base:
            row["rate_ratio"] = _ratio(runs, base, "rate")
            row["cpu_ratio"] = _ratio(runs, base, "cpu")
        if first.get(name):
            row["first_answer"] = statistics.median(first[name])
        rows[name] = row
        row["title"] = _title(name)
    return rows


def _title(name: str) -> str:
    keep = name.endswith(KEEP)
    return SERVERS[name[:-len(KEEP)] if keep else name].title + (", keep_conn" if keep else "")


def _cells(name: str, row: Mapping[str, Any]) -> List[str]:
    def cell(key: str, form: str, scale: float = 1.0) -> str:
        return form % (row[key] * scale) if key in row else "-"
    return [_title(name), cell("rate", "%.0f"), cell("rate_ratio", "%.2f"), cell("p50", "%.2f"),
            cell("p99", "%.2f"), cell("cpu", "%.1f"), cell("cpu_ratio", "%.2f"),
            cell("pss", "%.1f", 1 / 1048576), cell("failures", "%d"), cell("first_answer", "%.2f")]


def table(rows: Mapping[str, Any]) -> str:
    """A simple table of reStructuredText; numbers are right-aligned."""
    lines = [list(HEADINGS)] + [_cells(name, row) for name, row in rows.items()]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    rule = "  ".join("=" * width for width in widths)

    def text(line: Sequence[str]) -> str:
        cells = [line[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(line[1:], widths[1:])]
        return "  ".join(cells).rstrip()
    return "\n".join([rule, text(lines[0]), rule, *map(text, lines[1:]), rule])


def caption(script: str, seconds: int, rounds: int, workers: int) -> str:
    """One paragraph: the machine and the method."""
    text = (
        "%s of %d s, script ``%s``: wrk with %d connections, nginx with %d "
        "worker process%s, unix sockets, %d cores, %s, Python %s. CPU is the server's own user and system "
        "time for one request, start the time to the first answer. Ratios are medians of the rounds' ratios "
        "to the C responder in the same mode." % (
            "Medians of %d interleaved rounds" % rounds if rounds > 1 else "One round", seconds, script,
            CONNECTIONS, workers, "es" if workers != 1 else "", os.cpu_count() or 1, platform.machine(),
            platform.python_version()))
    return textwrap.fill(text, 110)


def shortfalls(rows: Mapping[str, Any], script: str = "hello") -> List[str]:
    """What luafcgid2 misses of its aims, in words; empty if nothing, or if the others were not measured.

    With sessions the measure is php-fpm with its session files, in the same mode.
    """
    if script == "session":
        return ["%s: %.0f requests/s, the aim is more than php-fpm's %.0f" % (name, row["rate"], php["rate"])
                for name, row in rows.items()
                for php in [rows.get("php" + (KEEP if name.endswith(KEEP) else ""))]
                if php and name.partition("-")[0] == "luafcgid2" and row["rate"] <= php["rate"]]
    ours = rows.get("luafcgid2", {})
    aims = (("rate_ratio", "requests/s of the C responder's", LEAST_RATE, 1),
            ("cpu_ratio", "CPU per request of the C responder's", MOST_CPU, -1),
            ("first_answer", "seconds to the first answer", MOST_START, -1))
    words = ["%s: %.2f, the aim is %s %.2f" % (what, ours[key], "at least" if sign > 0 else "at most", aim)
             for key, what, aim, sign in aims if key in ours and (ours[key] - aim) * sign < 0]
    if any(row["failures"] for name, row in rows.items() if name.startswith("luafcgid2")):
        words.append("requests of luafcgid2 failed")
    return words
