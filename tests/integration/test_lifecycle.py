"""The master and its workers from start to end: signals, deaths, descriptors, privileges."""
from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import threading

import pytest
from harness import ROOT, Site, accepts, is_alive, wait_until
from servers import Master

from luafcgid2 import client
from luafcgid2.pidfile import probe
from luafcgid2.scoreboard import READY, Scoreboard

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
# Runs the real command with a worker that fails in a chosen way: driver.py CONFIG PYTHON-STATEMENT.
DRIVER = """
import os, signal, sys
from luafcgid2 import cli, errors, master
class Failing(master.Worker):
    def run(self):
        exec(sys.argv[2])
        return super().run()
master.Worker = Failing
cli.main([sys.argv[1]], prog_name="luafcgid2")
"""
# Reads a named pipe: the request is under way until the test writes to it.
HELD = """
function main()
  local pipe = io.open(Env.QUERY_STRING)
  Send("got " .. pipe:read("l"))
  pipe:close()
end
"""
ENDLESS = "function main() local mark = io.open(Env.QUERY_STRING, 'w') mark:close() while true do end end\n"


def ask(server, name, query=""):
    """The body of the answer to one request, straight to the socket."""
    www = server.site.www
    answer = client.request(server.address, {
        "REQUEST_METHOD": "GET", "SCRIPT_FILENAME": os.path.join(www, name), "DOCUMENT_ROOT": www,
        "QUERY_STRING": query, "SCRIPT_NAME": "/" + name})
    assert answer.status == 200, answer
    return answer.body.decode()


def title(pid):
    with open(f"/proc/{pid}/cmdline") as file:
        return file.read().rstrip("\0 ")


@contextlib.contextmanager
def in_flight(server, name, query):
    """A request that runs in a thread of ours; yields what it brings: the body, or the exception."""
    outcome = []

    def run():
        try:
            outcome.append(ask(server, name, query))
        except (OSError, client.ProtocolError, AssertionError) as error:
            outcome.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(30)
        assert not thread.is_alive()


@contextlib.contextmanager
def held(server):
    """A request that waits in io.read; yields (outcome, release)."""
    pipe = os.path.join(server.site.run, "pipe")
    os.mkfifo(pipe)
    server.site.write("held.lua", HELD)
    with in_flight(server, "held.lua", pipe) as outcome:
        # Opening for writing returns when the script has opened it for reading.
        with open(pipe, "w") as end:
            def release():
                end.write("it\n")
                end.flush()
            yield outcome, release


def endless(server):
    """A request that never ends by itself."""
    server.site.write("endless.lua", ENDLESS)
    return in_flight(server, "endless.lua", os.path.join(server.site.run, "spinning"))


def serving(server):
    """Pids of the workers that are ready."""
    return [slot.pid for _, slot in Scoreboard.of(server.pid).workers() if slot.state == READY]


def all_serve(server):
    """A server is ready with its first worker; others may not have let go yet of what is the master's."""
    wait_until(lambda: len(serving(server)) == server.settings["Workers"], "all workers")


def spinning(server):
    wait_until(lambda: os.path.exists(os.path.join(server.site.run, "spinning")), "the script spins")


def queued(server):
    """Connections that the kernel holds at the unix listener (Recv-Q of ss)."""
    lines = subprocess.run(["ss", "-xlHn"], capture_output=True, text=True, check=True).stdout.splitlines()
    return sum(int(line.split()[2]) for line in lines if server.address in line.split())


def assert_gone(server):
    """Nothing of a stopped server is left."""
    assert not os.path.exists(server.address)
    assert not os.path.exists(server.pid_file)


class TestStarting:
    def test_master_and_workers_bear_titles(self, site, start):
        server = start(Master, site, Workers=3)
        wait_until(lambda: all("worker" in title(pid) for pid in server.workers()), "titles")
        assert title(server.pid) == "luafcgid2: master (luafcgid2.lua)"
        assert sorted(title(pid)[:19] for pid in server.workers()) == [
            f"luafcgid2: worker {number}" for number in (1, 2, 3)]

    def test_the_pid_file_names_the_master(self, site, start):
        server = start(Master, site)
        assert probe(server.pid_file)[:2] == ("running", server.pid)

    def test_workers_0_is_one_for_each_core_that_we_may_use(self, site, start):
        server = start(Master, site, Workers=0)
        cores = len(os.sched_getaffinity(0))
        wait_until(lambda: len(server.workers()) == cores, f"{cores} workers")

    def test_a_second_master_on_the_pid_file_says_who_holds_it(self, site, start):
        server = start(Master, site)
        second = run_command(server.config)
        assert second.returncode == 1
        assert f"already running: pid {server.pid} holds the pid file {server.pid_file}" in second.stderr
        server.expect_errors("already running")
        assert ask(server, "respond.lua") == "body"

    def test_a_second_master_on_the_socket_says_who_listens(self, site, start):
        server = start(Master, site)
        other = Master(site, "other", Listen=server.address)
        second = run_command(other.config)
        assert second.returncode == 1
        assert f"{server.address} is in use: pid {server.pid} (luafcgid2: master" in second.stderr
        assert ask(server, "respond.lua") == "body"
        assert not os.path.exists(other.pid_file)

    def test_a_wrong_configuration_is_exit_code_78(self, site):
        server = Master(site, Workers="many")
        result = run_command(server.config)
        assert result.returncode == 78
        assert "Workers" in result.stderr and server.config in result.stderr
        assert_gone(server)

    @pytest.mark.parametrize("failure, words", [
        ("raise errors.BootError('no luck today')", "no luck today"),
        ("raise KeyError('a fault of ours')", "KeyError('a fault of ours')"),
        ("os._exit(3)", "exited with code 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
        ("os._exit(0)", "exited with code 0"),
    ])
    def test_workers_that_cannot_boot_end_the_server_with_the_reason(self, site, failure, words):
        server = Master(site)
        result = run_driver(server.config, failure)
        assert result.returncode == 3
        assert words in result.stderr
        assert_gone(server)


class TestDeaths:
    def test_a_killed_worker_is_replaced_and_the_log_tells_how_it_died(self, site, start):
        server = start(Master, site)
        victim = server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(server.workers()) == 2 and victim not in server.workers(), "a new worker")
        assert ask(server, "respond.lua") == "body"
        assert f"(pid {victim}) was killed by SIGKILL" in server.log_text()
        server.expect_errors("was killed by SIGKILL")

    def test_deaths_over_the_limit_make_the_next_wait(self, site, start):
        server = start(Master, site, Workers=1, RestartLimit=2, RestartInterval=60)
        for death in range(3):
            wait_until(lambda death=death: server.log_text().count("was killed") == death
                       and server.workers(), "a worker to kill")
            os.kill(server.workers()[0], signal.SIGSEGV)
        wait_until(lambda: "the next one starts in 1 s" in server.log_text(), "the back-off")
        wait_until(server.workers, "the worker after the back-off")
        server.expect_errors("was killed by SIGSEGV")

    def test_a_worker_that_somebody_kills_never_waits_for_the_back_off(self, site, start):
        server = start(Master, site, Workers=1, RestartLimit=1, RestartInterval=60)
        server.expect_errors("was killed by SIGKILL")
        for _ in range(5):
            victim = serving(server)[0]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda gone=victim: serving(server) not in ([], [gone]), "a new worker")
        assert "the next one starts in" not in server.log_text()

    def test_a_boot_failure_after_good_days_backs_off_and_recovers(self, site):
        server = Master(site, Workers=1)
        flag = os.path.join(site.run, "broken")
        failure = f"if os.path.exists({flag!r}): raise errors.BootError('broken for now')"
        server.argv = [sys.executable, "-c", DRIVER, server.config, failure]
        server.expect_errors("broken for now|was killed by SIGKILL")
        with server:
            open(flag, "w").close()
            os.kill(server.workers()[0], signal.SIGKILL)
            wait_until(lambda: "broken for now; the next one starts in 1 s" in server.log_text(), "back-off")
            os.unlink(flag)
            wait_until(lambda: server.workers() and ask(server, "respond.lua") == "body", "the recovery")

    def test_workers_leave_when_the_master_is_killed_and_the_next_start_is_clean(self, site, start):
        server = start(Master, site)
        workers = server.workers()
        os.kill(server.pid, signal.SIGKILL)
        server._process.wait()
        wait_until(lambda: not any(map(is_alive, workers)), "the workers leave")
        # The kernel closes their sockets a moment after they count as dead.
        wait_until(lambda: not accepts(server.address), "nobody listens")
        assert probe(server.pid_file)[:2] == ("stale", server.pid)
        server.expect_errors("the master is gone")
        server.start()
        assert ask(server, "respond.lua") == "body"
        assert server.stop() == 0
        assert_gone(server)

    def test_no_child_keeps_the_lock_of_a_killed_master(self, site, start):
        server = start(Master, site)
        server.expect_errors("the master is gone")
        all_serve(server)
        with held(server) as (outcome, release):
            workers = server.workers()
            os.kill(server.pid, signal.SIGKILL)
            server._process.wait()
            assert probe(server.pid_file).state == "stale"
            assert any(map(is_alive, workers))
            release()
        assert outcome == ["got it"]
        wait_until(lambda: not any(map(is_alive, workers)), "the workers leave")


class TestSignals:
    def test_an_edit_is_visible_on_the_first_request_after_sighup(self, site, start):
        server = start(Master, site, MinFileInfoTime=3600000)
        site.write("version.lua", "function main() Send('1') end")
        assert {ask(server, "version.lua") for _ in range(8)} == {"1"}
        site.write("version.lua", "function main() Send('2') end")
        server.reload()
        assert {ask(server, "version.lua") for _ in range(8)} == {"2"}

    def test_sigusr1_reopens_the_log_in_master_and_workers(self, site, start):
        server = start(Master, site)
        site.write("log.lua", "function main() Log('from the script') Send('ok') end")
        ask(server, "log.lua")
        os.rename(server.log, server.log + ".1")
        os.kill(server.pid, signal.SIGUSR1)
        wait_until(lambda: "log reopened" in server.log_text(), "the master's line in the new file")

        def all_moved():
            ask(server, "log.lua")
            return all(server.log in descriptors(pid) for pid in server.workers())
        wait_until(all_moved, "the workers' descriptors")
        assert all(server.log + ".1" not in descriptors(pid) for pid in server.workers())
        wait_until(lambda: "from the script" in server.log_text(), "the script's line in the new file")

    def test_sigterm_lets_a_request_under_way_finish(self, site, start):
        server = start(Master, site)
        with held(server) as (outcome, release):
            os.kill(server.pid, signal.SIGTERM)
            wait_until(lambda: not os.path.exists(server.address), "the socket is removed")
            assert is_alive(server.pid)
            release()
        assert outcome == ["got it"]
        assert server.stop() == 0
        assert_gone(server)

    def test_a_worker_that_does_not_end_is_killed_after_stop_timeout_and_holds_up_nobody(self, site, start):
        server = start(Master, site, StopTimeout=0.3)
        server.expect_errors("did not stop in time|leaves after StopTimeout")
        with endless(server) as outcome:
            spinning(server)
            assert server.stop(signal.SIGTERM) == 0
        assert isinstance(outcome[0], Exception)
        assert_gone(server)

    def test_connections_that_wait_to_be_accepted_are_answered_before_a_graceful_stop(self, site, start):
        server = start(Master, site, Workers=1, WorkerThreads=1)
        site.write("hello.lua", "function main() Send('hello') end\n")
        with held(server) as (outcome, release):
            # The only thread is busy, so these stay in the kernel's queue.
            with in_flight(server, "hello.lua", "") as first, in_flight(server, "hello.lua", "") as second:
                wait_until(lambda: queued(server) == 2, "two connections in the queue")
                os.kill(server.pid, signal.SIGTERM)
                wait_until(lambda: not accepts(server.address), "the closed door")
                release()
        assert (outcome, first, second) == (["got it"], ["hello"], ["hello"])
        assert server.stop() == 0

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
    def test_sigint_and_sigquit_stop_at_once(self, site, start, number):
        server = start(Master, site, StopTimeout=86400)
        server.expect_errors("did not stop in time")
        with endless(server):
            spinning(server)
            assert server.stop(number) == 0
        assert_gone(server)

    def test_sigint_cuts_a_graceful_stop_short(self, site, start):
        server = start(Master, site, StopTimeout=86400)
        server.expect_errors("did not stop in time")
        with endless(server):
            spinning(server)
            os.kill(server.pid, signal.SIGTERM)
            wait_until(lambda: "stopping gracefully" in server.log_text(), "the graceful stop")
            assert server.stop(signal.SIGINT) == 0

    def test_signals_that_come_during_the_forks_are_not_lost(self, site, start):
        server = Master(site, Workers=8)
        process = subprocess.Popen(server.argv, env=environment(), stderr=subprocess.DEVNULL)
        wait_until(lambda: probe(server.pid_file).state == "running", "the pid file")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert_gone(server)


class TestPrivileges:
    @as_root
    def test_all_processes_become_the_user_with_its_groups(self):
        with Site() as site:
            os.chmod(site.path, 0o755)
            os.chmod(site.run, 0o777)
            with Master(site, User="www-data") as server:
                entry = pwd.getpwnam("www-data")
                groups = sorted(os.getgrouplist("www-data", entry.pw_gid))
                for pid in (server.pid, *server.workers()):
                    assert ids(pid, "Uid") == [entry.pw_uid] * 4
                    assert ids(pid, "Gid") == [entry.pw_gid] * 4
                    assert sorted(ids(pid, "Groups")) == groups
                assert os.stat(server.address).st_uid == entry.pw_uid
                assert os.stat(server.log).st_uid == entry.pw_uid
                assert ask(server, "respond.lua") == "body"
                assert server.stop() == 0
            assert_gone(server)

    @as_root
    def test_a_directory_that_the_user_may_not_write_to_leaves_no_lie_behind(self):
        with Site() as site:
            os.chmod(site.path, 0o755)
            os.chmod(site.run, 0o755)
            state = os.path.join(site.path, "state")
            os.mkdir(state)
            os.chmod(state, 0o777)
            server = Master(site, User="www-data", SessionStore="sqlite:///" + os.path.join(state, "state.db"))
            open(server.log, "w").close()
            os.chown(server.log, pwd.getpwnam("www-data").pw_uid, -1)
            with server:
                assert server.stop() == 0
                # Both files stay, but neither says that a server runs.
                assert probe(server.pid_file).state == "absent"
                server.start()
                assert ask(server, "respond.lua") == "body"

    @as_root
    def test_an_unknown_user_is_a_configuration_error(self, site):
        server = Master(site, User="nobody-at-all")
        result = run_command(server.config)
        assert result.returncode == 78
        assert "nobody-at-all" in result.stderr
        assert_gone(server)


class TestDescriptors:
    def test_a_worker_holds_nothing_of_the_master_but_what_it_needs(self, site, start):
        server = start(Master, site)
        all_serve(server)
        for pid in server.workers():
            found = descriptors(pid)
            assert server.pid_file not in found
            assert server.log in found

    def test_a_program_that_a_script_starts_inherits_no_descriptor(self, site, start):
        server = start(Master, site)
        site.write("fds.lua", "function main() Send(io.popen('ls /proc/self/fd'):read('a')) end")
        # ls itself opens one more: the directory.
        assert [int(fd) for fd in ask(server, "fds.lua").split()] in ([0, 1, 2, 3], [0, 1, 2])


def environment():
    return dict(os.environ, PYTHONPATH=ROOT)


def run_command(*arguments):
    return subprocess.run([sys.executable, "-m", "luafcgid2", *arguments], env=environment(), timeout=60,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_driver(*arguments):
    return subprocess.run([sys.executable, "-c", DRIVER, *arguments], env=environment(), timeout=60,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def descriptors(pid):
    folder = f"/proc/{pid}/fd"
    found = []
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(os.path.join(folder, name)))
    return found


def ids(pid, key):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(key + ":"):
                return [int(word) for word in line.split()[1:]]
    return []
