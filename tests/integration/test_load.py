"""Under constant load from nginx everything changes, again and again, and no request fails.

nginx repeats a GET that a closed connection has swallowed, but no POST; its error log must be clean in any case.
LUAFCGID2_LOAD_SECONDS is how long, 8 unless set.
"""
from __future__ import annotations

import itertools
import os
import random
import re
import signal
import subprocess
import time

import pytest
from controlled import Daemon
from harness import is_alive, wait_until
from servers import Nginx

SECONDS = int(os.environ.get("LUAFCGID2_LOAD_SECONDS", "8"))
HELLO = "function main() Send('hello') end"
CONNECTIONS = 8
# What nginx says when it finds a kept connection closed under it; it sends the request again then.
REPEATED = r"upstream prematurely closed|(recv|writev)\(\) failed"


@pytest.fixture
def server(site):
    """Two workers in the background."""
    site.write("hello.lua", HELLO)
    with Daemon(site, Config={"number": 0}) as daemon:
        yield daemon


class Wrk:
    """wrk against a page, until the block ends, which should go on while it `runs`: for SECONDS.  Afterwards `requests`
    and `failed`: those without a good answer."""

    def __init__(self, url: str, script: str = "") -> None:
        more = ["-s", script] if script else []
        self._command = ["wrk", "-t1", "-c%d" % CONNECTIONS, "-d%ds" % (SECONDS + 120), "--timeout", "30s",
                         *more, url]

    def __enter__(self) -> Wrk:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        self._ends = time.monotonic() + SECONDS
        return self

    def __exit__(self, kind: object, *failure: object) -> None:
        # When it is interrupted it says what it has seen.
        self._process.send_signal(signal.SIGINT if kind is None else signal.SIGKILL)
        self.text = self._process.communicate(timeout=60)[0]
        if kind is None:
            self.requests = int(re.search(r"(\d+) requests in", self.text).group(1))
            # "Non-2xx or 3xx responses: 5" and "Socket errors: connect 0, read 5, write 0, timeout 0"
            errors = re.findall(r"(?:Non-2xx[^:]*|connect|read|write|timeout)[: ]+(\d+)", self.text)
            self.failed = sum(map(int, errors))

    @property
    def runs(self) -> bool:
        assert self._process.poll() is None, "wrk has ended"
        return time.monotonic() < self._ends


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_reloads_new_configurations_upgrades_and_log_rotations_fail_no_request(site, server, start, method):
    nginx = start(Nginx, site, server)
    script = os.path.join(site.run, "wrk.lua")
    with open(script, "w") as file:
        file.write("wrk.method = '%s' wrk.body = 'a=b'" % method)
    done = dict.fromkeys(("reload", "change", "upgrade", "reopen"), 0)
    with Wrk("http://127.0.0.1:%d/hello.lua" % nginx.port, script) as wrk:
        for number in itertools.count(1):
            for verb in done:
                began = time.monotonic()
                # Everything once, however long it takes.
                if not wrk.runs and min(done.values()):
                    break
                if verb == "change":
                    server.change(Config={"number": number})
                if verb == "reopen":
                    os.replace(server.log, server.log + ".1")
                assert server.ctl("reload" if verb == "change" else verb).returncode == 0
                done[verb] += 1
                wait_until(lambda since=began: time.monotonic() > since + 0.25, "a quarter of a second")
            if not wrk.runs:
                break
    print("\n%s\n%s" % (wrk.text, done))
    assert wrk.requests > 0 and min(done.values()) > 0
    assert wrk.failed == 0, wrk.text


def test_a_worker_killed_each_second_costs_only_its_own_requests_and_is_back_soon(site, server, start):
    server.expect_errors("was killed by SIGKILL")
    nginx = start(Nginx, site, server)
    nginx.expect_errors(REPEATED)
    kills, longest = 0, 0.0
    with Wrk("http://127.0.0.1:%d/hello.lua" % nginx.port) as wrk:
        while wrk.runs:
            began = time.monotonic()
            victim = random.choice(server.serving())
            os.kill(victim, signal.SIGKILL)
            kills += 1
            wait_until(lambda gone=victim: not is_alive(gone) and len(set(server.serving()) - {gone}) == 2,
                       "the worker is back")
            longest = max(longest, time.monotonic() - began)
            wait_until(lambda since=began: time.monotonic() > since + 1, "a second")
    print("\n%s\n%d kills, back after %.3f s at most" % (wrk.text, kills, longest))
    assert wrk.failed <= kills * CONNECTIONS, wrk.text
    assert server.ask("hello.lua") == "hello"
