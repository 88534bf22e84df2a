"""The FastCGI client against two servers: our master, and php-fpm where it is installed, which nobody here wrote."""
from __future__ import annotations

import glob
import hashlib
import io
import os
import socket

import pytest

from harness import Server, Site
from luafcgid2 import client, records
from luafcgid2.errors import ProtocolError
from servers import Master

SIZES = (0, 1, 65535, 65536, 1 << 20, 20 << 20)
FPM = sorted(glob.glob("/usr/sbin/php-fpm*"))
ECHO_PHP = """<?php
header("Status: 201 Made");
header("X-Hash: " . hash("sha256", $body = file_get_contents("php://input")));
header("X-Long: " . strlen($_SERVER["HTTP_X_LONG"] ?? ""));
file_put_contents("php://stderr", "told");
echo $body;
"""


@pytest.fixture(scope="module")
def master(served_by):
    """Our own server."""
    with Site() as site, Master(site, Workers=1, WorkerThreads=2, MaxPostSize=21 << 20) as server:
        yield server


def params(server: Master, name: str, method: str = "GET", **more: str) -> dict:
    return {"SCRIPT_FILENAME": os.path.join(server.site.www, name), "DOCUMENT_ROOT": server.site.www,
            "SCRIPT_NAME": "/" + name, "REQUEST_METHOD": method, **more}


@pytest.mark.parametrize("size", SIZES)
def test_a_body_goes_up_and_comes_back(master: Master, size: int) -> None:
    body = os.urandom(size)
    found = client.request(master.address, params(master, "echo.lua", "POST", CONTENT_LENGTH=str(size)), body)
    assert (found.status, len(found.body), found.body == body) == (200, size, True)


def test_one_connection_serves_many_requests(master: Master) -> None:
    with client.Client(master.address) as kept:
        for number in range(50):
            found = kept.request(params(master, "respond.lua", QUERY_STRING="body=%d" % number), request_id=number + 1)
            assert found.body == b"%d" % number
        assert not kept.closed


def test_without_keep_conn_the_server_closes_after_its_answer(master: Master) -> None:
    with client.Client(master.address) as raw:
        pieces = client._outgoing(params(master, "respond.lua"), b"", False, 1, records.RESPONDER)
        raw.send_raw(b"".join(pieces))
        assert raw.read_response().status == 200
        assert raw.read_record() is None


def test_idle_and_unfinished_connections_hold_no_thread(master: Master) -> None:
    master.expect_errors("closed the connection in the middle of a request")
    idle, silent = [client.Client(master.address) for _ in range(12)], []
    try:
        for each in idle:
            assert each.request(params(master, "respond.lua")).status == 200
        silent = [client.connect(master.address) for _ in range(12)]
        silent[0].sendall(b"\x01")
        for _ in range(10):
            assert client.request(master.address, params(master, "respond.lua")).status == 200
        for each in idle:
            assert each.request(params(master, "respond.lua")).status == 200
    finally:
        for each in idle + silent:
            each.close()


def test_an_answer_that_comes_before_the_body_was_sent_is_read(master: Master) -> None:
    body = io.BytesIO(bytes(64 << 20))
    found = client.request(master.address, params(master, "echo.lua", "POST", CONTENT_LENGTH=str(64 << 20)), body)
    assert found.status == 413


def test_get_values_are_answered_with_numbers(master: Master) -> None:
    with client.Client(master.address) as asking:
        found = asking.get_values(["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS", "NONSENSE"])
        assert set(found) == {b"FCGI_MAX_CONNS", b"FCGI_MAX_REQS", b"FCGI_MPXS_CONNS"}
        assert all(value.isdigit() for value in found.values())
        assert asking.request(params(master, "respond.lua")).status == 200


def test_a_filter_is_refused(master: Master) -> None:
    found = client.request(master.address, params(master, "respond.lua"), role=records.FILTER)
    assert (found.status, found.protocol_status) == (0, records.UNKNOWN_ROLE)


def test_what_a_script_writes_to_the_log_of_the_web_server_is_apart(master: Master) -> None:
    master.expect_errors("provoked")
    found = client.request(master.address, params(master, "fail.lua"))
    assert found.status == 500
    assert b"provoked" in found.stderr and b"provoked" not in found.body


def test_a_connection_that_was_closed_says_so(master: Master) -> None:
    with client.Client(master.address) as once:
        assert once.request(params(master, "respond.lua"), keep_conn=False).status == 200
        with pytest.raises(ConnectionError, match="closed after an earlier request"):
            once.request(params(master, "respond.lua"))


def test_a_server_that_does_not_answer_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(TimeoutError, match="no answer from the FastCGI server within 0.1 seconds"):
            client.request(silent.getsockname(), {}, timeout=0.1)


@pytest.mark.parametrize("said, message", (
    (b"", "before END_REQUEST"),
    (records.pack(records.STDOUT, 1, b"\n"), "before END_REQUEST"),
    (records.pack(records.STDOUT, 1, b"12345678")[:-1], "15 bytes into a record"),
    (records.pack(records.STDOUT, 2, b"\n"), "request id 2 while waiting for id 1"),
    (b"\2" + records.pack(records.STDOUT, 1, b"\n")[1:], "FastCGI version 2"),
))
def test_a_broken_answer_is_a_protocol_error(said: bytes, message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, client.Client(server.getsockname()) as asking:
        accepted, _ = server.accept()
        with accepted:
            accepted.sendall(said)
            accepted.shutdown(socket.SHUT_WR)
            with pytest.raises(ProtocolError, match=message):
                asking.request({})
        assert asking.closed


class PhpFpm(Server):
    """A FastCGI server of other people."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.address, self.log = os.path.join(site.run, "fpm.sock"), os.path.join(site.run, "fpm.log")
        conf = os.path.join(site.run, "fpm.conf")
        with open(conf, "w") as file:
            file.write("[global]\nerror_log = %s\ndaemonize = no\n[www]\nlisten = %s\nuser = root\ngroup = root\n"
                       "pm = static\npm.max_children = 2\nphp_admin_value[post_max_size] = 64M\n"
                       % (self.log, self.address))
        self.argv = [FPM[-1], "-R", "-F", "-n", "-y", conf]

    harmless = "NOTICE"


@pytest.fixture(scope="module")
def fpm():
    """php-fpm with the script echo.php."""
    with Site() as site, PhpFpm(site) as server:
        server.script = site.write("echo.php", ECHO_PHP)
        yield server


@pytest.mark.skipif(not FPM, reason="php-fpm is not installed")
def test_it_speaks_with_a_server_of_other_people(fpm: PhpFpm) -> None:
    fpm.expect_errors("told")
    for size in SIZES:
        body = os.urandom(size)
        sent = {"SCRIPT_FILENAME": fpm.script, "REQUEST_METHOD": "POST", "HTTP_X_LONG": "v" * 300,
                "CONTENT_LENGTH": str(size), "CONTENT_TYPE": "application/octet-stream"}
        found = client.request(fpm.address, sent, body)
        assert (found.status, found.reason, found.body == body) == (201, "Made", True)
        assert found.header("x-hash") == hashlib.sha256(body).hexdigest()
        assert found.header("x-long") == "300"
    with client.Client(fpm.address) as kept:
        assert kept.get_values(["FCGI_MPXS_CONNS"]) == {b"FCGI_MPXS_CONNS": b"0"}
        for _ in range(10):
            missing = kept.request({"SCRIPT_FILENAME": "/nonexistent.php", "REQUEST_METHOD": "GET"})
            assert (missing.status, missing.stderr) == (404, b"Primary script unknown")
