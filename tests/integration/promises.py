"""What holds behind every web server: a class of tests that test_nginx.py and test_lighttpd.py inherit.

In:  a fixture `web`: a servers.Web whose `port` leads to the scripts, with its `site` and its `master`.
Each test is one promise; they share one master, so none may leave it changed.
"""
from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Dict

import pytest

from servers import Answer, Web, ask

MAX_POST = 21 << 20
SIZES = (0, 1, 65535, 65536, 1 << 20, 20 << 20)
PATTERN = bytes(range(251))


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def env(answer: Answer) -> Dict[str, str]:
    """Env as env.lua dumps it."""
    assert answer.status == 200
    parts = answer.body.decode("latin-1").split("\0")
    return dict(zip(parts[::2], parts[1::2]))


class Promises:
    """See the module's contract."""

    @pytest.mark.parametrize("size", SIZES)
    def test_a_body_comes_up_and_goes_down_unchanged(self, web: Web, size: int) -> None:
        body = os.urandom(size)
        answer = web.request("/echo.lua", "POST", body, {"Content-Type": "application/octet-stream"})
        assert (answer.status, len(answer.body), sha(answer.body)) == (200, size, sha(body))
        assert answer.headers["Content-Length"] == str(size)

    @pytest.mark.parametrize("size", SIZES)
    def test_a_generated_body_goes_down_whole(self, web: Web, size: int) -> None:
        answer = web.request("/bytes.lua?%d" % size)
        expected = (PATTERN * (size // 251 + 1))[:size]
        assert (answer.status, len(answer.body), sha(answer.body)) == (200, size, sha(expected))

    def test_a_chunked_upload_arrives_whole(self, web: Web) -> None:
        pieces = [os.urandom(40000) for _ in range(10)]
        answer = web.request("/echo.lua", "POST", iter(pieces))
        assert (answer.status, sha(answer.body)) == (200, sha(b"".join(pieces)))

    def test_head_has_the_headers_of_get_and_no_body(self, web: Web) -> None:
        get, head = web.request("/bytes.lua?5000"), web.request("/bytes.lua?5000", "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["Content-Length"] == get.headers["Content-Length"] == "5000"
        assert head.headers["Content-Type"] == get.headers["Content-Type"]

    def test_a_script_that_is_not_there_is_404(self, web: Web) -> None:
        answer = web.request("/missing.lua")
        assert answer.status == 404
        assert web.site.path.encode() not in answer.body

    def test_a_directory_runs_its_index(self, web: Web) -> None:
        assert web.request("/sub/").body == b"index of /sub/index.lua"

    def test_other_files_stay_with_the_web_server(self, web: Web) -> None:
        assert web.request("/plain.txt").body == b"plain file\n"

    def test_the_query_string_comes_byte_by_byte(self, web: Web) -> None:
        query = "a=1&b=%C3%BC%26&c=x+y%2B&d&;e=f?g/h"
        assert env(web.request("/env.lua?" + query))["QUERY_STRING"] == query

    def test_what_follows_the_script_is_path_info(self, web: Web) -> None:
        found = env(web.request("/env.lua/extra/p%20q?x=1"))
        assert (found["PATH_INFO"], found["SCRIPT_NAME"]) == ("/extra/p q", "/env.lua")
        assert found["SCRIPT_FILENAME"] == os.path.join(web.site.www, "env.lua")
        assert found["DOCUMENT_ROOT"].rstrip("/") == web.site.www
        assert found["REQUEST_URI"] == "/env.lua/extra/p%20q?x=1"

    def test_without_path_info_there_is_none(self, web: Web) -> None:
        assert env(web.request("/env.lua")).get("PATH_INFO", "") == ""

    def test_a_header_of_more_than_127_bytes_arrives(self, web: Web) -> None:
        sent = {"X-Long": "v" * 3000, "X-" + "N" * 150: "long name"}
        found = env(web.request("/env.lua", headers=sent))
        assert found["HTTP_X_LONG"] == "v" * 3000
        assert found["HTTP_X_" + "N" * 150] == "long name"

    def test_a_proxy_header_does_not_become_http_proxy(self, web: Web) -> None:
        assert not env(web.request("/env.lua", headers={"Proxy": "http://evil.test"})).get("HTTP_PROXY")

    def test_a_posted_form_is_parsed(self, web: Web) -> None:
        answer = web.request("/form.lua", "POST", "name=J%C3%BCrgen&text=a+b%26c",
                             {"Content-Type": "application/x-www-form-urlencoded"})
        assert answer.body.decode() == "name=Jürgen\ntext=a b&c"

    def test_cookies_come_and_go(self, web: Web) -> None:
        assert web.request("/cookies.lua", headers={"Cookie": "x=1; seen=yes"}).body == b"yes"
        assert web.request("/respond.lua").headers.get_all("Set-Cookie") == ["a=1; Path=/", "b=2; Path=/"]

    @pytest.mark.parametrize("status", (200, 201, 303, 400, 403, 404, 410, 418, 500, 503))
    def test_the_status_of_the_script_reaches_the_client(self, web: Web, status: int) -> None:
        answer = web.request("/respond.lua?status=%d" % status)
        assert (answer.status, answer.body, answer.headers["X-First"]) == (status, b"body", "1")

    @pytest.mark.parametrize("status", (204, 304))
    def test_a_status_without_a_body_has_none(self, web: Web, status: int) -> None:
        answer = web.request("/respond.lua?status=%d" % status)
        assert (answer.status, answer.body) == (status, b"")

    def test_a_redirect_reaches_the_client(self, web: Web) -> None:
        answer = web.request("/respond.lua?status=302&location=/plain.txt")
        assert (answer.status, answer.headers["Location"].rpartition("/")[2]) == (302, "plain.txt")

    def test_a_failed_script_is_a_500_without_its_output(self, web: Web) -> None:
        web.expect_errors("provoked|traceback|FastCGI-stderr|in function|in upvalue|in field")
        web.master.expect_errors("provoked")
        answer = web.request("/fail.lua")
        assert answer.status == 500
        assert b"lost" not in answer.body and b"provoked" not in answer.body

    def test_a_body_over_max_post_size_is_413(self, web: Web) -> None:
        answer = web.request("/echo.lua", "POST", bytes(MAX_POST + 1))
        assert answer.status == 413

    def test_a_client_that_leaves_early_harms_nobody(self, web: Web) -> None:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", web.port)) as sock:
                sock.sendall(b"POST /echo.lua HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(500))
            with socket.create_connection(("127.0.0.1", web.port)) as sock:
                sock.sendall(b"GET /bytes.lua?9000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert web.request("/bytes.lua?3").body == b"\0\1\2"

    def test_a_hundred_requests_on_one_connection_are_answered_in_order(self, web: Web) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)) as connection:
            for number in range(100):
                assert ask(connection, "/respond.lua?body=%d" % number).body == b"%d" % number

    def test_concurrent_requests_do_not_mix(self, web: Web) -> None:
        def one(number: int) -> bool:
            body = b"%06d" % number * 3000
            return web.request("/echo.lua", "POST", body).body == body

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(one, range(160)))
