"""Changes under load, behind nginx with kept connections: SIGHUP, edits, a killed worker, a graceful stop."""
from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator, List

import pytest

from harness import Site, children, is_alive, wait_until
from servers import Master, Nginx, Web, ask

from luafcgid2.scoreboard import Scoreboard

CLIENTS = 8
VERSION = "function main() Send('version %d') end"


class Load:
    """`CLIENTS` threads that ask for `path` until told to stop; what they got is in `statuses` and `bodies`."""

    def __init__(self, web: Web, path: str) -> None:
        self.web, self.path = web, path
        self.statuses: Counter = Counter()
        self.bodies: Counter = Counter()
        self.answers = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.wait(CLIENTS)
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.web.port, timeout=60)) as connection:
            while not self._over.is_set():
                answer = ask(connection, self.path)
                with self._lock:
                    self.answers += 1
                    self.statuses[answer.status] += 1
                    if answer.status == 200:
                        self.bodies[answer.body] += 1

    def wait(self, more: int) -> None:
        """Until so many more answers have come."""
        goal = self.answers + more
        wait_until(lambda: self.answers >= goal, "%d more answers" % more)


@pytest.fixture
def servers(site: Site, start) -> Iterator[tuple]:
    """A master that looks at files only when told to, nginx in front, a script in its first version."""
    site.write("version.lua", VERSION % 0)
    master = start(Master, site, MinFileInfoTime=3600000)
    yield site, master, start(Nginx, site, master)


def test_an_edit_is_seen_after_sighup_and_no_request_fails(servers: tuple) -> None:
    site, master, nginx = servers
    with Load(nginx, "/version.lua") as load:
        for number in range(1, 11):
            site.write("version.lua", VERSION % number)
            master.reload()
            # Both workers, and more requests than either has Lua states.
            assert {nginx.request("/version.lua").body for _ in range(20)} == {b"version %d" % number}
            load.wait(50)
    assert set(load.statuses) == {200}
    assert set(load.bodies) == {b"version %d" % number for number in range(11)}


def test_after_sighup_nobody_gets_the_old_version_while_the_new_one_is_being_built(site: Site, start) -> None:
    site.write("version.lua", VERSION % 1)
    master = start(Master, site, Workers=1, MinFileInfoTime=3600000)
    nginx = start(Nginx, site, master)
    assert {nginx.request("/version.lua").body for _ in range(10)} == {b"version 1"}
    site.write("version.lua", "os.execute('sleep 0.3')\n" + VERSION % 2)
    master.reload()
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: nginx.request("/version.lua").body, range(12)))
    assert set(answers) == {b"version 2"}


def test_sighups_in_quick_succession_fail_no_request(servers: tuple) -> None:
    _, master, nginx = servers
    with Load(nginx, "/version.lua") as load:
        for _ in range(200):
            os.kill(master.pid, signal.SIGHUP)
            load.wait(2)
    assert set(load.statuses) == {200}


def serve_by_all(master: Master, nginx: Nginx) -> None:
    """Ask until each worker has loaded the script."""
    def loaded() -> bool:
        with ThreadPoolExecutor(CLIENTS) as threads:
            list(threads.map(lambda _: nginx.request("/version.lua"), range(CLIENTS)))
        return all(slot.requests for _, slot in Scoreboard.of(master.pid).workers())
    wait_until(loaded, "an answer of each worker")


def test_a_broken_edit_keeps_the_last_good_version_serving(servers: tuple) -> None:
    site, master, nginx = servers
    master.expect_errors("version.lua")
    with Load(nginx, "/version.lua") as load:
        serve_by_all(master, nginx)
        site.write("version.lua", "function main() Send('half an up")
        master.reload()
        load.wait(200)
        site.write("version.lua", VERSION % 2)
        master.reload()
        assert {nginx.request("/version.lua").body for _ in range(20)} == {b"version 2"}
    assert set(load.bodies) == {b"version 0", b"version 2"}
    assert set(load.statuses) == {200}


def test_a_killed_worker_costs_its_own_requests_only_and_is_replaced(servers: tuple) -> None:
    _, master, nginx = servers
    master.expect_errors("was killed by SIGKILL")
    nginx.expect_errors(r"upstream prematurely closed|(recv|writev)\(\) failed")
    killed: List[int] = []
    with Load(nginx, "/version.lua") as load:
        for _ in range(3):
            victim = master.workers()[0]
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
            wait_until(lambda gone=victim: not is_alive(gone) and len(master.workers()) == 2, "a new worker")
            load.wait(100)
    assert set(load.statuses) <= {200, 502}
    # Each client has one request under way; nginx repeats those that died with a kept connection.
    assert load.statuses[502] <= CLIENTS * len(killed)
    assert not set(master.workers()) & set(killed)
    assert {nginx.request("/version.lua").status for _ in range(50)} == {200}


def test_a_graceful_stop_answers_what_is_under_way(servers: tuple) -> None:
    site, master, nginx = servers
    go = os.path.join(site.run, "go")
    # Until the test says so, or has failed.
    site.write("slow.lua", "function main() os.execute('while [ -d %s ] && [ ! -e %s ]; do sleep 0.05; done') "
               "Send('done') end" % (site.run, go))
    answers: List[object] = []
    threads = [threading.Thread(target=lambda: answers.append(nginx.request("/slow.lua"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: sum(len(children(worker)) for worker in master.workers()) == 4, "four requests under way")
    os.kill(master.pid, signal.SIGTERM)
    wait_until(lambda: not os.path.exists(master.address), "the graceful stop")
    open(go, "w").close()
    assert master.stop() == 0
    for thread in threads:
        thread.join()
    assert [answer.body for answer in answers] == [b"done"] * 4
