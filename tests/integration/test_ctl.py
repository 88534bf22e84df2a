"""luafcgid2ctl: verbs, exit codes of the LSB table, and the truth about pid files."""
from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
from harness import ROOT, Site, accepts, children, is_alive, wait_until
from servers import Master

from luafcgid2.pidfile import PidFile, probe

FAILED, NO_RIGHTS, NOT_CONFIGURED, NOT_RUNNING = 1, 4, 6, 7


def ctl(config, *words):
    """Run the control program; what it printed and its exit code."""
    return subprocess.run([sys.executable, "-m", "luafcgid2.ctl", "-c", config, *words], text=True,
                          env=dict(os.environ, PYTHONPATH=ROOT), stdin=subprocess.DEVNULL, timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def server(site):
    """A server's settings, not started; stopped by the pid in its pid file in any case."""
    made = Master(site)
    yield made
    found = probe(made.pid_file)
    if found.state == "running" and found.pid != os.getpid():
        os.kill(found.pid, signal.SIGTERM)
        wait_until(lambda: probe(made.pid_file).state != "running", "it stops")


def master_pid(server):
    found = probe(server.pid_file)
    assert found.state == "running"
    return found.pid


class TestStart:
    def test_start_returns_when_the_server_accepts(self, server):
        # It also returns: the server holds neither standard output nor standard error.
        done = ctl(server.config, "start")
        assert (done.returncode, done.stderr) == (0, "")
        assert accepts(server.address)
        assert done.stdout == f"luafcgid2 is running (pid {master_pid(server)})\n"

    def test_the_server_is_a_session_of_its_own(self, server):
        ctl(server.config, "start")
        pid = master_pid(server)
        assert os.getsid(pid) == pid
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}

    def test_start_of_a_running_server_is_a_success_that_changes_nothing(self, server):
        ctl(server.config, "start")
        pid = master_pid(server)
        done = ctl(server.config, "start")
        assert (done.returncode, done.stdout) == (0, f"luafcgid2 is already running (pid {pid})\n")
        assert master_pid(server) == pid

    def test_two_starts_at_once_make_one_server(self, server):
        words = [sys.executable, "-m", "luafcgid2.ctl", "-c", server.config, "start"]
        both = [subprocess.Popen(words, env=dict(os.environ, PYTHONPATH=ROOT), stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True) for _ in range(2)]
        said = [one.communicate(timeout=60) for one in both]
        assert 0 in [one.returncode for one in both], said
        assert accepts(server.address)
        assert server.log_text().count("info: ready") == 1

    def test_a_missing_configuration_is_not_configured(self, site):
        done = ctl(site.run + "/none.lua", "start")
        assert done.returncode == NOT_CONFIGURED
        assert site.run + "/none.lua" in done.stderr

    def test_a_wrong_configuration_is_told_on_the_terminal(self, server):
        server.settings["WorkerThreads"] = "many"
        server.write_config()
        done = ctl(server.config, "start")
        assert done.returncode == NOT_CONFIGURED
        assert "WorkerThreads" in done.stderr

    def test_a_socket_in_use_is_told_on_the_terminal(self, server):
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(server.address)
            other.listen()
            done = ctl(server.config, "start")
            assert done.returncode == FAILED
            assert done.stderr == f"luafcgid2ctl: {server.address} is in use: pid {os.getpid()} " \
                                  f"({command_line(os.getpid())}) listens on it\n"
        assert not os.path.exists(server.pid_file)

    def test_a_log_that_cannot_be_written_is_told_on_the_terminal(self, server):
        server.settings["LogFilePath"] = server.site.run + "/no/such/dir/x.log"
        server.write_config()
        done = ctl(server.config, "start")
        assert done.returncode == 0
        assert "no/such/dir/x.log" in done.stderr

    def test_a_server_that_is_not_ready_in_time_is_not_left_behind(self, server):
        done = ctl(server.config, "start", "--timeout", "0")
        assert done.returncode == FAILED
        assert "not ready after 0 seconds" in done.stderr
        assert probe(server.pid_file).state == "absent"

    def test_a_stale_pid_file_does_not_hinder(self, server):
        with open(server.pid_file, "w") as file:
            file.write("%d\n" % os.getpid())
        assert ctl(server.config, "start").returncode == 0
        assert master_pid(server) != os.getpid()


class TestStatus:
    def test_a_running_server(self, server):
        ctl(server.config, "start")
        done = ctl(server.config, "status")
        assert (done.returncode, done.stdout) == (0, f"luafcgid2 is running (pid {master_pid(server)})\n")

    def test_full_adds_a_summary_that_is_not_there_without(self, server):
        ctl(server.config, "start")
        done = ctl(server.config, "status", "--full")
        first, second = done.stdout.splitlines()[:2]
        assert (done.returncode, first) == (0, f"luafcgid2 is running (pid {master_pid(server)})")
        assert re.match(r"  uptime +\d+ ", second)

    def test_a_terminal_gets_the_summary(self, server):
        ctl(server.config, "start")
        mine, its = os.openpty()
        try:
            words = [sys.executable, "-m", "luafcgid2.ctl", "-c", server.config, "status"]
            assert subprocess.run(words, env=dict(os.environ, PYTHONPATH=ROOT), stdout=its, timeout=60).returncode == 0
            assert "  uptime " in os.read(mine, 4096).decode()
        finally:
            os.close(mine)
            os.close(its)

    def test_json_is_json_and_nothing_else(self, server):
        ctl(server.config, "start")
        done = ctl(server.config, "status", "--json")
        found = json.loads(done.stdout)
        assert (done.returncode, found["pool"], found["total workers"]) == (0, "luafcgid2", 2)

    def test_json_of_no_server_is_empty_with_the_code_of_lsb(self, server):
        done = ctl(server.config, "status", "--json")
        assert (done.returncode, done.stdout) == (3, "")
        assert "not running" in done.stderr

    def test_it_answers_while_no_worker_can(self, server):
        ctl(server.config, "start")
        workers = children(master_pid(server))
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            done = ctl(server.config, "status", "--full")
            assert (done.returncode, done.stderr) == (0, "")
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)

    def test_top_prints_one_table_when_asked(self, server):
        ctl(server.config, "start")
        done = ctl(server.config, "top", "--once", "--interval", "0.1")
        assert (done.returncode, done.stderr) == (0, "")
        assert "requests/s" in done.stdout

    def test_top_of_no_server_says_so(self, server):
        done = ctl(server.config, "top", "--once")
        assert (done.returncode, done.stderr) == (NOT_RUNNING, "luafcgid2ctl: luafcgid2 is not running\n")

    def test_top_without_rich_says_how_to_get_it(self, server):
        # A package of that name which cannot be imported stands for one that is not there.
        server.site.write("../run/rich.py", "raise ImportError\n")
        done = subprocess.run([sys.executable, "-m", "luafcgid2.ctl", "-c", server.config, "top", "--once"],
                              env=dict(os.environ, PYTHONPATH=ROOT + os.pathsep + server.site.run), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        assert done.returncode == FAILED
        assert done.stderr == f"luafcgid2ctl: top needs the Python package rich: {sys.executable} -m pip install rich\n"

    def test_no_server(self, server):
        assert ctl(server.config, "status").returncode == 3

    def test_a_pid_file_of_a_living_process_that_is_no_server_is_dead(self, server):
        with open(server.pid_file, "w") as file:
            file.write("%d\n" % os.getpid())
        done = ctl(server.config, "status")
        assert done.returncode == 1
        assert server.pid_file in done.stdout

    def test_a_killed_master_is_dead(self, server):
        ctl(server.config, "start")
        pid = master_pid(server)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: probe(server.pid_file).state == "stale", "the lock is gone")
        assert ctl(server.config, "status").returncode == 1

    def test_without_a_configuration_it_is_unknown(self, site):
        assert ctl(site.run + "/none.lua", "status").returncode == 4

    def test_without_a_pid_file_in_the_configuration_it_is_unknown(self, site):
        server = Master(site, PidFile="")
        done = ctl(server.config, "status")
        assert done.returncode == 4
        assert "PidFile" in done.stderr


class TestStop:
    def test_stop_returns_when_the_server_is_gone(self, server):
        ctl(server.config, "start")
        pid = master_pid(server)
        done = ctl(server.config, "stop")
        assert (done.returncode, done.stderr) == (0, "")
        assert not accepts_path(server.address)
        assert not os.path.exists(server.pid_file)
        wait_until(lambda: not is_alive(pid), "the process is gone")

    def test_stop_without_a_server_is_a_success(self, server):
        assert ctl(server.config, "stop").returncode == 0

    def test_stop_removes_a_stale_pid_file_and_signals_nobody(self, server):
        with open(server.pid_file, "w") as file:
            file.write("%d\n" % os.getpid())
        assert ctl(server.config, "stop").returncode == 0
        assert not os.path.exists(server.pid_file)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_root_signals_nobody_for_a_pid_file_that_another_user_forged(self, server):
        # Held by us, but naming a process that its owner could not signal.
        with PidFile(server.pid_file):
            os.chown(server.pid_file, 65534, -1)
            done = ctl(server.config, "stop")
        assert done.returncode == NO_RIGHTS
        assert f"names pid {os.getpid()}" in done.stderr

    def test_a_hanging_master_is_killed(self, site):
        server = Master(site, StopTimeout=0)
        ctl(server.config, "start")
        pid = master_pid(server)
        os.kill(pid, signal.SIGSTOP)
        done = ctl(server.config, "stop")
        assert done.returncode == 0, done.stderr
        wait_until(lambda: not is_alive(pid), "the process is gone")
        wait_until(lambda: not accepts_path(server.address), "its workers leave too")


class TestRestartAndReload:
    def test_restart_makes_a_new_master(self, server):
        ctl(server.config, "start")
        pid = master_pid(server)
        assert ctl(server.config, "restart").returncode == 0
        assert master_pid(server) != pid
        assert accepts(server.address)

    def test_restart_starts_what_did_not_run(self, server):
        assert ctl(server.config, "restart").returncode == 0
        assert accepts(server.address)

    def test_a_broken_configuration_does_not_stop_a_good_server(self, server):
        ctl(server.config, "start")
        pid = master_pid(server)
        with open(server.config, "a") as file:
            file.write("this is no Lua\n")
        done = ctl(server.config, "restart")
        assert done.returncode == NOT_CONFIGURED
        assert master_pid(server) == pid

    def test_reload_flushes(self, server):
        ctl(server.config, "start")
        assert ctl(server.config, "reload").returncode == 0
        wait_until(lambda: "SIGHUP: generation 1" in server.log_text(), "the flush")

    def test_reopen_opens_the_log_anew(self, server):
        ctl(server.config, "start")
        os.rename(server.log, server.log + ".1")
        assert ctl(server.config, "reopen").returncode == 0
        wait_until(lambda: "log reopened" in server.log_text(), "the new file")

    @pytest.mark.parametrize("word", ["reopen", "status", "stop"])
    def test_a_mistake_in_the_file_of_a_running_server_leaves_it_under_control(self, server, word):
        ctl(server.config, "start")
        with open(server.config, "a") as file:
            file.write("WorkerThreads = 'many'\n")
        done = ctl(server.config, word)
        assert done.returncode == 0 and "WorkerThreads" in done.stderr

    @pytest.mark.parametrize("word", ["reload", "reopen", "upgrade"])
    def test_what_needs_a_server_says_that_none_runs(self, server, word):
        done = ctl(server.config, word)
        assert (done.returncode, done.stderr) == (NOT_RUNNING, "luafcgid2ctl: luafcgid2 is not running\n")


class TestOthers:
    def test_check_prints_the_effective_settings_and_starts_nothing(self, server):
        done = ctl(server.config, "check")
        assert done.returncode == 0
        assert server.address in done.stdout
        assert done.stdout.endswith(f"{server.config}: OK\n")
        assert not os.path.exists(server.pid_file)

    def test_check_and_the_option_t_say_the_same(self, server):
        tested = subprocess.run([sys.executable, "-m", "luafcgid2", "-t", server.config], text=True,
                                timeout=60, env=dict(os.environ, PYTHONPATH=ROOT), stdout=subprocess.PIPE)
        assert tested.returncode == 0
        assert tested.stdout == ctl(server.config, "check").stdout

    @pytest.mark.parametrize("key, value", [("Workers", "many"), ("User", "no-such-user"), ("Listen", "a:b"),
                                            ("ListenGroup", "no-such-group"), ("SessionStore", "mysql://"),
                                            ("Listen", "/no/such/directory/x.sock"), ("Listen", "/etc/passwd")])
    def test_check_refuses_what_a_start_would_refuse(self, site, key, value):
        done = ctl(Master(site, **{key: value}).config, "check")
        assert done.returncode in (78, FAILED)
        assert value in done.stderr

    def test_migrate_reports_on_an_ancestors_file(self, site):
        path = os.path.join(site.run, "old.lua")
        with open(path, "w") as file:
            file.write('WorkerThreads = 4\nlisten = "/tmp/elsewhere.sock"\n')
        done = ctl(path, "migrate")
        assert done.returncode == 0, done.stderr
        assert "/tmp/elsewhere.sock" in done.stdout
        assert ctl("/nonexistent.lua", "migrate", path).stdout == done.stdout

    def test_an_unknown_verb_is_a_usage_error(self, server):
        assert ctl(server.config, "fly").returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_user_of_the_command_line_counts_when_the_configuration_names_none():
    with Site() as site:
        os.chmod(site.path, 0o755)
        os.chmod(site.run, 0o777)
        server = Master(site)
        assert ctl(server.config, "start", "--user", "daemon").returncode == 0
        try:
            assert os.stat(f"/proc/{master_pid(server)}").st_uid == 1
        finally:
            assert ctl(server.config, "stop").returncode == 0


def accepts_path(path):
    return os.path.exists(path) and accepts(path)


def command_line(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read(200).replace(b"\0", b" ").decode("utf-8", "replace").strip()
