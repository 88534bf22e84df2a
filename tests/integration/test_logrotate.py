"""logrotate, with the project's own file, on the log of a running server."""
from __future__ import annotations

import os
import pwd
import subprocess

import pytest
from harness import ROOT, children, program, wait_until
from service import SCRIPT, Service

from luafcgid2 import client

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="logrotate runs as root")


class Rotation:
    """The shipped file, on the service's own log and init script."""

    def __init__(self, service):
        run = service.site.run
        self.state, self.config = os.path.join(run, "logrotate.state"), os.path.join(run, "logrotate.conf")
        with open(os.path.join(ROOT, "etc", "logrotate.d", "luafcgid2"), encoding="utf-8") as file:
            text = file.read()
        for old, new in (("/var/log/luafcgid2", service.logs), ("/etc/init.d/luafcgid2", SCRIPT)):
            assert old in text
            text = text.replace(old, new)
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(text)
        self.environment = {"PATH": os.environ["PATH"], "LUAFCGID2_DEFAULTS": service.defaults}

    def __call__(self):
        """Rotate, as if a week had passed."""
        command = [program("logrotate"), "--force", "--state", self.state, self.config]
        done = subprocess.run(command, text=True, timeout=60, env=self.environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        assert (done.returncode, done.stdout) == (0, "")


@pytest.fixture
def service(site):
    with Service(site) as made:
        yield made


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def holds(pid, path):
    """Whether a process has a file open."""
    return any(os.path.realpath("/proc/%d/fd/%s" % (pid, fd)) == path for fd in os.listdir("/proc/%d/fd" % pid))


def test_master_and_workers_write_to_the_new_file_and_nothing_is_lost(service):
    service("start")
    before = service.pid
    log = service.server.log
    old = read(log)
    os.chmod(service.site.run, 0o755)       # logrotate takes no configuration from a folder that all may write to
    Rotation(service)()
    wait_until(lambda: "log reopened" in read(log), "a line in the new file")
    assert read(log + ".1").startswith(old)
    assert os.stat(log).st_uid == pwd.getpwnam("www-data").pw_uid
    assert os.stat(log).st_mode & 0o777 == 0o640
    everybody = [before, *children(before)]
    wait_until(lambda: not any(holds(pid, log + ".1") for pid in everybody), "all have let the old file go")
    moved = read(log + ".1")
    # A failed script is a line of a worker's.
    fail = os.path.join(service.site.www, "fail.lua")
    client.request(service.server.address, {
        "REQUEST_METHOD": "GET", "SCRIPT_FILENAME": fail, "SCRIPT_NAME": "/fail.lua",
        "DOCUMENT_ROOT": service.site.www})
    wait_until(lambda: "fail.lua" in read(log), "the worker's line in the new file")
    assert read(log + ".1") == moved
    assert service.pid == before


def test_the_second_rotation_compresses_the_first(service):
    service("start")
    os.chmod(service.site.run, 0o755)
    rotation = Rotation(service)
    rotation()
    wait_until(lambda: "log reopened" in read(service.server.log), "a line in the new file")
    rotation()
    names = {name[len("luafcgid2.log"):] for name in os.listdir(service.logs)}
    assert names == {"", ".1", ".2.gz"}


def test_without_a_server_a_rotation_is_no_error(service):
    service("start")
    service("stop")
    os.chmod(service.site.run, 0o755)
    Rotation(service)()
    assert read(service.server.log) == ""
