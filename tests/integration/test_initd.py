"""The init script, run as init runs it, on directories of its own."""
from __future__ import annotations

import os
import pwd
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import ROOT, accepts, children, is_alive, wait_until
from service import SCRIPT, Service

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="init scripts are run by root")


@pytest.fixture
def service(site):
    with Service(site) as made:
        yield made


def test_start_serves_as_www_data_with_its_directories(service):
    done = service("start")
    assert (done.returncode, done.stderr) == (0, "")
    uid = pwd.getpwnam("www-data").pw_uid
    assert os.stat(f"/proc/{service.pid}").st_uid == uid
    for path in (service.logs, service.state, service.server.address, service.server.log):
        assert os.stat(path).st_uid == uid
    assert accepts(service.server.address)


def test_a_life_with_every_verb(service):
    codes = []
    for verb in ("status", "try-restart", "reload", "stop", "start", "start", "status", "reload",
                 "reopen", "restart", "force-reload", "try-restart", "status", "stop", "stop", "status"):
        codes.append((verb, service(verb).returncode))
    assert codes == [
        ("status", 3), ("try-restart", 0), ("reload", 7), ("stop", 0), ("start", 0), ("start", 0),
        ("status", 0), ("reload", 0), ("reopen", 0), ("restart", 0), ("force-reload", 0), ("try-restart", 0),
        ("status", 0),
        ("stop", 0), ("stop", 0), ("status", 3)]


@pytest.mark.parametrize("verb", ["restart", "force-reload", "try-restart"])
def test_restarting_makes_a_new_master(service, verb):
    service("start")
    before = service.pid
    assert service(verb).returncode == 0
    assert service.pid != before
    assert accepts(service.server.address)


def test_reload_and_reopen_keep_the_master(service):
    service("start")
    before = service.pid
    os.rename(service.server.log, service.server.log + ".1")
    service("reopen")
    wait_until(lambda: "log reopened" in service.server.log_text(), "the new log")
    service("reload")
    wait_until(lambda: "SIGHUP: generation 1" in service.server.log_text(), "the flush")
    assert service.pid == before


def test_a_master_that_was_killed_is_status_1_and_starts_again(service):
    service("start")
    before = service.pid
    workers = children(service.pid)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, [before, *workers])), "the workers follow their master")
    assert service("status").returncode == 1
    assert service("try-restart").returncode == 0
    assert service("status").returncode == 1
    assert service("start").returncode == 0
    assert service.pid not in (0, before)
    assert accepts(service.server.address)


def test_a_dead_service_stops_without_an_error(service):
    service("start")
    os.kill(service.pid, signal.SIGKILL)
    wait_until(lambda: service("status").returncode == 1, "the master is dead")
    assert service("stop").returncode == 0
    assert service("status").returncode == 3


def test_a_start_of_two_at_once_makes_one_server(service):
    with ThreadPoolExecutor(2) as pool:
        codes = [done.returncode for done in pool.map(service, ["start", "start"])]
    # The later one finds a server that runs, or one that is just beginning to.
    assert 0 in codes and set(codes) <= {0, 1}
    assert service("status").returncode == 0


def test_a_stopped_service_leaves_no_process_and_no_socket(service):
    service("start")
    processes = [service.pid, *children(service.pid)]
    service("stop")
    # Stopped is who has let go of the pid file; the process ends a moment later.
    wait_until(lambda: not any(map(is_alive, processes)), "the processes are gone")
    assert len(processes) == 3
    assert not os.path.exists(service.server.address)


def test_a_service_needs_no_directory_and_no_path_of_its_caller(service):
    # `Service` calls with an empty environment from /; the workers are there, too.
    service("start")
    assert os.readlink(f"/proc/{service.pid}/cwd") == "/"
    for pid in (service.pid, *children(service.pid)):
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"


def test_an_error_of_the_start_is_on_the_terminal(service):
    with open(service.server.config, "a") as file:
        file.write("WorkerThreads = 'many'\n")
    done = service("start")
    assert done.returncode == 6
    assert "WorkerThreads" in done.stderr


def test_a_missing_program_or_configuration_has_its_lsb_code(service):
    service.configure(CTL="/nonexistent/ctl")
    assert service("start").returncode == 5
    assert service("status").returncode == 4
    service.configure(CTL="/bin/true", CONFIG="/nonexistent/config.lua")
    assert service("start").returncode == 6


def test_the_user_of_the_configuration_goes_before_that_of_the_env_file(service):
    service.server.settings["User"] = "daemon"
    service.server.settings["LogFilePath"] = ""
    service.server.write_config()
    service("start")
    assert os.stat(f"/proc/{service.pid}").st_uid == pwd.getpwnam("daemon").pw_uid


def test_an_unknown_verb_is_a_usage_error(service):
    done = service("fly")
    assert done.returncode == 2
    assert "force-reload" in done.stderr


def test_the_shipped_env_file_changes_nothing(service):
    with open(os.path.join(ROOT, "etc", "default", "luafcgid2")) as file:
        lines = [line for line in file.read().splitlines() if line and not line.startswith("#")]
    assert lines == []


def test_the_header_is_what_insserv_reads(service):
    with open(SCRIPT) as file:
        text = file.read()
    header = text.partition("### BEGIN INIT INFO\n")[2].partition("### END INIT INFO\n")[0]
    keys = [line[2:].partition(":")[0] for line in header.splitlines() if not line.startswith("#  ")]
    for key in ("Provides", "Required-Start", "Required-Stop", "Default-Start", "Default-Stop",
                "Short-Description"):
        assert key in keys
    assert os.access(SCRIPT, os.X_OK)
