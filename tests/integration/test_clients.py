"""Clients that are slow, silent, greedy or strangers: none of them takes anything from the others."""
from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess

import pytest
from controlled import Daemon
from harness import Site, free_port, wait_until
from test_worker import Worker, wait_until_quiet

from luafcgid2 import client, records

MANY = 1000
BIG = 4 << 20
SCRIPTS = {"big.lua": "function main() Send(string.rep('0123456789abcdef', %d)) end" % (BIG // 16),
           "size.lua": "function main() local all = Receive() or '' Send(#all) end"}


def files(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


@pytest.fixture
def descriptors():
    """Room for MANY sockets in this process and in the worker that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * MANY:
        pytest.skip("at most %d open files are allowed here" % hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * MANY), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def serving(**options):
    with Worker(**options) as worker:
        for name, source in SCRIPTS.items():
            with open(os.path.join(worker.folder, name), "w") as file:
                file.write(source)
        yield worker


def memory(pid):
    """Resident bytes of a process."""
    with open("/proc/%d/statm" % pid) as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_good_requests_are_answered_beside_a_thousand_idle_and_trickling_connections(descriptors):
    with serving(worker_threads=1, max_connections=MANY + 10) as worker, contextlib.ExitStack() as stack:
        assert worker.ask().body == b"hello"
        wait_until_quiet(worker)
        before = files(worker.pid)
        data = worker.records(flags=records.KEEP_CONN)
        crowd = [stack.enter_context(worker.client()) for _ in range(MANY)]
        for one in crowd[:MANY // 2]:
            one.send_raw(data[:1])
        wait_until(lambda: files(worker.pid) == before + MANY, "all are connected")
        with worker.client() as kept:
            for at in range(1, 11):
                for one in crowd[:MANY // 2]:
                    one.send_raw(data[at:at + 1])
                assert worker.ask().body == b"hello"
                assert kept.request(worker.params("hello.lua")).body == b"hello"
        wait_until(lambda: files(worker.pid) == before + MANY, "none of them is closed")
        # Those that trickled are not forgotten either.
        for one in crowd[:20]:
            one.send_raw(data[11:])
            assert one.read_response().body == b"hello"


def test_slow_readers_hold_no_thread(descriptors):
    with serving(worker_threads=1) as worker, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(worker.client()) for _ in range(5)]
        for one in slow:
            one.send_raw(worker.records("big.lua"))
        for _ in range(10):
            assert worker.ask().body == b"hello"
        for one in slow:
            body = one.read_response().body
            assert len(body) == BIG and body == b"0123456789abcdef" * (BIG // 16)


def test_slow_readers_take_no_more_memory_than_send_memory():
    with serving(worker_threads=1, send_memory=0, lua_states=1) as worker, contextlib.ExitStack() as stack:
        assert len(worker.ask("big.lua").body) == BIG
        wait_until_quiet(worker)
        before, opened = memory(worker.pid), files(worker.pid)
        slow = [stack.enter_context(worker.client()) for _ in range(25)]
        for one in slow:
            one.send_raw(worker.records("big.lua"))
        # A connection and a file each.
        wait_until(lambda: files(worker.pid) == opened + 50, "all are answered as far as they take it")
        assert memory(worker.pid) < before + 12 * BIG
        for one in slow:
            assert len(one.read_response().body) == BIG
        wait_until(lambda: files(worker.pid) == opened, "the files are closed")


def test_a_worker_is_as_small_after_large_answers_as_before():
    with serving(worker_threads=4, lua_states=1) as worker, contextlib.ExitStack() as stack:
        worker.ask("big.lua")
        wait_until_quiet(worker)
        before = memory(worker.pid)
        for _ in range(2):
            # Each thread takes its turn: the first two are held, and the main thread appoints the others.
            with worker.waiting(2):
                for _ in range(5):
                    worker.ask("big.lua")
            slow = [stack.enter_context(worker.client()) for _ in range(10)]
            for one in slow:
                one.send_raw(worker.records("big.lua"))
            for one in slow:
                assert len(one.read_response().body) == BIG
        wait_until(lambda: memory(worker.pid) < before + BIG, "what was used is given back")


def test_a_reader_that_takes_nothing_is_closed_after_send_timeout():
    with serving(send_timeout=0.5) as worker, worker.client() as slow:
        slow.send_raw(worker.records("big.lua"))
        wait_until(lambda: "SendTimeout (0.5 s)" in worker.log_text(), "the worker says so")
        assert worker.ask().body == b"hello"


def test_a_graceful_stop_sends_answers_to_their_end():
    with serving() as worker, worker.client() as slow:
        slow.send_raw(worker.records("big.lua", records.KEEP_CONN))
        wait_until(lambda: slow.socket.recv(1, socket.MSG_PEEK), "the answer begins")
        worker.signal(signal.SIGTERM)
        assert len(slow.read_response().body) == BIG
        assert slow.read_record() is None
        assert worker.exit_code() == 0


def test_a_trickling_client_is_closed_after_header_timeout():
    with serving(header_timeout=1) as worker, worker.client() as slow:
        slow.send_raw(records.begin(1) + records.header(records.PARAMS, 1, 65528))

        def refused():
            with contextlib.suppress(OSError):
                slow.send_raw(b"x")
                return False
            return True
        wait_until(refused, "the connection is closed although bytes come all the time")
        wait_until(lambda: "HeaderTimeout (1 s)" in worker.log_text(), "the worker says so")


def test_with_all_connections_taken_whole_requests_are_answered_and_others_told_to_go():
    with serving(max_connections=3) as worker, contextlib.ExitStack() as stack:
        data = worker.records()
        begun = [stack.enter_context(worker.client()) for _ in range(3)]
        for one in begun:
            one.send_raw(data[:30])
        wait_until_quiet(worker)
        for _ in range(5):
            assert worker.ask().body == b"hello"
        refused = stack.enter_context(worker.client())
        refused.send_raw(data[:30])
        kind, _request_id, content = refused.read_record()
        assert (kind, content) == (records.END_REQUEST, records.END_BODY.pack(0, records.OVERLOADED))
        assert refused.read_record() is None
        assert len(worker.ask("big.lua").body) == BIG, "what is under way is not cut off"
        for one in begun:
            one.send_raw(data[30:])
            assert one.read_response().body == b"hello"
        assert worker.log_text().count("MaxConnections (3)") == 1


def test_a_kept_connection_ends_after_max_requests_per_connection():
    with serving(max_requests_per_connection=3) as worker, worker.client() as kept:
        for _ in range(3):
            kept.send_raw(worker.records(flags=records.KEEP_CONN))
            assert kept.read_response().body == b"hello"
        assert kept.read_record() is None
        assert worker.ask().body == b"hello"


def test_a_full_disk_is_507_and_the_next_request_is_served():
    with serving() as worker:
        body = bytes(2 << 20)
        assert worker.ask("size.lua", stdin=body).body == b"%d" % len(body)
        # Python ignores SIGXFSZ, so a write beyond the limit fails as on a full disk.
        soft, hard = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (500_000, hard))
        wait_until_quiet(worker)
        opened = files(worker.pid)
        for _ in range(3):
            assert worker.ask("size.lua", stdin=body).status == 507
            assert worker.ask().body == b"hello"
        wait_until(lambda: files(worker.pid) == opened, "nothing is left open")
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (soft, hard))
        assert worker.ask("size.lua", stdin=body).body == b"%d" % len(body)
        assert "no room for the body" in worker.log_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_full_temp_dir_is_507(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with serving(temp_dir=str(tmp_path)) as worker:
            assert worker.ask("size.lua", stdin=bytes(2 << 20)).status == 507
            assert worker.ask("size.lua", stdin=bytes(300_000)).body == b"300000"
            assert "No space left on device" in worker.log_text()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_too_large_requests_are_told_so_with_a_line_that_names_them():
    with serving(max_post_size=1000, max_params_size=4096, max_params=64) as worker:
        url = {"REQUEST_METHOD": "POST", "REQUEST_URI": "/size?1"}
        large = {**worker.params("size.lua"), **url}
        assert client.request(worker.address, large, bytes(1001)).status == 413
        assert client.request(worker.address, {**large, "X": "x" * 4096}).status == 431
        assert client.request(worker.address, {**large, **{"X%d" % n: "" for n in range(64)}}).status == 431
        assert client.request(worker.address, large, bytes(1000)).body == b"1000"
        wait_until(lambda: "MaxParams" in worker.log_text(), "the lines of the log are written")
        text = worker.log_text()
        assert "413 the body of POST /size?1 is over MaxPostSize" in text
        assert "431 the params of POST /size?1 are over MaxParamsSize or MaxParams" in text


def test_only_allowed_clients_reach_a_tcp_listener_and_a_reload_changes_them():
    with Site() as site:
        address = ("127.0.0.1", free_port())
        path = site.write("fine.lua", "function main() Send('fine') end")
        params = {"SCRIPT_FILENAME": path, "DOCUMENT_ROOT": site.www, "REQUEST_METHOD": "GET"}

        def body():
            with contextlib.suppress(OSError, client.ProtocolError):
                return client.request(address, params).body
        with Daemon(site, Listen="127.0.0.1:%d" % address[1], AllowedClients=["192.0.2.0/24"]) as daemon:
            daemon.expect_errors("127.0.0.1 is not in AllowedClients")
            for _ in range(4):
                assert body() is None
            assert "127.0.0.1 is not in AllowedClients" in daemon.log_text()
            daemon.settings["AllowedClients"] = ["127.0.0.1"]
            daemon.write_config()
            assert daemon.ctl("reload").returncode == 0
            wait_until(lambda: body() == b"fine", "the client is let in")
