"""Two machines, one nginx, one Redis, with the files of etc/several-machines: masters on 127.0.0.1 and 127.0.0.2."""
from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import urllib.parse
import urllib.request
from collections import Counter
from http.cookiejar import CookieJar
from typing import Dict, Iterator, List, Optional, Tuple

import pytest

from harness import ROOT, Site, accepts, free_port, is_alive, program, wait_until
from servers import Master, Nginx, lua_value
from visitors import STORE, RedisServer

FILES = os.path.join(ROOT, "etc", "several-machines")
VISITORS, CLIENTS = 12, 4
WHERE = """
function main()
  Header("X-Machine", Config.machine)
  Send(tostring(Session.GetVar("login", "name")) .. " " .. Shared.Incr("visits", 1, 0))
end
"""


class Machine(Master):
    """A master with etc/several-machines/config.lua, at its own address; only what concerns the test is added."""

    def __init__(self, site: Site, name: str, address: Tuple[str, int], store: str) -> None:
        self._place = {"10.0.0.11:9000": "%s:%d" % address, '"%s"' % STORE: '"%s"' % store}
        super().__init__(site, name, Listen=None, SessionStore=None, Config={"machine": name})
        self.address = address

    def write_config(self) -> None:
        super().write_config()
        with open(os.path.join(FILES, "config.lua"), encoding="utf-8") as file:
            text = file.read()
        for old, new in self._place.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        with open(self.config, "a", encoding="utf-8") as file:
            file.write(text)

    def power_off(self) -> None:
        """The master and its workers die at once."""
        pids = [self.pid, *self.workers()]
        # Nobody has the time to notice that the other is gone.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                os.kill(pid, number)
        self.stop(signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, pids)) and not accepts(self.address), "the machine is off")


class Balancer(Nginx):
    """nginx with etc/several-machines/luafcgid2-upstream.conf."""

    def __init__(self, site: Site, machines: List[Machine]) -> None:
        self._machines = machines
        super().__init__(site, machines[0])

    def write_upstream(self, site: Site, master: Master) -> None:
        site.snippet("several-machines/luafcgid2-upstream.conf", {
            "10.0.0.1%d:9000" % number: "%s:%d" % machine.address for number, machine in enumerate(self._machines, 1)})


class Browser:
    """A browser of its own, on the real nginx."""

    def __init__(self, web: Nginx) -> None:
        self._base = "http://127.0.0.1:%d/" % web.port
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(CookieJar()))

    def ask(self, path: str, post: Optional[Dict[str, str]] = None) -> Tuple[str, str]:
        """(the machine's name, the page); OSError for a status of 400 and more."""
        data = None if post is None else urllib.parse.urlencode(post).encode()
        with self._opener.open(self._base + path, data, timeout=60) as answer:
            return answer.headers.get("X-Machine", ""), answer.read().decode()

    def log_in(self) -> "Browser":
        """With the login example."""
        assert "Hello, guest!" in self.ask("login.lua", {"name": "guest", "password": "lua"})[1]
        return self


@contextlib.contextmanager
def running(tls: Optional[Tuple[str, str]] = None) -> Iterator[Tuple[List[Machine], Nginx]]:
    """Redis, two machines, nginx."""
    with Site() as site, contextlib.ExitStack() as stack:
        site.write("where.lua", WHERE)
        for name in ("login.lua", "lib/page.lua"):
            with open(os.path.join(ROOT, "examples", name), encoding="utf-8") as file:
                site.write(name, file.read())
        redis = stack.enter_context(RedisServer(site, tls))
        port = free_port()
        machines = [stack.enter_context(Machine(site, name, (ip, port), redis.url))
                    for name, ip in (("one", "127.0.0.1"), ("two", "127.0.0.2"))]
        yield machines, stack.enter_context(Balancer(site, machines))


def seen_from_both(browser: Browser) -> None:
    """Whichever machine nginx chooses, it knows this visitor."""
    answers = [browser.ask("where.lua") for _ in range(8)]
    assert {machine for machine, _ in answers} == {"one", "two"}
    assert {page.split()[0] for _, page in answers} == {"guest"}


def test_a_login_and_a_counter_on_one_machine_are_seen_on_the_other() -> None:
    with running() as (_, nginx):
        strangers = [Browser(nginx).ask("where.lua") for _ in range(6)]
        assert [page for _, page in strangers] == ["nil %d" % number for number in range(1, 7)]
        assert {machine for machine, _ in strangers} == {"one", "two"}
        for _ in range(2):
            seen_from_both(Browser(nginx).log_in())


def test_a_machine_that_dies_loses_no_session_and_no_request() -> None:
    with running() as (machines, nginx):
        browsers = [Browser(nginx).log_in() for _ in range(VISITORS)]
        nginx.expect_errors(r"connect\(\) failed|upstream prematurely closed|(recv|writev|readv)\(\) failed|"
                            "no live upstreams|upstream server temporarily disabled")
        machines[0].expect_errors("SIGKILL|the master is gone")
        before, after, failures = Counter(), Counter(), []
        off, over = threading.Event(), threading.Event()

        def keep_asking(mine: List[Browser]) -> None:
            try:
                while not over.is_set():
                    for browser in mine:
                        dead = off.is_set()
                        machine, page = browser.ask("where.lua")
                        assert page.startswith("guest "), page
                        (after if dead else before)[machine] += 1
            except (OSError, AssertionError) as error:
                failures.append(error)
        threads = [threading.Thread(target=keep_asking, args=(browsers[number::CLIENTS],)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: failures or min(before["one"], before["two"]) > 50, "answers of both machines")
            machines[0].power_off()
            off.set()
            wait_until(lambda: failures or after["two"] > 100, "answers of the machine that is left")
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert failures == []
        assert set(after) == {"two"}
        # And somebody new.
        assert Browser(nginx).log_in().ask("where.lua")[0] == "two"


def test_over_tls_a_login_on_one_machine_is_seen_on_the_other(tmp_path) -> None:
    certificate, key = str(tmp_path / "redis.crt"), str(tmp_path / "redis.key")
    subprocess.run([program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                    "-nodes", "-keyout", key, "-out", certificate, "-days", "30", "-subj", "/CN=redis",
                    "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with running((certificate, key)) as (_, nginx):
        seen_from_both(Browser(nginx).log_in())


@pytest.mark.parametrize("name", sorted(os.listdir(FILES)))
def test_the_chapter_shows_the_files_as_they_are(name: str) -> None:
    with open(os.path.join(ROOT, "docs", "several-machines.rst"), encoding="utf-8") as file:
        chapter = file.read()
    with open(os.path.join(FILES, name), encoding="utf-8") as file:
        lines = ["    " + line if line.strip() else line for line in file]
    assert "".join(lines) in chapter


def test_lua_values_of_this_test_are_what_the_file_has() -> None:
    with open(os.path.join(FILES, "config.lua"), encoding="utf-8") as file:
        assert "SessionStore = %s\n" % lua_value(STORE) in file.read()
