"""Behind a real lighttpd: beside a running server, starting the server itself, and with spawn-fcgi."""
from __future__ import annotations

import os
import sys

import pytest

from harness import Server, Site, children, is_alive, program, wait_until
from luafcgid2 import client
from promises import MAX_POST, Promises
from servers import DEFAULT_SOCKET, Lighttpd, Master

BIN_PATH = "/usr/local/bin/luafcgid2 /etc/luafcgid2/config.lua"
SPAWNED_SOCKET = "/var/tmp/luafcgid2-lighttpd.sock"


@pytest.fixture(scope="module")
def web(served_by):
    """One master and one lighttpd for all tests of the class."""
    with Site() as site, Master(site, MaxPostSize=MAX_POST) as master, \
            Lighttpd(site, "lighttpd/luafcgid2.conf", {DEFAULT_SOCKET: master.address}) as server:
        server.site, server.master = site, master
        yield server


class TestLighttpd(Promises):
    """All promises, with the project's own file."""

    def test_the_source_of_a_script_is_never_sent(self, web: Lighttpd) -> None:
        for path in ("/echo.lua", "/echo%2elua", "/ECHO.lua", "/echo.lua/", "/sub/../echo.lua"):
            assert b"Receive" not in web.request(path).body


def test_lighttpd_starts_the_server_and_ends_it(site: Site, start) -> None:
    master = Master(site, Listen=None, PidFile="")
    spawned = os.path.join(site.run, "spawned.sock")
    replacements = {BIN_PATH: "%s -m luafcgid2 %s" % (sys.executable, master.config), SPAWNED_SOCKET: spawned}
    lighttpd = start(Lighttpd, site, "lighttpd/luafcgid2-spawn.conf", replacements)
    for number in range(30):
        assert lighttpd.request("/respond.lua?body=%d" % number).body == b"%d" % number
    (pid,) = children(lighttpd.pid)
    family = [pid] + children(pid)
    assert len(family) == 3
    lighttpd.stop()
    wait_until(lambda: not any(map(is_alive, family)), "master and workers have left")
    assert not [name for name in os.listdir(site.run) if name.startswith("spawned")]


class Spawned(Master):
    """The master under spawn-fcgi, which opens the socket and stays out of the way."""

    def __init__(self, site: Site) -> None:
        super().__init__(site, Listen=None)
        self.argv = [program("spawn-fcgi"), "-n", "-s", self.address, "--"] + self.argv


def test_spawn_fcgi_hands_over_the_socket(site: Site, start) -> None:
    server: Server = start(Spawned, site)
    params = {"SCRIPT_FILENAME": os.path.join(site.www, "respond.lua"), "DOCUMENT_ROOT": site.www,
              "REQUEST_METHOD": "GET", "QUERY_STRING": "body=spawned"}
    for _ in range(20):
        assert client.request(server.address, params).body == b"spawned"
