"""The status page for Prometheus: OpenMetrics 1.0 text.

In: a snapshot.  Out: text that ends with `# EOF`.  status calls it.  Counters only ever grow while the master
lives; what is known of present workers alone (scripts, states) is a gauge.
"""
from __future__ import annotations

from typing import Any, Dict, Iterator, List, Tuple

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PREFIX = "luafcgid2_"
# Buckets of the histogram: every doubling from 64 us to 134 s.
SHORTEST_MS, LONGEST_MS = .064, 134218

# (name, type, unit, help, where in the snapshot, factor)
SERVER = (
    ("start_time_seconds", "gauge", "seconds", "When the master started, since 1970.", ("start time",), 1),
    ("generation", "gauge", "", "Number of the present generation of Lua states.", ("generation",), 1),
    ("requests", "counter", "", "Requests answered.", ("requests",), 1),
    ("errors", "counter", "", "Requests that ended with an error of the script or the server.", ("errors",), 1),
    ("timeouts", "counter", "", "Requests that ran over RequestTimeout or RequestTerminateTimeout.", ("timeouts",), 1),
    ("slow_requests", "counter", "", "Requests that took longer than SlowLogTime.", ("slow requests",), 1),
    ("received_bytes", "counter", "bytes", "Bytes received from the web server.", ("bytes in",), 1),
    ("sent_bytes", "counter", "bytes", "Bytes sent to the web server.", ("bytes out",), 1),
    ("cpu_seconds", "counter", "seconds", "CPU time of the workers.", ("cpu seconds",), 1),
    ("accepted_connections", "counter", "", "Connections accepted.", ("accepted conn",), 1),
    ("connections", "gauge", "", "Connections open.", ("connections",), 1),
    ("listen_queue", "gauge", "", "Connections that wait to be accepted.", ("listen queue",), 1),
    ("listen_queue_most", "gauge", "", "Most connections that ever waited.", ("max listen queue",), 1),
    ("listen_queue_limit", "gauge", "", "Room for waiting connections.", ("listen queue len",), 1),
    ("threads_idle", "gauge", "", "Threads that could take a request now.", ("idle processes",), 1),
    ("threads_busy", "gauge", "", "Threads that run a request.", ("active processes",), 1),
    ("threads_busy_most", "gauge", "", "Most threads that ever ran a request at once.",
     ("max active processes",), 1),
    ("threads_limit", "gauge", "", "Threads that there may be.", ("max children",), 1),
    ("limit_reached", "counter", "", "How often no more workers could be started.", ("max children reached",), 1),
    ("workers", "gauge", "", "Worker processes.", ("total workers",), 1),
    ("restarts", "counter", "", "Workers replaced because they died.", ("restarts",), 1),
    ("reloads", "counter", "", "Reloads since the start.", ("reloads",), 1),
    ("threads_hung", "gauge", "", "Threads that a script does not give back.", ("hung",), 1),
    ("shedding", "gauge", "", "1 while requests are refused to save memory.", ("shedding",), 1),
    ("memory_bytes", "gauge", "bytes", "PSS of master and workers.", ("memory", "pss kb"), 1024),
    ("memory_budget_bytes", "gauge", "bytes", "MemoryBudget; 0: none.", ("memory", "budget kb"), 1024),
    ("lua_heap_bytes", "gauge", "bytes", "Memory of all Lua states.", ("memory", "lua heap kb"), 1024),
    ("lua_states", "gauge", "", "Lua states in the pools.", ("lua states", "total"), 1),
    ("evicted_states", "counter", "", "Lua states given up to save memory.", ("lua states", "evicted"), 1),
)
SCRIPTS = (
    ("script_requests", "", "Requests for the script, by the present workers.", "requests", 1),
    ("script_errors", "", "Errors of the script, in the present workers.", "errors", 1),
    ("script_busy_seconds", "seconds", "Time in the script, in the present workers.", "busy seconds", 1),
    ("script_median_seconds", "seconds", "Half of its requests took less, in the present workers.", "p50 ms", .001),
    ("script_p95_seconds", "seconds", "95 % of its requests took less, in the present workers.", "p95 ms", .001),
    ("script_longest_seconds", "seconds", "Its longest request, in the present workers.", "max ms", .001),
    ("script_running", "", "Threads that run the script now.", "running", 1),
    ("script_states", "", "Lua states of the script.", "lua states", 1),
    ("script_heap_bytes", "bytes", "Memory of the script's Lua states.", "lua heap kb", 1024),
)


def metrics(snapshot: Dict[str, Any]) -> str:
    """All metrics of the snapshot."""
    lines: List[str] = []
    for name, kind, unit, words, path, factor in SERVER:
        value: Any = snapshot
        for key in path:
            value = value[key]
        lines += _family(name, kind, unit, words)
        lines.append(_sample(name + ("_total" if kind == "counter" else ""), value * factor))
    lines += _histogram(snapshot)
    for name, unit, words, key, factor in SCRIPTS:
        lines += _family(name, "gauge", unit, words)
        lines += [_sample(name, entry[key] * factor, script=entry["script"]) for entry in snapshot["scripts"]]
    lines += _family("script_quarantine_seconds", "gauge", "seconds", "How long the script stays in quarantine.")
    lines += [_sample("script_quarantine_seconds", entry["seconds left"], script=entry["script"])
              for entry in snapshot["quarantine"]]
    return "\n".join(lines) + "\n# EOF\n"


def _histogram(snapshot: Dict[str, Any]) -> Iterator[str]:
    name, seen = "request_duration_seconds", 0
    yield from _family(name, "histogram", "seconds", "How long requests took.")
    for top, so_far in _doublings(snapshot["latency buckets"]):
        seen = so_far
        if SHORTEST_MS <= top <= LONGEST_MS:
            yield _sample(name + "_bucket", so_far, le=repr(top / 1000))
    yield _sample(name + "_bucket", seen, le="+Inf")
    yield _sample(name + "_count", seen)
    yield _sample(name + "_sum", snapshot["busy seconds"])


def _doublings(buckets: List[List[float]]) -> Iterator[Tuple[float, int]]:
    """(milliseconds, requests that were quicker) at the end of every second bucket, where a doubling ends."""
    seen = 0
    for index, (top, count) in enumerate(buckets):
        seen += count
        if index % 2:
            yield top, seen


def _family(name: str, kind: str, unit: str, words: str) -> List[str]:
    lines = [f"# TYPE {PREFIX}{name} {kind}"]
    if unit:
        lines.append(f"# UNIT {PREFIX}{name} {unit}")
    return lines + [f"# HELP {PREFIX}{name} {words}"]


def _sample(name: str, value: Any, **labels: str) -> str:
    inside = ",".join('%s="%s"' % (key, _escape(text)) for key, text in labels.items())
    return "%s%s%s %s" % (PREFIX, name, "{%s}" % inside if inside else "", repr(value + 0))


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
