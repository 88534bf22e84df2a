"""One real worker on a unix socket: what its threads, its signals and its connections promise.

As a program (`python test_worker.py FOLDER MASTER_PIPE READY_PIPE OPTIONS`) this file is the worker: what the
master does before it forks, and then Worker.run.  Scripts that must be under way for a while wait in C for a
named pipe, so no test depends on how long something takes.
"""
from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import harness
import pytest
from harness import PATIENCE, ROOT, wait_until

from luafcgid2 import records
from luafcgid2.client import Client, request
from luafcgid2.errors import BootError, ProtocolError
from luafcgid2.params import encode

SCRIPTS = {
    "hello.lua": "function main() Send('hello') end",
    "thread.lua": "function main() Send(Info.Thread) end",
    "echo.lua": "function main() Send(Receive()) end",
    "error.lua": "function main() error('oops') end",
    # Blocks in fopen() until the test opens the other end.
    "wait.lua": "function main() io.open(Env.QUERY_STRING .. '.started', 'w'):close() "
                "io.open(Env.QUERY_STRING, 'r'):close() Send('waited') end",
    "spin.lua": "function main() local t = os.clock() while os.clock() - t < 0.012 do end Send('spun') end",
}


class Worker:
    """A worker process; `with` ends it by its pid."""

    def __init__(self, **options):
        self.options = {"worker_threads": 4, "lua_states": 1, "fast_path": harness.FAST_PATH, **options}

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="lf2-")
        self.folder = self._folder.name
        for name, source in SCRIPTS.items():
            with open(os.path.join(self.folder, name), "w") as file:
                file.write(source)
        self.address = os.path.join(self.folder, "sock")
        self.log = os.path.join(self.folder, "log")
        master_read, self.master = os.pipe()
        ready_read, ready_write = os.pipe()
        with open(os.path.join(self.folder, "out"), "wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, os.path.abspath(__file__), self.folder, str(master_read), str(ready_write),
                 json.dumps(self.options)],
                pass_fds=(master_read, ready_write), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env=dict(os.environ, PYTHONPATH=ROOT))
        os.close(master_read)
        os.close(ready_write)
        with os.fdopen(ready_read, "rb", 0) as ready:
            assert select.select([ready], [], [], PATIENCE)[0], "the worker does not become ready"
            assert ready.read(1) == b"1", self.output()
        self.pid = self.process.pid
        return self

    def __exit__(self, *failure):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.drop_master()
        self._folder.cleanup()

    def drop_master(self):
        """What happens when the master dies."""
        if self.master is not None:
            os.close(self.master)
            self.master = None

    def output(self):
        with open(os.path.join(self.folder, "out")) as file:
            return file.read()

    def log_text(self):
        with open(self.log) as file:
            return file.read()

    def params(self, name, query=""):
        return {"SCRIPT_FILENAME": os.path.join(self.folder, name), "DOCUMENT_ROOT": self.folder,
                "REQUEST_METHOD": "GET", "QUERY_STRING": query}

    def ask(self, name="hello.lua", query="", **options):
        return request(self.address, self.params(name, query), timeout=PATIENCE, **options)

    def client(self):
        return contextlib.closing(Client(self.address, PATIENCE))

    def records(self, name="hello.lua", flags=0):
        return (records.begin(1, records.RESPONDER, flags)
                + records.pack(records.PARAMS, 1, encode(self.params(name))) + records.tail(1))

    def signal(self, number):
        self.process.send_signal(number)

    def exit_code(self):
        return self.process.wait(PATIENCE)

    @contextlib.contextmanager
    def waiting(self, count=1):
        """`count` requests under way, each in a thread of the test; leaving lets them go on."""
        held = [Held(self, number) for number in range(count)]
        try:
            for one in held:
                one.start()
            yield held
        finally:
            for one in held:
                one.release()


class Held:
    """One request that waits in C until `release`."""

    def __init__(self, worker, number):
        self.path = os.path.join(worker.folder, "fifo%d-%d" % (number, time.monotonic_ns()))
        os.mkfifo(self.path)
        self.answer = None
        self._worker, self._fd = worker, None
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self):
        with contextlib.suppress(OSError, ProtocolError):
            self.answer = self._worker.ask("wait.lua", self.path)

    def start(self, running=True):
        """Returns when the script runs; without `running` at once."""
        self._thread.start()
        if running:
            wait_until(self.running, "the script runs")

    def running(self):
        return os.path.exists(self.path + ".started")

    def release(self):
        """Let the script go on, wait for its answer (None: the connection was closed)."""
        if self._fd is None:
            # Open for both, so that it blocks nobody, and until the answer is there.
            self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
            self._thread.join(PATIENCE)
            os.close(self._fd)
            assert not self._thread.is_alive(), "no answer came"
        return self.answer


def test_a_request_is_answered():
    with Worker() as worker:
        answer = worker.ask()
        assert (answer.status, answer.body) == (200, b"hello")


def test_threads_take_over_while_requests_wait():
    with Worker(worker_threads=4) as worker, worker.waiting(3) as held:
        for _ in range(20):
            assert worker.ask().body == b"hello"
        assert not any(one.answer for one in held)
        assert [one.release().body for one in held] == [b"waited"] * 3


def test_each_request_has_a_thread_of_its_own():
    with Worker(worker_threads=3) as worker:
        with worker.waiting(2):
            assert worker.ask("thread.lua").body in (b"0", b"1", b"2")
        assert worker.ask("thread.lua").body in (b"0", b"1", b"2")


def test_with_all_threads_busy_a_request_waits_and_is_served():
    with Worker(worker_threads=2) as worker, worker.waiting(2) as held:
        third = Held(worker, 3)
        third.start(running=False)
        client = socket.socket(socket.AF_UNIX)
        with client:
            client.connect(worker.address)
            client.sendall(worker.records())
            assert not third.running()
            held[0].release()
            wait_until(third.running, "the third request runs")
            assert third.release().body == b"waited"
            client.settimeout(PATIENCE)
            assert b"hello" in client.recv(65536)


def test_more_requests_than_lua_max_states_are_served_at_once():
    with Worker(worker_threads=4, lua_max_states=1) as worker, worker.waiting(3) as held:
        assert [one.release().body for one in held] == [b"waited"] * 3


def test_a_clone_that_is_slow_to_load_blocks_nobody():
    """LuaStates promises a second clone, whose top level waits in C until the test lets it go on."""
    with Worker(lua_states=2) as worker:
        fifo, count = os.path.join(worker.folder, "fifo"), os.path.join(worker.folder, "count")
        os.mkfifo(fifo)
        with open(os.path.join(worker.folder, "slow.lua"), "w") as file:
            file.write("""local count = io.open('%s', 'a') count:write('x') count:close()
                if #io.open('%s'):read('*a') > 1 then io.open('%s', 'r'):close() end
                function main() Send('slow') end""" % (count, count, fifo))
        assert worker.ask("slow.lua").body == b"slow"
        wait_until(lambda: os.path.getsize(count) == 2, "the clone is being made")
        for _ in range(3):
            assert worker.ask().body == b"hello"
            assert worker.ask("hello.lua").body == b"hello"
        fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        assert worker.ask("slow.lua").body == b"slow"
        os.close(fd)


def test_idle_kept_connections_block_nobody():
    with Worker(worker_threads=1) as worker, contextlib.ExitStack() as stack:
        kept = [stack.enter_context(worker.client()) for _ in range(20)]
        for _ in range(2):
            for client in kept:
                assert client.request(worker.params("hello.lua")).body == b"hello"
            assert worker.ask().body == b"hello"
        assert not any(client.closed for client in kept)


@pytest.mark.parametrize("sent", [0, 1, 9, 40], ids=lambda size: "%d bytes" % size)
def test_slow_clients_block_nobody(sent):
    with Worker(worker_threads=1) as worker, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(worker.client()) for _ in range(5)]
        data = worker.records()
        for client in slow:
            client.send_raw(data[:sent])
        for _ in range(5):
            assert worker.ask().body == b"hello"
        for client in slow:
            client.send_raw(data[sent:])
            assert client.read_response().body == b"hello"


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 1 << 20, 3 << 20])
def test_bodies_of_any_size_come_back(size):
    body = bytes(index % 251 for index in range(size))
    with Worker() as worker, worker.client() as client:
        for _ in range(2):
            assert client.request(worker.params("echo.lua"), body).body == body


def test_a_client_that_leaves_early_harms_nobody():
    with Worker(worker_threads=2) as worker:
        for cut in (None, 30):
            with worker.client() as client:
                client.send_raw(worker.records("spin.lua")[:cut])
        assert worker.ask().body == b"hello"
        assert worker.process.poll() is None


def test_answers_of_many_threads_never_get_lost():
    """Requests in two pieces, connections without keep, scripts long enough for the leader to change: the
    descriptor of a closed connection is taken by the next one at once."""
    problems = []

    def ask(worker):
        try:
            for number in range(25):
                with worker.client() as client:
                    data = worker.records("spin.lua" if number % 3 == 0 else "hello.lua")
                    client.send_raw(data[:50])
                    client.send_raw(data[50:])
                    assert client.read_response().body in (b"spun", b"hello")
        except BaseException as error:
            problems.append(error)
    with Worker(worker_threads=4) as worker:
        threads = [threading.Thread(target=ask, args=(worker,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems, problems
        assert "unexpected" not in worker.log_text()


class TestStopping:
    def test_term_finishes_what_is_under_way_and_closes_what_is_idle(self):
        with Worker() as worker, worker.client() as kept, worker.waiting() as held:
            assert kept.request(worker.params("hello.lua")).body == b"hello"
            worker.signal(signal.SIGTERM)
            assert kept.read_record() is None, "the idle connection is closed"
            assert worker.process.poll() is None
            assert held[0].release().body == b"waited"
            assert worker.exit_code() == 0

    def test_term_lets_a_request_arrive_that_has_begun(self):
        with Worker() as worker, worker.client() as kept, worker.client() as slow:
            kept.request(worker.params("hello.lua"))
            data = worker.records(flags=records.KEEP_CONN)
            slow.send_raw(data[:30])
            assert worker.ask().body == b"hello", "the server has read what was sent before"
            worker.signal(signal.SIGTERM)
            assert kept.read_record() is None
            slow.send_raw(data[30:])
            assert slow.read_response().body == b"hello"
            assert slow.read_record() is None, "the connection is not kept any more"
            assert worker.exit_code() == 0

    def test_term_leaves_at_once_when_idle(self):
        with Worker() as worker:
            worker.ask()
            worker.signal(signal.SIGTERM)
            assert worker.exit_code() == 0

    def test_stop_timeout_bounds_a_graceful_stop(self):
        with Worker(stop_timeout=1) as worker, worker.waiting():
            worker.signal(signal.SIGTERM)
            assert worker.exit_code() == 0
            assert "StopTimeout (1 s) with 1 requests under way" in worker.log_text()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
    def test_int_and_quit_leave_at_once(self, number):
        with Worker() as worker, worker.waiting() as held:
            worker.signal(number)
            assert worker.exit_code() == 0
            assert held[0].release() is None

    def test_int_ends_a_graceful_stop(self):
        with Worker() as worker, worker.client() as kept, worker.waiting():
            kept.request(worker.params("hello.lua"))
            worker.signal(signal.SIGTERM)
            assert kept.read_record() is None
            worker.signal(signal.SIGINT)
            assert worker.exit_code() == 0

    def test_the_worker_leaves_when_the_master_is_gone(self):
        with Worker() as worker, worker.waiting() as held:
            worker.drop_master()
            wait_until(lambda: "master is gone" in worker.log_text(), "the worker notices")
            assert held[0].release().body == b"waited"
            assert worker.exit_code() == 0


class TestOtherSignals:
    def test_hup_is_ignored(self):
        with Worker() as worker, worker.client() as kept:
            worker.signal(signal.SIGHUP)
            assert kept.request(worker.params("hello.lua")).body == b"hello"

    def test_usr1_opens_the_log_anew(self):
        with Worker() as worker:
            os.rename(worker.log, worker.log + ".1")
            worker.signal(signal.SIGUSR1)
            wait_until(lambda: os.path.exists(worker.log), "the log is there again")
            assert worker.ask("error.lua").status == 500
            assert "oops" in worker.log_text()

    def test_signals_are_heard_while_all_threads_are_busy(self):
        with Worker(worker_threads=1) as worker, worker.waiting() as held:
            os.rename(worker.log, worker.log + ".1")
            worker.signal(signal.SIGUSR1)
            wait_until(lambda: os.path.exists(worker.log), "the log is there again")
            assert held[0].release().body == b"waited"


def switches(pid):
    """How often the tasks of a process went to sleep of their own will: each wake-up adds one."""
    found = {}
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/status" % (pid, task)) as file:
            found[task] = int(file.read().partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return found


def wait_until_quiet(worker):
    """Until nothing wakes in a quarter of a second."""
    def quiet():
        before = switches(worker.pid)
        time.sleep(0.25)
        return before == switches(worker.pid)
    wait_until(quiet, "the worker falls asleep")


def test_a_line_of_a_long_request_is_written_while_it_runs():
    with Worker() as worker:
        first, second = (os.path.join(worker.folder, name) for name in ("first", "second"))
        for path in (first, second):
            os.mkfifo(path)
        with open(os.path.join(worker.folder, "late.lua"), "w") as file:
            file.write("function main() io.open('%s'):close() Log('late') io.open('%s'):close() end" % (first, second))
        asking = threading.Thread(target=worker.ask, args=("late.lua",))
        asking.start()
        # Far more than QUIET_TICKS: if the main thread sleeps at all while a request waits, it does now.
        time.sleep(0.6)
        # Each of the two returns when the script has opened the other end.
        with open(first, "wb"):
            pass
        wait_until(lambda: "late" in worker.log_text(), "the line")
        with open(second, "wb"):
            pass
        asking.join(PATIENCE)


def test_an_idle_worker_never_wakes():
    with Worker() as worker, worker.client() as kept:
        for _ in range(3):
            kept.request(worker.params("hello.lua"))
            worker.ask("error.lua")
        wait_until_quiet(worker)
        before = switches(worker.pid)
        time.sleep(1)
        assert switches(worker.pid) == before
        assert kept.request(worker.params("hello.lua")).body == b"hello"


def test_the_title_says_what_was_served_last():
    with Worker() as worker:
        worker.ask()
        def title():
            with open("/proc/%d/cmdline" % worker.pid, "rb") as file:
                return b"luafcgid2: worker 1 [hello.lua]" in file.read()
        wait_until(title, "the title is set")


def test_a_silent_connection_is_closed_after_read_timeout():
    with Worker(read_timeout=1) as worker, worker.client() as kept, worker.client() as silent, worker.client() as slow:
        kept.request(worker.params("hello.lua"))
        slow.send_raw(worker.records()[:30])
        assert silent.read_record() is None
        assert slow.read_record() is None
        assert kept.request(worker.params("hello.lua")).body == b"hello", "between requests there is no limit"
        wait_until(lambda: "ReadTimeout (1 s)" in worker.log_text(), "the worker says so")


def test_without_read_timeout_a_slow_connection_stays():
    with Worker(read_timeout=0) as worker, worker.client() as slow:
        data = worker.records()
        slow.send_raw(data[:30])
        assert worker.ask().body == b"hello"
        wait_until_quiet(worker)
        slow.send_raw(data[30:])
        assert slow.read_response().body == b"hello"


def test_running_out_of_descriptors_is_survived():
    with Worker() as worker, worker.client() as begun:
        # The script is loaded while there still are descriptors.
        assert worker.ask().body == b"hello"
        begun.send_raw(worker.records()[:30])
        wait_until_quiet(worker)
        # Those in use go on, a new one cannot be had.
        highest = max(int(name) for name in os.listdir("/proc/%d/fd" % worker.pid))
        soft, hard = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        holes = [number for number in range(highest + 1)
                 if not os.path.lexists("/proc/%d/fd/%d" % (worker.pid, number))]
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (highest + 1, hard))
        with contextlib.ExitStack() as stack:
            for _ in range(len(holes) + 2):
                stack.enter_context(worker.client())
            wait_until(lambda: "cannot accept" in worker.log_text(), "the worker says so")
            begun.send_raw(worker.records()[30:])
            assert begun.read_response().body == b"hello"
            client = stack.enter_context(worker.client())
            client.send_raw(worker.records())
            resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (soft, hard))
            assert client.read_response().body == b"hello"
        assert worker.log_text().count("cannot accept") == 1


def test_idle_kept_connections_make_room_for_new_ones():
    with Worker(max_connections=3) as worker, contextlib.ExitStack() as stack:
        for _ in range(9):
            client = stack.enter_context(worker.client())
            assert client.request(worker.params("hello.lua")).body == b"hello"
        assert client.request(worker.params("hello.lua")).body == b"hello", "the newest is kept"
        assert "MaxConnections" not in worker.log_text()


def test_idle_kept_connections_make_room_when_descriptors_run_out():
    with Worker() as worker, contextlib.ExitStack() as stack:
        kept = [stack.enter_context(worker.client()) for _ in range(3)]
        for client in kept:
            client.request(worker.params("hello.lua"))
        highest = max(int(name) for name in os.listdir("/proc/%d/fd" % worker.pid))
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE,
                         (highest + 1, resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)[1]))
        for _ in range(3 * (highest + 1)):
            assert worker.ask().body == b"hello"
            client = stack.enter_context(worker.client())
            assert client.request(worker.params("hello.lua")).body == b"hello"
        assert "cannot accept" not in worker.log_text()


def test_too_many_connections_are_closed_and_said_once():
    with Worker(max_connections=3) as worker, contextlib.ExitStack() as stack:
        data = worker.records()
        begun = [stack.enter_context(worker.client()) for _ in range(3)]
        for client in begun:
            client.send_raw(data[:30])
        wait_until_quiet(worker)
        for _ in range(3):
            assert stack.enter_context(worker.client()).read_record() is None
        for client in begun:
            client.send_raw(data[30:])
            assert client.read_response().body == b"hello"
        assert worker.log_text().count("MaxConnections (3)") == 1


def test_bad_records_close_their_connection_and_no_other():
    with Worker() as worker, worker.client() as good, worker.client() as bad:
        good.request(worker.params("hello.lua"))
        bad.send_raw(b"GET / HTTP/1.0\r\n\r\n")
        assert bad.read_record() is None
        assert good.request(worker.params("hello.lua")).body == b"hello"
        assert "version 71" in worker.log_text()


def test_values_are_told_truly():
    with Worker(workers=2, max_connections=50) as worker, worker.client() as client:
        assert client.get_values(["FCGI_MAX_CONNS", "FCGI_MPXS_CONNS", "OTHER"]) == {
            b"FCGI_MAX_CONNS": b"100", b"FCGI_MPXS_CONNS": b"1"}


def test_a_worker_that_cannot_boot_says_why():
    with Worker() as worker:
        program = [sys.executable, os.path.abspath(__file__), worker.folder, "0", "-1",
                   json.dumps({"session_store": "nonsense://"})]
        done = subprocess.run(program, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=dict(os.environ, PYTHONPATH=ROOT), timeout=PATIENCE)
        assert done.returncode == BootError.exit_code and b"nonsense://" in done.stdout


def main(folder, master_pipe, ready_pipe, options):
    """What the master does before it forks, then the worker."""
    from luafcgid2 import config, log, scoreboard, worker
    from luafcgid2.runtime import Engine
    given = json.loads(options)
    settings = config.defaults(**dict({"log_file_path": os.path.join(folder, "log"),
                                       "session_store": "sqlite://%s/state.db" % folder}, **given))
    address = os.path.join(folder, "sock")
    if os.path.exists(address):
        os.unlink(address)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(1024)
    listener.setblocking(False)
    ready = int(ready_pipe)
    board = scoreboard.Scoreboard(1, 4)
    try:
        return worker.Worker(board.take(), settings, Engine(settings.lua_version), listener, board,
                             int(master_pipe), log.setup(settings), ready_fd=ready if ready >= 0 else None).run()
    except BootError as error:
        print(error, flush=True)
        return error.exit_code


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]))


@pytest.mark.parametrize(("name", "policy"), [("batch", "SCHED_BATCH"), ("normal", "SCHED_OTHER")])
def test_every_thread_of_a_worker_is_scheduled_as_the_option_says(name, policy):
    with Worker(worker_threads=2, scheduling=name) as worker:
        threads = [int(number) for number in os.listdir("/proc/%d/task" % worker.pid)]
        assert len(threads) == 3
        assert {os.sched_getscheduler(number) for number in threads} == {getattr(os, policy)}


def test_a_connection_whose_request_comes_late_does_not_wait_for_the_script_of_the_next_one():
    with Worker(worker_threads=2) as worker, contextlib.ExitStack() as stack:
        assert worker.ask().body == b"hello"
        pipe = os.path.join(worker.folder, "pipe")
        os.mkfifo(pipe)
        worker.signal(signal.SIGSTOP)
        # Both are in the listener's queue, in this order, before the worker looks.
        late, slow = stack.enter_context(worker.client()), stack.enter_context(worker.client())
        slow.send_raw(records.begin(1) + records.pack(records.PARAMS, 1, encode(worker.params("wait.lua", pipe)))
                      + records.tail(1))
        worker.signal(signal.SIGCONT)
        wait_until(lambda: os.path.exists(pipe + ".started"), "the script of the second one waits")
        late.send_raw(worker.records())
        assert late.read_response().body == b"hello"
        with open(pipe, "w"):
            assert slow.read_response().body == b"waited"
