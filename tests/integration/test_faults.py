"""Faults of the machine under real servers: no process, no descriptor, no space, a clock that jumps, signals from
nowhere.  Logs on a full disk are in test_logs.py, accepting without descriptors in test_worker.py."""
from __future__ import annotations

import contextlib
import glob
import os
import pwd
import resource
import signal
import subprocess
import threading
import time

import pytest
from controlled import Daemon
from harness import Site, free_port, is_alive, small_disk, wait_until
from servers import Master

from luafcgid2 import client
from luafcgid2.pidfile import probe
from luafcgid2.procfs import is_stopped
from luafcgid2.scoreboard import READY, Scoreboard

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may")
# RLIMIT_NPROC counts all threads of a user, so it is one of Debian's that has none but ours; no other file's tests,
# which may run at the same time, use it.
NOBODY_ELSE = "games"
FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"
SCRIPTS = {
    "fine.lua": "function main() Send('fine') end",
    "sleep.lua": "function main() local pipe = io.open(Env.QUERY_STRING) "
                 "Send('got ' .. pipe:read('l')) pipe:close() end",
    "session.lua": "function main() Session.Start() local n = (Session.GetVar('shop', 'n') or 0) + 1 "
                   "Session.SetVar('shop', 'n', n) Send(n) end",
    "shared.lua": "function main() Send(Shared.Incr('n', 1, 0, 3600)) end",
    "upload.lua": "function main() Send(#Receive()) end",
    "popen.lua": "function main() local pipe, problem = io.popen('echo popped') "
                 "Send(pipe and pipe:read('l') or 'none: ' .. tostring(problem)) end",
}


@pytest.fixture
def site():
    with Site() as found:
        for name, source in SCRIPTS.items():
            found.write(name, source)
        yield found


def get(server, name, query="", body=b"", **params):
    """The whole answer to a request for a script."""
    return client.request(server.address, {
        "REQUEST_METHOD": "POST" if body else "GET", "SCRIPT_FILENAME": os.path.join(server.site.www, name),
        "QUERY_STRING": query, "DOCUMENT_ROOT": server.site.www, "SCRIPT_NAME": "/" + name,
        "REQUEST_URI": "/" + name, "CONTENT_LENGTH": str(len(body)), **params}, body)


def serving(server):
    """Pids of the workers, once all are ready."""
    def found():
        return [slot.pid for _, slot in Scoreboard.of(server.pid).workers() if slot.state == READY]
    return wait_until(lambda: len(found()) == server.settings["Workers"] and found(), "all workers")


@contextlib.contextmanager
def held(server):
    """A request that waits in io.read; yields (list that its body or an exception comes into, release)."""
    path, outcome = os.path.join(server.site.run, "pipe"), []
    os.mkfifo(path)

    def run():
        try:
            outcome.append(get(server, "sleep.lua", path).body)
        except (OSError, client.ProtocolError) as error:
            outcome.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        # Opening returns when the script has opened the other end.
        with open(path, "w") as pipe:
            def release():
                pipe.write("it\n")
                pipe.flush()
                thread.join(30)
            yield outcome, release
    finally:
        thread.join(30)
        os.unlink(path)
        assert not thread.is_alive()


@contextlib.contextmanager
def shared_with(user):
    """A Site in which that user may write."""
    with Site() as site:
        for name, source in SCRIPTS.items():
            site.write(name, source)
        os.chmod(site.path, 0o755)
        os.chown(site.run, pwd.getpwnam(user).pw_uid, -1)
        yield site


@contextlib.contextmanager
def limited(pids, what, number):
    """Those processes have a soft limit ("nproc", "nofile"); it is as before afterwards."""
    key = getattr(resource, "RLIMIT_" + what.upper())
    before = {pid: resource.prlimit(pid, key)[0] for pid in pids if is_own(pid)}
    for pid in pids:
        limit(pid, what, number)
    try:
        yield
    finally:
        for pid in filter(is_alive, pids):
            limit(pid, what, before.get(pid, resource.getrlimit(key)[0]))


def is_own(pid):
    return os.stat("/proc/%d" % pid).st_uid == os.geteuid()


def limit(pid, what, number):
    """Set the soft limit of a process as its owner, as the kernel wants it where root is not almighty."""
    text = "unlimited" if number == resource.RLIM_INFINITY else str(number)
    owner = os.stat("/proc/%d" % pid)
    become = {} if is_own(pid) else {"user": owner.st_uid, "group": owner.st_gid}
    subprocess.run(["prlimit", "--pid", str(pid), "--%s=%s:" % (what, text)], check=True, **become)


class TestStopped:
    """SIGSTOP of a worker."""

    def test_its_clients_are_answered_by_its_successor_after_a_while(self, site):
        daemon = Daemon(site, Workers=2, copied=True)
        daemon.edit("stopped.py", "PATIENCE = 30.0", "PATIENCE = 0.5")
        with daemon:
            daemon.expect_errors("stopped by a signal|was killed by SIGKILL")
            victims = daemon.serving()
            for pid in victims:
                os.kill(pid, signal.SIGSTOP)
            wait_until(lambda: all(map(is_stopped, victims)), "they stand still")
            # The request waits in the kernel until somebody new works.
            assert daemon.ask("fine.lua") == "fine"
            wait_until(lambda: len(daemon.serving()) == 2 and not any(map(is_alive, victims)), "new workers")
            assert all("(pid %d) is killed: it was stopped by a signal" % pid in daemon.log_text() for pid in victims)

    def test_one_that_goes_on_in_time_keeps_its_requests(self, site, start):
        server = start(Master, site, Workers=1)
        server.expect_errors("is stopped by a signal")
        [pid] = serving(server)
        with client.Client(server.address) as kept:
            os.kill(pid, signal.SIGSTOP)
            wait_until(lambda: "(pid %d) is stopped by a signal" % pid in server.log_text(), "the warning")
            os.kill(pid, signal.SIGCONT)
            assert kept.request({"SCRIPT_FILENAME": os.path.join(site.www, "fine.lua"), "SCRIPT_NAME": "/fine.lua",
                                 "DOCUMENT_ROOT": site.www, "REQUEST_METHOD": "GET"}).body == b"fine"
        assert serving(server) == [pid]


@as_root
class TestNoProcess:
    """RLIMIT_NPROC, which does not hold for root."""

    def test_a_worker_that_cannot_be_forked_comes_when_it_can(self):
        with shared_with(NOBODY_ELSE) as site, Master(site, User=NOBODY_ELSE) as server:
            server.expect_errors("cannot be forked|was killed by SIGKILL")
            victim, other = serving(server)
            with limited([server.pid], "nproc", 1):
                os.kill(victim, signal.SIGKILL)
                wait_until(lambda: "a worker cannot be forked: Resource temporarily unavailable" in server.log_text(),
                           "the log says so")
                assert get(server, "fine.lua").body == b"fine"
                assert server.workers() == [other]
            assert other in serving(server)
            # Once a second, not a thousand times.
            assert server.log_text().count("cannot be forked") < 60

    def test_a_program_that_cannot_be_started_is_an_error_of_its_script_only(self):
        with shared_with(NOBODY_ELSE) as site, Master(site, User=NOBODY_ELSE, Workers=1) as server:
            assert get(server, "popen.lua").body == b"popped"
            with limited(serving(server), "nproc", 1):
                assert get(server, "popen.lua").body.startswith(b"none: ")
                assert get(server, "fine.lua").body == b"fine"
            assert get(server, "popen.lua").body == b"popped"

    def test_a_worker_that_gets_no_threads_says_so_and_comes_when_it_can(self):
        with shared_with(NOBODY_ELSE) as site, Master(site, User=NOBODY_ELSE, Workers=1) as server:
            server.expect_errors("was killed by SIGKILL|can't start new thread; the next one starts in 1 s")
            used = processes_of(NOBODY_ELSE)
            [victim] = serving(server)
            # The fork takes the place of the dead worker, its threads find no room.
            with limited([server.pid], "nproc", used - threads_of(victim) + 1):
                os.kill(victim, signal.SIGKILL)
                wait_until(lambda: "can't start new thread" in server.log_text(), "the log says so")
            assert serving(server) != [victim]
            assert get(server, "fine.lua").body == b"fine"


def threads_of(pid):
    return len(os.listdir("/proc/%d/task" % pid))


def processes_of(user):
    """What RLIMIT_NPROC counts: all threads of a user."""
    uid, count = pwd.getpwnam(user).pw_uid, 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat("/proc/" + name).st_uid == uid:
                count += threads_of(int(name))
    return count


def test_a_script_that_cannot_be_read_for_want_of_descriptors_runs_when_it_can(site, start):
    server = start(Master, site, Workers=1)
    server.expect_errors("Too many open files|unable to open")
    assert get(server, "fine.lua").body == b"fine"
    with client.Client(server.address) as kept:
        def ask(name):
            return kept.request({"SCRIPT_FILENAME": os.path.join(site.www, name), "SCRIPT_NAME": "/" + name,
                                 "DOCUMENT_ROOT": site.www, "REQUEST_METHOD": "GET"})
        assert ask("fine.lua").body == b"fine"
        # Descriptors that exist stay, no new one can be had.
        with limited(serving(server), "nofile", 3):
            assert ask("fine.lua").body == b"fine"
            assert [ask(name).status for name in ("shared.lua", "session.lua")] == [500, 500]
        assert (ask("shared.lua").body, ask("session.lua").body) == (b"1", b"1")


@as_root
class TestNoSpace:
    """A full file system of its own for what the server writes."""

    def test_the_session_store_is_an_error_of_its_scripts_and_recovers(self, site):
        with small_disk(site, 512) as (folder, fill, clear), \
                Master(site, SessionStore="sqlite:///" + os.path.join(folder, "state.db")) as server:
            server.expect_errors("is full|disk I/O error")
            assert (get(server, "session.lua").body, get(server, "shared.lua").body) == (b"1", b"1")
            workers = serving(server)
            fill()
            # What fits into pages that are there already goes on; at some time there are none.
            wait_until(lambda: get(server, "session.lua").status == 500, "the store is full")
            assert get(server, "fine.lua").body == b"fine"
            clear()
            assert get(server, "session.lua").body == b"1"
            assert int(get(server, "shared.lua").body) > 1
            assert serving(server) == workers

    def test_a_store_that_cannot_even_be_made_harms_nobody_else_and_is_made_later(self, site):
        with small_disk(site, 64) as (folder, fill, clear):
            fill()
            with Master(site, SessionStore="sqlite:///" + os.path.join(folder, "state.db")) as server:
                server.expect_errors("session store .*(is full|disk I/O error|No space left)")
                assert get(server, "session.lua").status == 500
                assert get(server, "fine.lua").body == b"fine"
                clear()
                subprocess.run(["mount", "-o", "remount,size=1m", folder], check=True)
                assert get(server, "session.lua").body == b"1"

    def test_a_body_that_finds_no_room_is_507_and_the_next_one_has_it_again(self, site):
        with small_disk(site, 1024) as (folder, _, _), Master(site, Workers=1, TempDir=folder) as server:
            server.expect_errors("507|cannot be kept in TempDir")
            assert get(server, "upload.lua", body=bytes(900 << 10)).body == b"%d" % (900 << 10)
            assert get(server, "upload.lua", body=bytes(2 << 20)).status == 507
            assert get(server, "upload.lua", body=bytes(900 << 10)).body == b"%d" % (900 << 10)
            assert os.listdir(folder) == [] and os.statvfs(folder).f_bavail == os.statvfs(folder).f_blocks


class TestClock:
    """The wall clock jumps (a Pi has none of its own before it asks the network); libfaketime moves it."""

    @pytest.fixture
    def clock(self, site):
        [library] = glob.glob(FAKETIME)
        path = os.path.join(site.run, "clock")

        def turn(offset):
            with open(path + ".new", "w") as file:
                file.write(offset)
            os.replace(path + ".new", path)
        turn("+0")
        turn.environment = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": path, "FAKETIME_NO_CACHE": "1",
                            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1"}
        return turn

    def test_no_jump_kills_a_worker_loses_a_request_or_hides_an_edit(self, site, clock):
        server = Master(site, Workers=2, WorkerThreads=2, RequestTimeout=3600, ReadTimeout=3600, MinFileInfoTime=0)
        server.environment.update(clock.environment)
        site.write("time.lua", "function main() Send(os.time()) end")
        with server:
            workers = serving(server)
            for number, offset in enumerate(("+4000d", "-4000d", "+0")):
                with held(server) as (outcome, release):
                    clock(offset)
                    seen = int(get(server, "time.lua").body)
                    assert abs(seen - time.time() - int(offset.rstrip("d")) * 86400) < 3600
                    site.write("edit.lua", "function main() Send('%d') end" % number)
                    for _ in range(4):
                        assert get(server, "edit.lua").body == b"%d" % number
                        assert get(server, "session.lua").body == b"1"
                    release()
                assert outcome == [b"got it"]
            assert serving(server) == workers


class TestMasters:
    """The master is gone, or there are two."""

    @pytest.mark.parametrize("kind", ["unix", "tcp"])
    def test_after_a_kill_the_next_start_succeeds_at_once_and_what_runs_is_answered(self, site, kind):
        port = free_port()
        first = Master(site, **{} if kind == "unix" else {"Listen": "127.0.0.1:%d" % port})
        second = Master(site, "second", **{name: first.settings[name] for name in ("Listen", "PidFile")})
        first.address = second.address = first.address if kind == "unix" else ("127.0.0.1", port)
        first.expect_errors("the master is gone")
        with first:
            for _ in range(5):
                get(first, "fine.lua")
            workers = first.workers()
            with held(first) as (outcome, release):
                os.kill(first.pid, signal.SIGKILL)
                with second:
                    assert get(second, "fine.lua").body == b"fine"
                    assert set(serving(second)).isdisjoint(workers)
                    release()
                    assert outcome == [b"got it"]
                    wait_until(lambda: not any(map(is_alive, workers)), "the old workers leave")
                    assert get(second, "fine.lua").body == b"fine"

    @pytest.mark.parametrize("kind", ["unix", "tcp"])
    def test_a_start_waits_a_moment_for_workers_that_have_not_noticed_yet(self, site, kind):
        port = free_port()
        first = Master(site, Workers=1, **{} if kind == "unix" else {"Listen": "127.0.0.1:%d" % port})
        second = Master(site, "second", **{name: first.settings[name] for name in ("Listen", "PidFile")})
        first.address = second.address = first.address if kind == "unix" else ("127.0.0.1", port)
        first.expect_errors("the master is gone|is stopped by a signal")
        with first:
            [worker] = serving(first)
            os.kill(worker, signal.SIGSTOP)
            os.kill(first.pid, signal.SIGKILL)
            first._process.wait()

            def go_on():
                wait_until(lambda: probe(first.pid_file).state == "running", "the second master begins")
                os.kill(worker, signal.SIGCONT)
            thread = threading.Thread(target=go_on)
            thread.start()
            with second:
                thread.join()
                assert get(second, "fine.lua").body == b"fine"
                wait_until(lambda: not is_alive(worker), "the old worker leaves")

    def test_a_pid_file_that_names_a_stranger_is_taken_over_and_the_stranger_left_alone(self, site, start):
        with subprocess.Popen(["sleep", "600"]) as stranger:
            try:
                server = Master(site)
                with open(server.pid_file, "w") as file:
                    file.write("%d\n" % stranger.pid)
                with server:
                    assert probe(server.pid_file)[:2] == ("running", server.pid)
                    assert get(server, "fine.lua").body == b"fine"
                assert stranger.poll() is None
            finally:
                stranger.kill()

    @pytest.mark.parametrize("by", ["pid file", "unix", "tcp"])
    def test_of_two_that_start_at_once_one_serves_and_the_other_says_why_not(self, site, by):
        listen = "127.0.0.1:%d" % free_port() if by == "tcp" else os.path.join(site.run, "both.sock")
        address = ("127.0.0.1", int(listen.rpartition(":")[2])) if by == "tcp" else listen
        pid_files = {"PidFile": os.path.join(site.run, "both.pid")} if by == "pid file" else {}
        servers = [Master(site, name, Listen=listen, **pid_files) for name in ("one", "two")]
        running = [subprocess.Popen(server.argv, env=server.environment, stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for server in servers]
        try:
            loser = wait_until(lambda: next((one for one in running if one.poll() is not None), None), "one gives up")
            said = loser.stdout.read().decode()
            assert loser.returncode == 1
            assert {"pid file": "already running", "unix": "is in use", "tcp": "in use"}[by] in said, said
            winner = next(one for one in running if one is not loser)
            site_of = servers[running.index(winner)]
            wait_until(lambda: "info: ready" in site_of.log_text(), "the other serves")
            site_of.address = address
            assert get(site_of, "fine.lua").body == b"fine" and winner.poll() is None
        finally:
            for one in running:
                if one.poll() is None:
                    one.terminate()
                one.wait(30)
                one.stdout.close()
