"""What luafcgid2 wants to reach, as ratios and differences inside one run.

In: the rows of a workload.  Out: each aim with what was measured, in words.  `--check` of
bench.py fails where one is missed.
"""
from __future__ import annotations

import statistics
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

RATIO, MORE, VALUE = "times", "more than", "itself"
# What two runs of the same may differ by.
NOISE = 1.15
# Figures in words, and the number of their units in one of the words'.
NAMES = {"cpu": ("CPU us of a request", 1.0), "rate": ("requests/s", 1.0), "p50": ("p50", 1.0), "p99": ("p99", 1.0),
         "each": ("bytes of an idle connection", 1.0), "first_answer": ("seconds to the first answer", 1.0),
         "worker": ("KB of one more worker", 1024.0), "clone": ("KB of one more Lua state", 1024.0),
         "wakeups": ("wake-ups a second", 1.0)}


class Aim(NamedTuple):
    """`figure` of the place `name` shall be at most, or with `least` at least, `bound`: times that of `base`, more than
    that of `base`, or itself."""

    workload: str
    name: str
    figure: str
    bound: float
    base: str = ""
    how: str = RATIO
    least: bool = False


AIMS: Sequence[Aim] = (
    Aim("hello", "luafcgid2", "cpu", 1.5, "c"),
    Aim("hello", "luafcgid2-keep", "cpu", 1.15, "c-keep"),
    Aim("hello", "luafcgid2", "rate", 0.97, "c", least=True),
    Aim("hello", "luafcgid2-keep", "rate", 0.97, "c-keep", least=True),
    Aim("hello", "luafcgid2", "cpu", 0.45, "php"),
    Aim("hello", "luafcgid2-keep", "cpu", 0.45, "php-keep"),
    Aim("hello", "luafcgid2", "first_answer", 0.25, how=VALUE),
    *(Aim("threads", "luafcgid2%s%s" % (threads, keep), "cpu", 1.05, "luafcgid2-1-thread" + keep)
      for keep in ("", "-keep") for threads in ("", "-16-threads")),
    Aim("session", "luafcgid2", "rate", 1.0, "php", least=True),
    Aim("post", "luafcgid2", "rate", 0.8, "c", least=True),
    Aim("download", "luafcgid2", "rate", 0.8, "c", least=True),
    Aim("lru", "luafcgid2", "cpu", 250.0, "luafcgid2-hit", MORE),
    *(Aim("idle", "luafcgid2-%d%s" % (idle, keep), "p50", NOISE, "luafcgid2" + keep)
      for keep in ("", "-keep") for idle in (100, 1000, 5000)),
    *(Aim("idle", "luafcgid2-%d" % idle, "each", 2048.0, how=VALUE) for idle in (1000, 5000)),
    *(Aim("mixed", "luafcgid2" + keep, "p99", 3.0, "luafcgid2-alone" + keep) for keep in ("", "-keep")),
    Aim("footprint", "luafcgid2", "worker", 4 * 2.0 ** 20, how=VALUE),
    Aim("footprint", "luafcgid2", "clone", 45 * 1024.0, how=VALUE),
    Aim("footprint", "luafcgid2", "wakeups", 0.0, how=VALUE),
    Aim("footprint", "luafcgid2", "first_answer", 0.25, how=VALUE),
    Aim("cpu", "luafcgid2-2-threads", "rate", 1.8, "luafcgid2-1-thread", least=True),
)


def ratio(samples: Sequence[Any], base: Sequence[Any], figure: str) -> float:
    """Median of the rounds' own ratios: the two runs of one round met the same weather."""
    return statistics.median(getattr(a, figure) / max(1e-9, getattr(b, figure)) for a, b in zip(samples, base))


def reached(aim: Aim, rows: Mapping[str, Any], samples: Mapping[str, Sequence[Any]]) -> Optional[float]:
    """What an aim asks for, as measured; None if one of the two was not."""
    if aim.figure not in rows.get(aim.name, {}) or (aim.base and aim.base not in rows):
        return None
    if aim.how == VALUE:
        return rows[aim.name][aim.figure]
    if aim.how == RATIO:
        return ratio(samples[aim.name], samples[aim.base], aim.figure)
    return statistics.median(getattr(a, aim.figure) - getattr(b, aim.figure)
                             for a, b in zip(samples[aim.name], samples[aim.base]))


def words(aim: Aim, value: float, rows: Mapping[str, Any]) -> str:
    """One aim and what became of it."""
    of = {VALUE: "", RATIO: " times that", MORE: " more than that"}[aim.how]
    name, unit = NAMES[aim.figure]
    unit = 1.0 if aim.how == RATIO else unit
    return "%s of %s: %.2f%s%s; the aim is at %s %g" % (
        name, rows[aim.name]["title"], value / unit, of, " of " + rows[aim.base]["title"] if aim.base else "",
        "least" if aim.least else "most", aim.bound / unit)


def verdicts(workload: str, rows: Mapping[str, Any], samples: Mapping[str, Sequence[Any]]) -> List[Dict[str, Any]]:
    """Each aim of the workload that can be told, as `words` and `met`; failed requests of ours are one that is not."""
    found = []
    for aim in AIMS:
        value = reached(aim, rows, samples) if aim.workload == workload else None
        if value is not None:
            met = value >= aim.bound if aim.least else value <= aim.bound
            found.append({"words": words(aim, value, rows), "value": value, "met": met})
    return found + [{"words": "%d requests of %s failed" % (row["failures"], row["title"]), "value": row["failures"],
                     "met": False} for row in rows.values() if row["server"] == "luafcgid2" and row["failures"]]


def missed(verdicts: Sequence[Mapping[str, Any]]) -> List[str]:
    """In words; empty if nothing is."""
    return [verdict["words"] for verdict in verdicts if not verdict["met"]]
