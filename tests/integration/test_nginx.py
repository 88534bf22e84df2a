"""Behind a real nginx, in three ways: the project's own files (kept connections), without keep-conn, unbuffered."""
from __future__ import annotations

import os

import pytest

from harness import Site
from promises import MAX_POST, Promises, env
from servers import Master, Nginx

LOCATION = """
        location ~ [^/]\\.lua(/|$) {
            fastcgi_split_path_info ^(.+?\\.lua)(/.*)$;
            include fastcgi.conf;
            fastcgi_param PATH_INFO $fastcgi_path_info;
"""
BODIES = {
    "snippet": "include %(snippet)s;",
    "without-keep-conn": LOCATION + "fastcgi_pass unix:%(socket)s; }",
    "unbuffered": LOCATION + "fastcgi_pass luafcgid2; fastcgi_keep_conn on; fastcgi_request_buffering off; "
                             "fastcgi_buffering off; }",
}


def connections(socket_path: str) -> int:
    """How many connections to a unix socket somebody has open (the state column 03 of /proc/net/unix)."""
    with open("/proc/net/unix") as file:
        rows = [line.split() for line in file]
    return sum(1 for row in rows if row[-1] == socket_path and row[5] == "03")


@pytest.fixture(scope="module")
def nginx(served_by):
    """One master and one nginx for all tests of this module."""
    with Site() as site, Master(site, MaxPostSize=MAX_POST) as master, Nginx(site, master, BODIES) as server:
        server.site, server.master = site, master
        yield server


@pytest.fixture(params=BODIES)
def web(request, nginx):
    """nginx, asked on the port of one of the three."""
    nginx.port = nginx.ports[request.param]
    return nginx


class TestNginx(Promises):
    """All promises, each in three ways."""

    def test_bytes_that_are_no_text_come_in_the_query_string(self, web: Nginx) -> None:
        assert env(web.request("/env.lua?a=%00%ff"))["QUERY_STRING"] == "a=%00%ff"


def test_the_snippet_keeps_its_connections_and_uses_them_again(nginx: Nginx) -> None:
    nginx.port = nginx.ports["snippet"]
    assert nginx.request("/respond.lua").status == 200
    kept = connections(nginx.master.address)
    for _ in range(20):
        assert nginx.request("/respond.lua").status == 200
    assert connections(nginx.master.address) == kept > 0


def test_a_restarted_server_is_found_again(site: Site, start) -> None:
    master = start(Master, site)
    nginx = start(Nginx, site, master)
    assert nginx.request("/respond.lua").status == 200
    master.stop()
    assert not os.path.exists(master.address)
    nginx.expect_errors("connect\\(\\) to unix:")
    assert nginx.request("/respond.lua").status == 502
    master.start()
    assert nginx.request("/respond.lua").status == 200
