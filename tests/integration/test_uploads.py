"""Forms with files, as curl sends them, through nginx: large files, limits, broken forms, and nothing left behind."""
from __future__ import annotations

import hashlib
import http.client
import os
import re
import subprocess
from typing import List, Tuple

import pytest

from harness import Site, children, wait_until
from servers import Master, Nginx

MEGABYTE = 1 << 20
LIMITS = {"MaxPostSize": 48 * MEGABYTE, "FormMaxFileSize": 21 * MEGABYTE, "FormMaxSize": 25 * MEGABYTE,
          "FormMaxParts": 5, "FormMemory": 100000}


@pytest.fixture(scope="module")
def web(served_by):
    """A master that takes large forms, and nginx before it; `temp` is TempDir."""
    with Site() as site:
        temp = os.path.join(site.path, "temp")
        os.mkdir(temp)
        with Master(site, TempDir=temp, **LIMITS) as master, Nginx(site, master) as server:
            server.site, server.master, server.temp = site, master, temp
            yield server


@pytest.fixture
def content(tmp_path):
    """content(name, size): a file of random bytes; its path."""
    def make(name: str, size: int) -> str:
        path = str(tmp_path / name)
        with open(path, "wb") as file:
            file.write(os.urandom(size))
        return path
    return make


def curl(web: Nginx, query: str, *arguments: str) -> Tuple[int, str]:
    """Status and body of /upload.lua."""
    done = subprocess.run(["curl", "--silent", "--show-error", "--noproxy", "*", "--write-out", "\n%{http_code}",
                           *arguments, "http://127.0.0.1:%d/upload.lua%s" % (web.port, query)],
                          stdout=subprocess.PIPE, check=True, timeout=60)
    body, _, status = done.stdout.decode().rpartition("\n")
    return int(status), body


def sha(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def descriptors(master: Master) -> List[int]:
    """How many each worker has open."""
    return [len(os.listdir("/proc/%d/fd" % worker)) for worker in children(master.pid)]


def test_files_of_a_form_arrive_unchanged(web: Nginx, content, tmp_path) -> None:
    for size in (0, 5, 300000, 20 * MEGABYTE):
        path, kept = content("sent.bin", size), str(tmp_path / "kept.bin")
        status, body = curl(web, "?save=" + kept, "-F", "a=1", "-F", "first=@" + path, "-F", "second=@/etc/passwd",
                            "-F", "third=@%s;filename=../../x.lua;type=image/png" % path if size < MEGABYTE else "b=2")
        assert status == 200
        assert "field a=1\n" in body and "file first sent.bin %d\nfile second passwd " % size in body
        assert size > MEGABYTE or "file third x.lua %d\n" % size in body
        assert sha(kept) == sha(path)
        os.unlink(kept)
        assert os.listdir(web.temp) == []


@pytest.mark.parametrize("parts, words", [
    (("a=@22",), "FormMaxFileSize"), (("a=@13", "b=@13"), "FormMaxSize"), (("a=<1",), "FormMemory"),
    (("a=1",) * 6, "FormMaxParts"), (("a=@50",), "MaxPostSize")])
def test_a_form_over_a_limit_is_413_and_the_log_says_which(web: Nginx, content, parts, words) -> None:
    """Here `@13` stands for a file of 13 MB."""
    arguments: List[str] = []
    for part in parts:
        name, kind, megabytes = re.match(r"(.*=)([@<]?)(.*)", part).groups()
        arguments += "-F", name + kind + (content(megabytes, int(megabytes) * MEGABYTE) if kind else megabytes)
    assert curl(web, "", *arguments) == (413, "The request is too large.\n")
    wait_until(lambda: re.search("413 .*" + words, web.master.log_text()), "the log names " + words)
    assert os.listdir(web.temp) == []


def test_a_broken_form_is_400(web: Nginx) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=other"}
    answer = web.request("/upload.lua", "POST", b"--some\r\n" + bytes(1000), kind)
    assert (answer.status, answer.body) == (400, b"The request cannot be understood.\n")
    wait_until(lambda: "400 the form is broken" in web.master.log_text(), "the log says so")


def test_uploads_leave_no_descriptor_open(web: Nginx, content) -> None:
    path = content("some.bin", 400000)
    for number in range(60):
        if number == 20:
            before = descriptors(web.master)
        # One in three is refused.
        arguments = ("-F", "a=@" + path, "-F", "b=@" + path) if number % 3 else ("-F", "a=<" + path)
        assert curl(web, "", *arguments)[0] in (200, 413)
    assert sum(descriptors(web.master)) <= sum(before) + 4
    assert os.listdir(web.temp) == []


def test_a_client_that_leaves_in_the_middle_leaves_nothing(web: Nginx) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)
    connection.putrequest("POST", "/upload.lua")
    connection.putheader("Content-Type", "multipart/form-data; boundary=b")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders(b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + bytes(500000))
    connection.close()
    assert curl(web, "", "-F", "a=1")[0] == 200
    assert os.listdir(web.temp) == []
