"""Connections that only hold on: played by a process of its own, so that what it uses is no server's.

In: the unix socket of a FastCGI server and a number.  Out: `crowd`, a context manager; the connections are there while
the block runs.  idle.py and asking.py call it.
"""
from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from typing import Iterator, List

from instance import HERE, SCRIPTS, Missing

sys.path.insert(1, os.path.dirname(HERE))
from luafcgid2 import client, records  # noqa: E402
from luafcgid2.params import encode  # noqa: E402

TRICKLE_SECONDS = 2.0
TRICKLING, KEPT = "trickling", "kept"
HELLO = {"SCRIPT_FILENAME": os.path.join(SCRIPTS, "hello.lua"), "DOCUMENT_ROOT": SCRIPTS, "REQUEST_METHOD": "GET",
         "SCRIPT_NAME": "/hello.lua"}


def hello(keep: bool) -> bytes:
    """A whole request for hello.lua."""
    return (records.begin(1, records.RESPONDER, records.KEEP_CONN if keep else 0)
            + records.pack(records.PARAMS, 1, encode(HELLO)) + records.tail(1))


def more_files() -> None:
    """As many open files as this process may have."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _trickling(path: str, number: int) -> socket.socket:
    one = client.connect(path)
    if number % 2:
        one.send(records.begin(1) + records.header(records.PARAMS, 1, records.MAX_CONTENT))
    return one


def _kept(path: str) -> socket.socket:
    one = client.Client(path)
    one.send_raw(hello(True))
    if one.read_response().status != 200:
        raise Missing("luafcgid2 does not answer")
    return one.socket


def play(path: str, size: int, kind: str) -> None:
    """Connect `size` times, say so, and stay until stdin ends.  TRICKLING: every second one sends a byte of a request
    now and then, the others nothing.  KEPT: each has had an answer before."""
    more_files()
    there: List[socket.socket] = [
        _kept(path) if kind == KEPT else _trickling(path, number) for number in range(size)]
    print("here", flush=True)
    os.set_blocking(0, kind == KEPT)
    while sys.stdin.buffer.read() is None:
        for one in there[1::2]:
            one.send(b"x")
            time.sleep(TRICKLE_SECONDS / size * 2)


@contextlib.contextmanager
def crowd(path: str, size: int, kind: str) -> Iterator[None]:
    """`size` connections at the unix socket `path` while the block runs; raises Missing."""
    command = [sys.executable, os.path.abspath(__file__), path, str(size), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            if process.stdout.readline() != b"here\n":
                raise Missing("the crowd cannot connect: raise `ulimit -n` above %d" % size)
            yield
        finally:
            process.stdin.close()


if __name__ == "__main__":
    play(sys.argv[1], int(sys.argv[2]), sys.argv[3])
