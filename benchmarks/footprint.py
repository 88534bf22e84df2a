"""What luafcgid2 takes while nobody asks: memory of a worker and of a Lua state, wake-ups, the time to begin.

In: rounds and seconds.  Out: `measure`, the one row of the workload `footprint`, as report.summary makes rows of
others.  bench.py calls it.  It makes no load.
"""
from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from typing import Any, Dict, List

import asking
import processes
import servers
from instance import Missing, Task
from workloads import OURS

# Settings of two servers that differ in so many workers, and of two that differ in so many states of one script.
WORKERS, STATES = 4, 40
MORE_WORKERS = ("Workers = 2", "Workers = %d" % (2 + WORKERS))
MORE_STATES = tuple("Workers = 1\nLuaStates = %d\nLuaMaxStates = %d" % (states, states)
                    for states in (1, 1 + STATES))
QUIET_SECONDS, READY_SECONDS = 2.0, 30.0


def rest(settings: str, seconds: float) -> Dict[str, float]:
    """Bytes of a server that has answered once and is left alone, and its wake-ups a second in the `seconds` after."""
    server = servers.SERVERS[OURS]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        with server.start(folder, Task("hello", settings=settings)) as running:
            deadline = time.monotonic() + READY_SECONDS
            while True:
                with contextlib.suppress(OSError):
                    asking.ask_once(server, running.path, "hello")
                    break
                if time.monotonic() > deadline:
                    raise Missing("%s does not answer: see %s" % (server.title, os.path.join(folder, "luafcgid2.log")))
                time.sleep(0.01)
            time.sleep(QUIET_SECONDS)
            before = processes.switches(running.pids)
            time.sleep(seconds)
            after = processes.switches(running.pids)
            return {"pss": processes.pss_bytes(running.pids), "wakeups": (after - before) / seconds}


def measure(rounds: int, seconds: float) -> Dict[str, Any]:
    """Medians of the rounds: `pss` of two workers, `worker` and `clone` bytes of one more, `wakeups` a second,
    `first_answer` in seconds."""
    found: Dict[str, List[float]] = {}
    for _ in range(rounds):
        two, more = (rest(settings, seconds) for settings in MORE_WORKERS)
        one, clones = (rest(settings, seconds) for settings in MORE_STATES)
        for key, value in (("pss", two["pss"]), ("wakeups", two["wakeups"]),
                           ("worker", (more["pss"] - two["pss"]) / WORKERS),
                           ("clone", (clones["pss"] - one["pss"]) / STATES),
                           ("first_answer", asking.first_answer(servers.SERVERS[OURS], "hello"))):
            found.setdefault(key, []).append(value)
    row = {key: statistics.median(values) for key, values in found.items()}
    return {OURS: {**row, "failures": 0, "server": OURS, "title": servers.SERVERS[OURS].title}}
