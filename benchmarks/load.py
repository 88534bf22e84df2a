"""Requests over HTTP, many at a time or a few that are paced, and what they cost.

In: the URL of a place and the servers behind it.  Out: a Sample for each run.  asking.py calls it.  wrk makes the load
where the server is to be busy; where it is to wait, threads of this process do, which ask and pause in turn.
"""
from __future__ import annotations

import http.client
import json
import math
import os
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import List, Mapping, Sequence, Tuple

import processes
from instance import HERE, Missing

# The paced load: so many quick requests to one slow one, which takes so many seconds.
QUICK_PER_SLOW, SLOW_SECONDS = 10, 0.1


@dataclass(frozen=True)
class Sample:
    """One run against one place.  `p50`, `p99`, `p999` in milliseconds; `cpu` of the server in microseconds per
    request, `cpu_all` together with nginx's; `pss` in bytes at the end of the run, `each` the bytes that an idle
    connection beside it takes of that, 0 if there was none."""

    rate: float
    p50: float
    p99: float
    p999: float
    cpu: float
    cpu_all: float
    pss: int
    failures: int
    each: float = 0.0


@dataclass(frozen=True)
class Ask:
    """What wrk sends: cookies and paths are taken in turn."""

    url: str
    file: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    cookies: Sequence[str] = ()
    paths: Sequence[str] = ()

    def write(self) -> None:
        """The file that report.lua reads.  JSON's strings are Lua's as long as they are ASCII without escapes."""
        lines = ["method = %s," % json.dumps(self.method)]
        if self.body:
            lines.append("body = %s," % json.dumps(self.body))
        for name, values in (("cookies", self.cookies), ("paths", self.paths)):
            lines.append("%s = {%s}," % (name, ", ".join(map(json.dumps, values))))
        lines.append("headers = {%s}," % ", ".join(
            "[%s] = %s" % (json.dumps(key), json.dumps(value)) for key, value in self.headers.items()))
        with open(self.file, "w", encoding="ascii") as file:
            file.write("return {\n  %s\n}\n" % "\n  ".join(lines))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least `share` percent of them do not exceed; 0 if there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)] if ordered else 0.0


def fetch(url: str, headers: Mapping[str, str], body: bytes = b"") -> Tuple[bytes, str]:
    """The body of one answer, and the cookie that it sets as `name=value`; raises OSError for a status other
    than 2xx.  The client's name is wrk's, none: a session may be bound to it."""
    request = urllib.request.Request(url, headers={"User-Agent": "", **headers}, data=body or None)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read(), answer.headers.get("Set-Cookie", "").partition(";")[0]


def wrk(ask: Ask, seconds: float, connections: int) -> Mapping[str, float]:
    """One run of wrk in one thread; keys as in report.lua.  Raises Missing."""
    program = shutil.which("wrk")
    if program is None:
        raise Missing("wrk is not installed: apt-get install wrk")
    ask.write()
    command = [program, "-t1", "-c%d" % connections, "-d%ds" % seconds,
               "-s", os.path.join(HERE, "report.lua"), ask.url, "--", ask.file]
    done = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def paced(url: str, slow: str, seconds: float, connections: int) -> Mapping[str, float]:
    """Quick requests, and after some of them a slow one, on kept connections, each of a thread; no figure is that of a
    slow one.  Without the path `slow` the thread waits as long instead."""
    address = urllib.parse.urlsplit(url)
    found: List[float] = []
    failed: List[str] = []
    begun = time.monotonic()

    def ask(connection: http.client.HTTPConnection, path: str) -> float:
        sent = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            failed.append("%s: %d" % (path, answer.status))
        return (time.perf_counter() - sent) * 1e3

    def client(number: int) -> None:
        connection = http.client.HTTPConnection(address.netloc, timeout=30)
        time.sleep(number * SLOW_SECONDS / connections)
        try:
            while time.monotonic() - begun < seconds:
                for _ in range(QUICK_PER_SLOW):
                    found.append(ask(connection, address.path))
                if slow:
                    ask(connection, slow)
                else:
                    time.sleep(SLOW_SECONDS)
        except OSError as error:
            failed.append(str(error))
        finally:
            connection.close()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"requests": len(found), "seconds": time.monotonic() - begun, "failures": len(failed),
            **{key: percentile(found, share) for key, share in (("p50", 50), ("p99", 99), ("p999", 99.9))}}


class Meter:
    """What the servers `pids`, and nginx `front`, use while the block runs."""

    def __init__(self, pids: Sequence[int], front: Sequence[int]) -> None:
        self._pids, self._front = pids, front
        self.cpu = self.cpu_front = 0.0

    def __enter__(self) -> Meter:
        self.cpu = -processes.cpu_seconds(self._pids)
        self.cpu_front = -processes.cpu_seconds(self._front)
        return self

    def __exit__(self, *failure: object) -> None:
        self.cpu += processes.cpu_seconds(self._pids)
        self.cpu_front += processes.cpu_seconds(self._front)

    def sample(self, told: Mapping[str, float], idle: int = 0, before: int = 0) -> Sample:
        """`told` by the load; `before`: the server's memory before `idle` connections came."""
        requests, pss = max(1, told["requests"]), processes.pss_bytes(self._pids)
        return Sample(
            rate=told["requests"] / told["seconds"], p50=told["p50"], p99=told["p99"], p999=told["p999"],
            cpu=self.cpu * 1e6 / requests, cpu_all=(self.cpu + self.cpu_front) * 1e6 / requests, pss=pss,
            failures=int(told["failures"]), each=(pss - before) / idle if idle else 0.0)
