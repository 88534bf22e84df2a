"""What the scoreboard says at one moment, as a plain dictionary.

In: a Scoreboard, the Config, and the time.  Out: numbers, texts, lists and dictionaries that `json` can write.
The keys of php-fpm's status page keep their names and meanings, so that its exporters work; a "process" is what
serves one request at a time, which is a thread here.  Texts are safe to print: what is not UTF-8, and characters
that control a terminal or turn a line around, are escapes.  Workers call it for the status page, luafcgid2ctl for
`status` and `top`.  It writes nothing, and no request waits for it.
"""
from __future__ import annotations

from typing import Any, Dict, Iterable, List, NamedTuple, Sequence

from . import __version__
from .scoreboard import BUCKETS, DRAINING, READY, RUNNING, STARTING, bucket_top

STATES = {STARTING: "Starting", READY: "Ready", DRAINING: "Draining"}
DESCRIBED_US = 20000            # until then, method and URI may still be those of the request before
# What can be listed at length; the status page leaves these out unless it is asked for `full`.
LISTS = ("workers", "processes", "scripts", "latency buckets")


class _Clock(NamedTuple):
    """The moment: nanoseconds of the monotonic clock, and seconds since 1970."""

    now_ns: int
    now: float

    def us_since(self, then_ns: int) -> int:
        return max(0, self.now_ns - then_ns) // 1000 if then_ns else 0

    def s_since(self, then: int) -> int:
        return max(0, int(self.now) - then) if then else 0


def take(scoreboard: Any, config: Any, now_ns: int, now: float) -> Dict[str, Any]:
    """The server at one moment.

    now_ns: nanoseconds of the monotonic clock; now: seconds since 1970.  Keys that end in "ms", "kb" or
    "seconds" are in that unit; "request duration" is microseconds and "last request memory" and "memory peak"
    are bytes, as in php-fpm; what starts with "bytes" is bytes.
    """
    clock = _Clock(now_ns, now)
    slots = list(scoreboard.workers())
    processes = [entry for number, slot in slots for entry in _threads(number, slot, clock)]
    workers = [_worker(number, slot, clock) for number, slot in slots]
    counts = _latencies(scoreboard.header, [slot for _, slot in slots])
    found = _php(scoreboard.header, config, workers, processes, clock)
    found.update(_ours(scoreboard.header, workers, counts, clock))
    found["quarantine"] = _quarantine(scoreboard.quarantine, clock)
    found["workers"] = workers
    found["processes"] = processes
    found["scripts"] = _scripts([slot for _, slot in slots], processes)
    found["latency buckets"] = [[bucket_top(index) / 1000, count] for index, count in enumerate(counts)]
    return found


def shown(text: bytes) -> str:
    """A client's bytes as text of one line; what cannot be shown becomes an escape such as \\x1b."""
    decoded = text.decode("utf-8", "backslashreplace")
    if decoded.isprintable():
        return decoded
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
                   for char in decoded)


def percentile(counts: Sequence[int], share: float) -> float:
    """Milliseconds within which `share` (0 to 1) of the requests were done, even inside a bucket; 0 of none."""
    wanted, seen = share * sum(counts), 0
    for index, count in enumerate(counts):
        if count and seen + count >= wanted:
            bottom, top = bucket_top(index - 1) if index else 0, bucket_top(index)
            return round((bottom + (top - bottom) * (wanted - seen) / count) / 1000, 3)
        seen += count
    return 0.0


def _php(header: Any, config: Any, workers: List[Dict[str, Any]], processes: List[Dict[str, Any]],
         clock: _Clock) -> Dict[str, Any]:
    """The keys of php-fpm, in its order, and "max children", which its users ask for."""
    serving = [worker for worker in workers if worker["state"] != "Starting"]
    active = sum(worker["busy"] for worker in serving)
    # A worker that drains takes no more requests: its other threads are not idle.
    idle = sum(worker["threads"] - worker["busy"] for worker in serving if worker["state"] == "Ready")
    manager = getattr(config, "process_manager", "static")
    most = header.target if manager == "static" and header.target else max(config.worker_count, header.target)
    return {
        "pool": "luafcgid2",
        "process manager": manager,
        "start time": header.since_start,
        "start since": clock.s_since(header.since_start),
        "accepted conn": header.past_accepted + _sum(workers, "accepted conn"),
        "listen queue": header.queue,
        "max listen queue": header.queue_most,
        "listen queue len": header.queue_limit,
        "idle processes": idle,
        "active processes": active,
        "total processes": idle + active,
        "max active processes": max(header.most_busy, active),
        "max children reached": header.limit_reached,
        "slow requests": header.past_slow + _sum(workers, "slow requests"),
        "memory peak": max((entry["last request memory"] for entry in processes), default=0),
        "max children": most * config.worker_threads,
    }


def _ours(header: Any, workers: List[Dict[str, Any]], counts: Sequence[int], clock: _Clock) -> Dict[str, Any]:
    requests = header.past_requests + _sum(workers, "requests")
    busy = header.past_us / 1e6 + _sum(workers, "busy seconds")
    return {
        "now": round(clock.now, 3),
        "version": __version__,
        "generation": header.generation,
        "reloads": header.reloads,
        "reload since": clock.s_since(header.since_reload),
        "total workers": len(workers),
        "restarts": header.restarts,
        "retired": header.retired,
        "requests": requests,
        "errors": header.past_errors + _sum(workers, "errors"),
        "timeouts": header.past_timeouts + _sum(workers, "timeouts"),
        "hung": _sum(workers, "hung"),
        "killed": header.killed,
        "shedding": bool(header.shedding),
        "connections": _sum(workers, "connections"),
        "bytes in": header.past_in + _sum(workers, "bytes in"),
        "bytes out": header.past_out + _sum(workers, "bytes out"),
        "busy seconds": round(busy, 6),
        "cpu seconds": round(header.past_cpu_us / 1e6 + _sum(workers, "cpu seconds"), 6),
        "latency": {"p50 ms": percentile(counts, .5), "p95 ms": percentile(counts, .95),
                    "p99 ms": percentile(counts, .99),
                    "mean ms": round(busy * 1000 / requests, 3) if requests else 0.0},
        "memory": {"pss kb": header.pss_kb, "budget kb": header.budget_kb,
                   "lua heap kb": _sum(workers, "lua heap kb")},
        "lua states": {"total": _sum(workers, "lua states"),
                       "evicted": header.past_evicted + _sum(workers, "evicted states")},
    }


def _worker(number: int, slot: Any, clock: _Clock) -> Dict[str, Any]:
    running = sum(line.state == RUNNING for line in slot.lines)
    threads = min(slot.threads or len(slot.lines), len(slot.lines))
    return {
        "worker": number,
        "pid": slot.pid,
        "state": STATES.get(slot.state, "Starting"),
        "start time": slot.since_start,
        "start since": clock.s_since(slot.since_start),
        "heartbeat ms": clock.us_since(slot.heartbeat) // 1000,
        "threads": threads,
        "busy": min(threads, max(slot.busy, running)),
        "requests": slot.requests,
        "errors": slot.errors,
        "timeouts": slot.timeouts,
        "slow requests": slot.slow,
        "hung": slot.hung,
        "accepted conn": slot.accepted,
        "connections": slot.connections,
        "bytes in": slot.bytes_in,
        "bytes out": slot.bytes_out,
        "busy seconds": slot.busy_us / 1e6,
        "cpu seconds": slot.cpu_us / 1e6,
        "lua states": slot.states,
        "evicted states": slot.evicted,
        "lua heap kb": slot.heap_kb,
        "pss kb": slot.pss_kb,
        "rss kb": slot.rss_kb,
        "own kb": slot.own_kb,
    }


def _threads(number: int, slot: Any, clock: _Clock) -> Iterable[Dict[str, Any]]:
    """php-fpm's entries of ?full.  Ours know no user, no length and no CPU time of one request."""
    if slot.state == STARTING:
        return
    # A Lua state of each script: what is known of a thread's memory is that of the script that it ran last.
    heaps = {line.path: line.heap_kb // max(1, line.states) for line in slot.scripts if line.path}
    for thread, line in enumerate(slot.lines[:slot.threads or None]):
        running = line.state == RUNNING
        lasts = clock.us_since(line.started) if running else 0
        yield {
            "pid": slot.pid,
            "state": "Running" if running else "Idle",
            "start time": slot.since_start,
            "start since": clock.s_since(slot.since_start),
            "requests": line.requests,
            "request duration": lasts,
            "request method": lasts >= DESCRIBED_US and shown(line.method) or "-",
            "request uri": lasts >= DESCRIBED_US and shown(line.uri) or "-",
            "content length": 0,
            "user": "-",
            "script": running and shown(line.script) or "-",
            "last request cpu": 0.0,
            "last request memory": (line.heap_kb or heaps.get(line.script, 0)) * 1024,
            "worker": number,
            "thread": thread,
            "errors": line.errors,
            "bytes in": line.bytes_in,
            "bytes out": line.bytes_out,
        }


def _scripts(slots: List[Any], processes: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """One entry for each script that a present worker reports, the one that took most time first."""
    found: Dict[bytes, Dict[str, Any]] = {}
    for line in (line for slot in slots for line in slot.scripts if line.path):
        total = found.setdefault(line.path, {"requests": 0, "errors": 0, "us": 0, "most": 0, "states": 0, "kb": 0,
                                             "counts": [0] * BUCKETS})
        total["requests"] += line.requests
        total["errors"] += line.errors
        total["us"] += line.busy_us
        total["most"] = max(total["most"], line.most_us)
        total["states"] += line.states
        total["kb"] += line.heap_kb
        total["counts"] = [sum(pair) for pair in zip(total["counts"], line.latencies)]
    running = [entry["script"] for entry in processes]
    return [{
        "script": shown(path),
        "requests": total["requests"],
        "errors": total["errors"],
        "busy seconds": total["us"] / 1e6,
        "mean ms": round(total["us"] / total["requests"] / 1000, 3) if total["requests"] else 0.0,
        # Inside a bucket it is an estimate, which must not pass what is known.
        "p50 ms": min(percentile(total["counts"], .5), total["most"] / 1000),
        "p95 ms": min(percentile(total["counts"], .95), total["most"] / 1000),
        "max ms": total["most"] / 1000,
        "running": running.count(shown(path)),
        "lua states": total["states"],
        "lua heap kb": total["kb"],
    } for path, total in sorted(found.items(), key=lambda item: (-item[1]["us"], item[0]))]


def _quarantine(lines: Iterable[Any], clock: _Clock) -> List[Dict[str, Any]]:
    """The scripts that are answered with 503 now, and for how much longer."""
    return [{"script": shown(line.path), "seconds left": round((line.until - clock.now_ns) / 1e9, 1),
             "level": line.level, "strikes": line.strikes}
            for line in lines if line.path and line.until > clock.now_ns]


def _latencies(header: Any, slots: List[Any]) -> List[int]:
    total: List[int] = header.past_latencies
    for slot in slots:
        for index, count in enumerate(slot.latencies):
            total[index] += count
    return total


def _sum(entries: Iterable[Dict[str, Any]], key: str) -> Any:
    return sum(entry[key] for entry in entries)
