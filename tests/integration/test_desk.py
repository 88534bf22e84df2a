"""Status and ping pages of a real worker: answered from the scoreboard, also while every thread is busy."""
from __future__ import annotations

import json
import socket

from harness import PATIENCE, wait_until
from test_worker import Held, Worker

from luafcgid2 import records
from luafcgid2.client import request
from luafcgid2.params import encode

PAGES = {"status_path": "/status", "ping_path": "/ping"}


def ask(worker, path, query="", **more):
    """A request for a page of the server; no script has this name."""
    return request(worker.address, dict(worker.params("none.lua", query), SCRIPT_NAME=path, **more), timeout=PATIENCE)


def status(worker, query="json&full"):
    answer = ask(worker, "/status", query)
    assert answer.status == 200, answer
    return json.loads(answer.body)


def test_ping_and_status_are_answered():
    with Worker(**PAGES) as worker:
        answer = ask(worker, "/ping")
        assert (answer.status, answer.body) == (200, b"pong")
        assert worker.ask().body == b"hello"
        wait_until(lambda: status(worker)["requests"] >= 3, "the counts are published")
        page = ask(worker, "/status")
        assert page.header("Content-Type").startswith("text/html") and b"</html>" in page.body
        assert ask(worker, "/status", REQUEST_METHOD="HEAD").body == b""


def test_without_the_options_the_paths_are_ordinary_names():
    with Worker() as worker:
        assert ask(worker, "/status").status == ask(worker, "/ping").status == 404


def test_a_path_that_only_occurs_in_a_request_is_not_the_page():
    with Worker(**PAGES) as worker:
        answer = request(worker.address, dict(worker.params("hello.lua"), SCRIPT_NAME="/hello.lua",
                                              REQUEST_URI="/status", QUERY_STRING="/ping"), timeout=PATIENCE)
        assert answer.body == b"hello"


def test_status_tells_what_a_thread_runs_and_which_scripts_there_are():
    with Worker(worker_threads=2, **PAGES) as worker, worker.waiting(1) as held:
        def running():
            return [entry for entry in status(worker)["processes"] if entry["script"].endswith("/wait.lua")]
        entry = wait_until(lambda: next((e for e in running() if e["request method"] == "GET"), None), "the request")
        assert entry["pid"] == worker.pid and entry["request duration"] > 0
        held[0].release()
        wait_until(lambda: not running(), "the thread is idle again")
        wait_until(lambda: any(found["script"].endswith("/wait.lua") and found["requests"] == 1 and found["max ms"] > 0
                               for found in status(worker)["scripts"]), "the script is published")


def test_status_is_answered_while_every_thread_is_busy():
    with Worker(worker_threads=2, **PAGES) as worker, worker.waiting(2) as held:
        assert ask(worker, "/ping").body == b"pong"
        wait_until(lambda: status(worker)["active processes"] == 2, "both threads are seen")
        # A script that asks meanwhile waits its turn and is not lost.
        third = Held(worker, 3)
        third.start(running=False)
        assert ask(worker, "/ping").body == b"pong"
        assert not third.running()
        held[0].release()
        wait_until(third.running, "the third request runs")
        assert third.release().body == b"waited"
        assert held[1].release().body == b"waited"


def test_a_kept_connection_is_answered_while_every_thread_is_busy():
    with Worker(worker_threads=1, **PAGES) as worker, socket.socket(socket.AF_UNIX) as kept:
        kept.settimeout(PATIENCE)
        kept.connect(worker.address)
        ping = (records.begin(1, records.RESPONDER, records.KEEP_CONN)
                + records.pack(records.PARAMS, 1, encode(dict(worker.params("none.lua"), SCRIPT_NAME="/ping")))
                + records.tail(1))
        kept.sendall(ping)
        assert b"pong" in kept.recv(65536)
        with worker.waiting(1):
            kept.sendall(ping)
            assert b"pong" in kept.recv(65536)


def test_errors_are_counted():
    with Worker(**PAGES) as worker:
        assert worker.ask("error.lua").status == 500
        wait_until(lambda: status(worker)["errors"] == 1, "the error is counted")
        wait_until(lambda: any(found["script"].endswith("/error.lua") and found["errors"] == 1
                               for found in status(worker)["scripts"]), "the script's error is counted")
