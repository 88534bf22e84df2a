"""Supervision of real servers: what runs too long, takes too much or brings a worker down harms only itself."""
from __future__ import annotations

import contextlib
import os
import re
import signal
import threading

import pytest
from controlled import Daemon
from harness import Site, is_alive, wait_until

from luafcgid2 import client, records
from luafcgid2.params import encode
from luafcgid2.scoreboard import Scoreboard

SCRIPTS = {
    "spin.lua": "function main() while true do pcall(function() while true do end end) end end",
    "top.lua": "while true do end function main() end",
    # Until somebody has written to a file.
    "slow.lua": "local function inner(file) while file:seek('end') == 0 do end end\n"
                "function main() inner(io.open(Env.QUERY_STRING)) Send('slow') end",
    # Blocks in C until somebody opens the other end: no hook reaches it.
    "block.lua": "function main() local name = Env.QUERY_STRING io.open(name .. '.started', 'w'):close() "
                 "io.open(name, 'r'):close() Send('waited') end",
    "crash.lua": "function main() os.execute('kill -SEGV ' .. io.open('/proc/self/stat'):read('*n')) "
                 "local t = os.clock() while os.clock() - t < 5 do end end",
    "hog.lua": "function main() keep = {} for i = 1, 48 do keep[i] = string.rep('x', 1024 * 1024 + i) end "
               "Send(#keep) end",
    "fine.lua": "function main() Send('fine') end",
}


@pytest.fixture
def site():
    with Site() as found:
        for name, source in SCRIPTS.items():
            found.write(name, source)
        yield found


def get(daemon, name, query="", uri=""):
    """The whole answer to a request for a script."""
    return client.request(daemon.address, {
        "REQUEST_METHOD": "GET", "SCRIPT_FILENAME": os.path.join(daemon.site.www, name), "QUERY_STRING": query,
        "DOCUMENT_ROOT": daemon.site.www, "SCRIPT_NAME": "/" + name, "REQUEST_URI": uri or "/" + name}, timeout=60)


def suffer(daemon, *request):
    """Ask for what will bring its worker down."""
    with contextlib.suppress(OSError, client.ProtocolError):
        get(daemon, *request)


def board(daemon):
    return Scoreboard.of(daemon.master)


@pytest.mark.parametrize("version", ["5.3", "5.4"])
@pytest.mark.parametrize("name", ["spin.lua", "top.lua"])
def test_a_script_over_request_timeout_is_504_and_the_worker_lives(site, version, name):
    with Daemon(site, Workers=1, RequestTimeout=0.3, LuaVersion=version) as daemon:
        daemon.expect_errors("504 .*%s" % name)
        daemon.expect_errors(r"^    ")
        workers = daemon.serving()
        answer = get(daemon, name, uri="/%s?a=1" % name)
        assert (answer.status, answer.body) == (504, b"The script took too long.\n")
        assert get(daemon, "fine.lua").body == b"fine"
        assert daemon.serving() == workers
        line = next(line for line in daemon.log_text().splitlines() if ": 504 " in line)
        assert site.www + "/" + name in line and "/%s?a=1" % name in line and "RequestTimeout" in line
        wait_until(lambda: sum(slot.timeouts for _, slot in board(daemon).workers()) == 1, "the timeout is counted")


def test_a_request_that_cannot_be_interrupted_costs_its_worker_and_nothing_else(site):
    path = os.path.join(site.run, "fifo")
    os.mkfifo(path)
    with Daemon(site, Workers=1, WorkerThreads=2, RequestTimeout=0.3, RequestTerminateTimeout=0.6,
                StopTimeout=20) as daemon:
        daemon.expect_errors("block.lua|is killed|was killed|is replaced")
        [worker] = daemon.serving()
        suffer(daemon, "block.lua", path, "/block.lua?wanted")
        wait_until(lambda: not is_alive(worker), "the worker is gone")
        wait_until(lambda: daemon.serving() and worker not in daemon.serving(), "its successor serves")
        assert get(daemon, "fine.lua").body == b"fine"
        text = daemon.log_text()
        assert re.search(r"worker 1 \(pid %d\): \S*/block\.lua \(GET /block\.lua\?wanted\) for \d+ s" % worker, text)


@pytest.mark.parametrize("settings,timeouts", (
    ({"RequestTimeout": 0.2, "RequestTerminateTimeout": 0.6}, 1),
    ({"RequestTerminateTimeout": 0.4}, 1),
    ({}, 0),
), ids=("soft and hard limit", "hard limit alone", "killed by somebody"))
def test_a_request_lost_with_its_worker_is_counted_once(site, settings, timeouts):
    path = os.path.join(site.run, "fifo")
    os.mkfifo(path)
    with Daemon(site, Workers=1, WorkerThreads=2, **settings) as daemon:
        daemon.expect_errors("block.lua|is killed|was killed|is replaced")
        [worker] = daemon.serving()
        assert get(daemon, "fine.lua").body == b"fine"
        wait_until(lambda: counted(daemon) == (1, 0, 0), "the worker tells what it has answered")
        lost = threading.Thread(target=suffer, args=(daemon, "block.lua", path), daemon=True)
        lost.start()
        wait_until(lambda: os.path.exists(path + ".started"), "the script waits")
        if not settings:
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: worker not in daemon.serving() and daemon.serving(), "a successor serves")
        lost.join()
        assert counted(daemon) == (2, 1, timeouts)


def counted(daemon):
    """How many requests, errors and time-outs there were, as the status adds them up."""
    seen = board(daemon)
    return tuple(getattr(seen.header, "past_" + name) + sum(getattr(slot, name) for _, slot in seen.workers())
                 for name in ("requests", "errors", "timeouts"))


def test_a_pattern_that_backtracks_for_ever_costs_its_worker(site):
    site.write("pattern.lua", "function main() Send(tostring((('a'):rep(40)):find(('a-'):rep(40) .. 'b'))) end")
    with Daemon(site, Workers=1, RequestTimeout=0.3, RequestTerminateTimeout=0.6) as daemon:
        daemon.expect_errors("pattern.lua|is killed|was killed|is replaced")
        [worker] = daemon.serving()
        suffer(daemon, "pattern.lua")
        wait_until(lambda: not is_alive(worker), "the worker is gone")
        wait_until(lambda: daemon.serving(), "its successor serves")
        assert get(daemon, "fine.lua").body == b"fine"


def test_a_slow_request_is_logged_with_the_traceback_of_that_moment(site):
    slow = os.path.join(site.run, "slow.log")
    with Daemon(site, Workers=1, SlowLogTime=1, SlowLogPath=slow) as daemon:
        assert get(daemon, "slow.lua", slow, "/slow.lua?n=1").body == b"slow"
        assert get(daemon, "fine.lua").body == b"fine"
    with open(slow) as file:
        text = file.read()
    assert text.count("slow request") == 1 and "/slow.lua?n=1" in text and site.www + "/slow.lua" in text
    assert "slow.lua:1:" in text and "slow.lua:2:" in text and "fine.lua" not in text


def test_a_script_that_brings_workers_down_is_quarantined_and_the_site_lives(site):
    with Daemon(site, Workers=2, QuarantineStrikes=3, QuarantineTime=600) as daemon:
        daemon.expect_errors("killed by SIGSEGV|quarantine|503")
        for _ in range(3):
            suffer(daemon, "crash.lua")
            wait_until(lambda: len(daemon.serving()) == 2, "both workers serve")

        def refused():
            with contextlib.suppress(OSError, client.ProtocolError):
                answer = get(daemon, "crash.lua")
                return answer if answer.status == 503 else None
        answer = wait_until(refused, "it is refused")
        assert 0 < int(answer.header("Retry-After")) <= 600
        assert get(daemon, "fine.lua").body == b"fine"
        assert [line.path for line in board(daemon).quarantine if line.path] == [
            os.fsencode(site.www + "/crash.lua")]
        # Mended, it is served at once.
        site.write("crash.lua", "function main() Send('mended') end")
        wait_until(lambda: get(daemon, "crash.lua").body == b"mended", "the mended script is served")
        wait_until(lambda: not any(line.path for line in board(daemon).quarantine), "the quarantine is over")


def test_time_outs_again_and_again_bring_quarantine(site):
    with Daemon(site, Workers=1, RequestTimeout=0.2, QuarantineStrikes=2, QuarantineTime=600) as daemon:
        daemon.expect_errors("504|503|quarantine")
        daemon.expect_errors(r"^    ")
        assert [get(daemon, "spin.lua").status for _ in range(2)] == [504, 504]
        wait_until(lambda: get(daemon, "spin.lua").status == 503, "it is refused")
        assert get(daemon, "fine.lua").body == b"fine"
        assert daemon.ctl("reload").returncode == 0
        assert get(daemon, "spin.lua").status == 504


def test_over_the_memory_budget_states_are_given_up_or_the_worker_is_replaced(site):
    with Daemon(site, Workers=1, MemoryBudget="48M") as daemon:
        daemon.expect_errors("memory|MemoryBudget|503")
        assert get(daemon, "hog.lua").body == b"48"

        def given_up():
            # Somebody must be at work, or nobody looks.
            get(daemon, "fine.lua")
            header = board(daemon).header
            return (sum(slot.evicted for _, slot in board(daemon).workers()) + header.past_evicted
                    or header.retired)
        wait_until(given_up, "states are evicted, or the worker that was still at it when they were is replaced")
        wait_until(lambda: get(daemon, "fine.lua").body == b"fine"
                   and 0 < board(daemon).header.pss_kb < 48 << 10, "the server is below its budget")


def test_the_access_log_has_a_line_for_each_request(site):
    path = os.path.join(site.run, "access.log")
    with Daemon(site, Workers=2, AccessLogPath=path) as daemon:
        daemon.expect_errors("404")
        for _ in range(3):
            get(daemon, "fine.lua", uri="/fine.lua?x=\"1")
        get(daemon, "none.lua")
    with open(path) as file:
        lines = file.read().splitlines()
    assert len(lines) == 4
    pattern = r'- - - \[[^]]+\] "GET /fine\.lua\?x=\\x221 -" 200 4 \d+\.\d{3} \d+\.\d{3} [1-9]\d*'
    assert sum(bool(re.fullmatch(pattern, line)) for line in lines) == 3, lines
    assert any('"GET /none.lua -" 404 ' in line for line in lines), lines


def test_status_shows_the_queue_and_how_busy_it_was(site):
    path = os.path.join(site.run, "fifo")
    os.mkfifo(path)
    with Daemon(site, Workers=1, WorkerThreads=1) as daemon:
        with daemon.in_flight("block.lua", path) as first:
            wait_until(lambda: os.path.exists(path + ".started"), "the script runs")
            with daemon.in_flight("fine.lua", "") as second:
                header = board(daemon).header
                wait_until(lambda: header.queue == 1 and header.most_busy == 1 and header.limit_reached >= 1,
                           "the master counts")
                assert header.queue_limit == 1024
                with open(path, "w"):
                    pass
        assert (first, second) == (["waited"], ["fine"])


def test_trace_prints_where_a_running_script_is(site):
    with Daemon(site, Workers=2) as daemon:
        site.write("turn.lua", "local function inner() local name = Env.QUERY_STRING\n"
                               "while not io.open(name) do end end\nfunction main() inner() Send('turned') end")
        path = os.path.join(site.run, "go")
        with daemon.in_flight("turn.lua", path) as outcome:
            def traced():
                done = daemon.ctl("trace")
                assert done.returncode == 0, done.stderr
                return done.stdout if "turn.lua:2:" in done.stdout else None
            text = wait_until(traced, "the script is in its loop")
            busy = next(int(re.search(r"pid (\d+)", line)[1]) for line in text.splitlines()
                        if line.startswith("worker") and not line.endswith("nothing runs"))
            assert re.search(r"thread \d: GET \S*turn\.lua for \d+\.\d s", text)
            assert re.search(r"^ {8}\S+/turn\.lua:2: in ", text, re.MULTILINE), text
            assert "turn.lua:3:" in text and "nothing runs" in text
            one = daemon.ctl("trace", str(busy))
            assert "turn.lua:2:" in one.stdout and one.stdout.count("worker") == 1
            assert daemon.ctl("trace", "1").returncode == 1
            open(path, "w").close()
        assert outcome == ["turned"]
        assert daemon.ctl("trace").stdout.count("nothing runs") == 2


def kept(daemon, name, query=""):
    """A kept connection on which one request was answered, and the bytes of another for `name`."""
    found = client.Client(daemon.address, 30)
    params = {"REQUEST_METHOD": "GET", "SCRIPT_FILENAME": os.path.join(daemon.site.www, "fine.lua"),
              "DOCUMENT_ROOT": daemon.site.www, "SCRIPT_NAME": "/fine.lua"}
    assert found.request(params, keep_conn=True).body == b"fine"
    return found, dict(params, SCRIPT_FILENAME=os.path.join(daemon.site.www, name), SCRIPT_NAME="/" + name,
                       QUERY_STRING=query)


def test_limits_hold_for_a_request_that_comes_while_its_worker_drains(site):
    path = os.path.join(site.run, "fifo")
    os.mkfifo(path)
    with Daemon(site, Workers=1, WorkerThreads=1, RequestTimeout=0.5, RequestTerminateTimeout=60,
                StopTimeout=30) as daemon:
        daemon.expect_errors("504 .*(spin|block).lua")
        daemon.expect_errors(r"^    ")
        connection, spin = kept(daemon, "spin.lua")
        with contextlib.closing(connection), daemon.in_flight("block.lua", path) as held:
            wait_until(lambda: os.path.exists(path + ".started"), "the script runs")
            old = daemon.serving()
            answers = []
            thread = threading.Thread(target=lambda: answers.append(connection.request(spin, keep_conn=True)))
            thread.start()
            daemon.change(LogLevel="debug")
            os.kill(daemon.master, signal.SIGHUP)
            wait_until(lambda: daemon.serving() and daemon.serving() != old, "a new worker serves")
            thread.join(30)
            assert answers and answers[0].status == 504
            with open(path, "w"):
                pass
        assert len(held) == 1


def test_a_kept_connection_of_a_busy_worker_is_served_by_another(site):
    path = os.path.join(site.run, "fifo")
    os.mkfifo(path)
    with Daemon(site, Workers=2, WorkerThreads=1) as daemon:
        pairs = [kept(daemon, "fine.lua") for _ in range(6)]
        with contextlib.ExitStack() as stack:
            for connection, _ in pairs:
                stack.enter_context(contextlib.closing(connection))
            with daemon.in_flight("block.lua", path) as held:
                wait_until(lambda: os.path.exists(path + ".started"), "the script runs")
                # Whichever worker has them, one of the two is free.
                for connection, params in pairs:
                    assert connection.request(params, keep_conn=True).body == b"fine"
                assert not held
                with open(path, "w"):
                    pass
            assert held == ["waited"]


def test_with_a_status_path_waiting_requests_go_to_whoever_is_free_first(site):
    paths = [os.path.join(site.run, "fifo%d" % number) for number in range(2)]
    for path in paths:
        os.mkfifo(path)
    with Daemon(site, Workers=2, WorkerThreads=1, StatusPath="/status", PingPath="/ping") as daemon:
        with daemon.in_flight("block.lua", paths[0]) as first, daemon.in_flight("block.lua", paths[1]) as second:
            wait_until(lambda: all(os.path.exists(path + ".started") for path in paths), "both scripts run")
            with contextlib.ExitStack() as stack:
                waiting = [stack.enter_context(daemon.in_flight("fine.lua", "")) for _ in range(4)]
                ping = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/ping", "SCRIPT_FILENAME": "/none",
                        "DOCUMENT_ROOT": site.www}
                assert client.request(daemon.address, ping, timeout=30).body == b"pong"
                # One worker is free again; the other is not.
                with open(paths[0], "w"):
                    pass
                wait_until(lambda: waiting == [["fine"]] * 4, "all that waited are answered by the free worker")
                assert not second
            with open(paths[1], "w"):
                pass
        assert (first, second) == (["waited"], ["waited"])


def test_a_ping_whose_bytes_come_late_is_answered_while_all_are_busy(site):
    path = os.path.join(site.run, "fifo")
    os.mkfifo(path)
    with Daemon(site, Workers=1, WorkerThreads=1, PingPath="/ping") as daemon:
        ping = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/ping", "SCRIPT_FILENAME": "/none", "DOCUMENT_ROOT": site.www}
        fine = dict(ping, SCRIPT_NAME="/fine.lua", SCRIPT_FILENAME=site.www + "/fine.lua")
        with daemon.in_flight("block.lua", path):
            wait_until(lambda: os.path.exists(path + ".started"), "the script runs")
            with client.Client(daemon.address, 30) as late, client.Client(daemon.address, 30) as other:
                # Connections are taken in turn: with this answer, both above were taken.
                assert client.request(daemon.address, ping, timeout=30).body == b"pong"
                assert late.request(ping).body == b"pong"
                other.send_raw(records.begin(1) + records.pack(records.PARAMS, 1, encode(fine)) + records.tail(1))
                with open(path, "w"):
                    pass
                assert other.read_response().body == b"fine"


def test_a_server_is_found_though_its_file_is_no_lua_any_more(site):
    with Daemon(site, Workers=1) as daemon:
        daemon.expect_errors("the configuration stays as it was|near|config")
        with open(daemon.config) as file:
            before = file.read()
        with open(daemon.config, "a") as file:
            file.write("x = (\n")
        done = daemon.ctl("reload")
        assert done.returncode == 1 and "near" in done.stderr
        wait_until(lambda: "the configuration stays as it was" in daemon.log_text(), "the log says why")
        assert daemon.ctl("status").returncode == 0
        with open(daemon.config, "w") as file:
            file.write(before)
        assert daemon.ctl("reload").returncode == 0
        assert board(daemon).header.reloads == 1
