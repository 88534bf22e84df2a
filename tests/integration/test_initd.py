"""The init script, run as init runs it, on directories of its own."""
from __future__ import annotations

import os
import pwd
import subprocess
import sys

import pytest
from harness import ROOT, Site, accepts, wait_until
from servers import Master

from luafcgid2.pidfile import probe

SCRIPT = os.path.join(ROOT, "init.d", "luafcgid2")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="init scripts are run by root")


class Service:
    """The init script with an env file, a control program and a configuration below one directory."""

    def __init__(self, site):
        self.site = site
        self.logs, self.state = os.path.join(site.path, "log"), os.path.join(site.path, "state")
        self.server = Master(site, SessionStore="sqlite:///" + os.path.join(self.state, "state.db"))
        self.server.log = self.server.settings["LogFilePath"] = os.path.join(self.logs, "luafcgid2.log")
        self.server.write_config()
        program = os.path.join(site.run, "luafcgid2ctl")
        with open(program, "w") as file:
            file.write(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m luafcgid2.ctl "$@"\n')
        os.chmod(program, 0o755)
        self.defaults = os.path.join(site.run, "defaults")
        self.configure(CTL=program, CONFIG=self.server.config, LOGDIR=self.logs, STATEDIR=self.state)

    def configure(self, **settings):
        with open(self.defaults, "a") as file:
            file.writelines(f"{key}='{value}'\n" for key, value in settings.items())

    def __call__(self, verb):
        """Run the script with init's bare environment."""
        return subprocess.run(["/bin/sh", SCRIPT, *verb.split()], text=True, timeout=120, cwd="/",
                              env={"LUAFCGID2_DEFAULTS": self.defaults, "TERM": "dumb"},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    @property
    def pid(self):
        return probe(self.server.pid_file).pid


@pytest.fixture
def service():
    with Site() as site:
        # The server is www-data here, whose files are made in `run`.
        os.chmod(site.path, 0o755)
        os.chmod(site.run, 0o777)
        made = Service(site)
        yield made
        made("stop")
        assert probe(made.server.pid_file).state == "absent"


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
