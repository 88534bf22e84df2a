"""The places of a workload, running and asked: what bench.py does to each of them in a round.

In: a workload and its places.  Out: `started` yields an Asked for each, whose `measure` is one run; `first_answers` the
seconds to the first answer.  It says nothing and keeps no figures.
"""
from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
import tempfile
import time
from typing import Dict, Iterator, List, Sequence, Tuple
from urllib.parse import urlsplit

import crowd
import front
import many
import nginx
import processes
import servers
from instance import HERE, Missing, Running, Task
from load import Ask, Meter, Sample, fetch, paced, wrk
from workloads import Place, Workload

sys.path.insert(1, os.path.dirname(HERE))
from luafcgid2 import client  # noqa: E402
from luafcgid2.errors import ProtocolError  # noqa: E402

FIRST_ANSWER_RUNS = 5
FIRST_ANSWER_SECONDS = 30.0
VISITS = b"visits: "


def ask_once(server: servers.Server, path: str, script: str) -> None:
    """One request over FastCGI; raises OSError until the server listens, Missing if the answer is wrong."""
    file = server.script(script)
    params = {"REQUEST_METHOD": "GET", "SCRIPT_FILENAME": file, "SCRIPT_NAME": "/" + os.path.basename(file),
              "DOCUMENT_ROOT": os.path.dirname(file), "QUERY_STRING": "", "SERVER_PROTOCOL": "HTTP/1.1"}
    answer = client.request(path, params, timeout=5.0)
    if answer.status != 200:
        raise Missing("%s answers %d: %r" % (server.title, answer.status, answer.stderr))


def first_answer(server: servers.Server, script: str) -> float:
    """Seconds from the start of the program to its first answer over FastCGI."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, contextlib.ExitStack() as stack:
        if server.key == "c":
            servers.build_responder(folder)
        begun = time.monotonic()
        where = stack.enter_context(server.start(folder, Task(script)))
        while True:
            with contextlib.suppress(OSError, ProtocolError):
                ask_once(server, where.path, script)
                return time.monotonic() - begun
            if time.monotonic() - begun > FIRST_ANSWER_SECONDS:
                raise Missing("%s does not answer" % server.title)
            time.sleep(0.002)


def first_answers(workload: Workload, chosen: Sequence[servers.Server]) -> Dict[str, List[float]]:
    """Several for each server that speaks FastCGI, where they say hello and nothing else is asked."""
    return {server.key: [first_answer(server, workload.asked) for _ in range(FIRST_ANSWER_RUNS)]
            for server in chosen if workload.name == "hello" and server.protocol == "fastcgi"}


class Asked:
    """One place that runs, and how it is asked."""

    def __init__(self, workload: Workload, place: Place, running: Running, url: str, nginx_pids: Sequence[int],
                 folder: str) -> None:
        self.workload, self.place, self.running, self.url = workload, place, running, url
        self._nginx_pids = () if running.url else nginx_pids
        paths = []
        if place.variant.many:
            paths = [urlsplit(url).path.rstrip("/") + "/" + name for name in many.names(place.variant.many)]
        body = os.path.join(folder, "ask.body")
        if workload.body:
            with open(body, "wb") as file:
                file.write(workload.body)
        self._ask = Ask(url, os.path.join(folder, "ask.lua"), workload.method, workload.headers,
                        body if workload.body else "", paths=paths)

    def _fetch(self, cookie: str = "") -> Tuple[bytes, str]:
        path = self._ask.paths[0] if self._ask.paths else urlsplit(self.url).path
        return fetch("http://%s%s" % (urlsplit(self.url).netloc, path),
                     {**self.workload.headers, **({"Cookie": cookie} if cookie else {})}, self.workload.body)

    def prepare(self) -> None:
        """Ask until it answers, look at the answer, and let it run for a second."""
        deadline = time.monotonic() + FIRST_ANSWER_SECONDS
        while True:
            try:
                body, _cookie = self._fetch()
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise Missing("%s: %s" % (self.url, error)) from None
                time.sleep(0.05)
        if not re.fullmatch(self.workload.expects, body):
            raise Missing("%s answers %r, not %r" % (self.place.title, body[:200], self.workload.expects))
        if self.workload.name == "session":
            cookies = [self._fetch()[1] for _ in range(self.workload.connections)]
            self._ask = dataclasses.replace(self._ask, cookies=cookies)
        wrk(self._ask, 1, self.workload.connections)
        for cookie in self._ask.cookies:
            # A server that refused the sessions would have begun new ones.
            body = self._fetch(cookie)[0]
            if not body.startswith(VISITS) or int(body[len(VISITS):]) < 3:
                raise Missing("%s: a session is not kept: %r" % (self.url, body[:200]))

    def measure(self, seconds: float) -> Sample:
        """One run."""
        idle = self.place.variant.idle
        before = processes.pss_bytes(self.running.pids)
        with crowd.crowd(self.running.path, idle, crowd.KEPT) if idle else contextlib.nullcontext():
            meter = Meter(self.running.pids, self._nginx_pids)
            with meter:
                if self.workload.slow:
                    slow = "" if self.place.variant.alone else urlsplit(self.url).path + nginx.SLOW
                    told = paced(self.url, slow, seconds, self.workload.connections)
                else:
                    told = wrk(self._ask, seconds, self.workload.connections)
            return meter.sample(told, idle, before)


@contextlib.contextmanager
def started(workload: Workload, there: Sequence[Place], nginx_workers: int) -> Iterator[List[Asked]]:
    """Every place of the workload with a server of its own, all behind one nginx, each asked once.

    Connections that nginx keeps open would hold the processes of servers that serve one connection at a time: so each
    mode has a server of its own, too.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, contextlib.ExitStack() as stack:
        os.chmod(folder, 0o755)
        tasks: Dict[str, Tuple[Place, Task, Running]] = {}
        scripts = os.path.join(folder, "scripts")
        if any(place.variant.many for place in there):
            many.write(scripts, max(place.variant.many for place in there))
        for place in there:
            os.mkdir(os.path.join(folder, place.name))
            task = Task(workload.asked, workload.slow, place.variant.settings, scripts if place.variant.many else "",
                        nginx_workers)
            running = stack.enter_context(place.server.start(os.path.join(folder, place.name), task))
            tasks[place.name] = (place, task, running)
        urls, pids = stack.enter_context(front.started(folder, nginx_workers, tasks))
        asked = [Asked(workload, place, running, urls[name], pids, os.path.join(folder, name))
                 for name, (place, _, running) in tasks.items()]
        for one in asked:
            one.prepare()
        yield asked
