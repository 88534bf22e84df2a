"""systemd's own programs read the files of etc/; the unit's command line runs as systemd would run it."""
from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys

import pytest
from harness import PATIENCE, ROOT, is_alive, program, wait_until
from servers import Master

from luafcgid2 import client

ETC = os.path.join(ROOT, "etc")
UNITS = os.path.join(ETC, "systemd")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become www-data")
# What the service's hardening means for a process, as far as it needs no systemd.
CONFINED = ["setpriv", "--reuid", "www-data", "--regid", "www-data", "--init-groups", "--no-new-privs",
            "--bounding-set=-all", "--inh-caps=-all"]
SCRIPT = """
function main()
  local pipe = io.popen("echo piped; id -un")
  Send(pipe:read("a"))
  pipe:close()
  Session.SetVar("r", "k", "stored")
  Send(Session.GetVar("r", "k"))
end
"""


def run(*command, **options):
    """What a command prints; it must succeed."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=120, **options)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def units(tmp_path):
    """A folder with both units, whose programs are there."""
    for name in ("luafcgid2", "luafcgid2ctl"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    for name in os.listdir(UNITS):
        with open(os.path.join(UNITS, name), encoding="utf-8") as file:
            (tmp_path / name).write_text(file.read().replace("/usr/local/bin", str(tmp_path)))
    return tmp_path


def test_systemd_finds_nothing_to_say_about_the_units(units):
    command = (program("systemd-analyze"), "verify", "--man=no", str(units / "luafcgid2.service"),
               str(units / "luafcgid2.socket"))
    assert run(*command) == ""
    path = units / "luafcgid2.service"
    path.write_text(path.read_text() + "[Service]\nNoSuchKey=yes\n")
    assert "NoSuchKey" in run(*command)


@as_root
def test_the_account_is_the_one_that_debian_has(tmp_path):
    (tmp_path / "etc").mkdir()
    path = os.path.join(ETC, "sysusers.d", "luafcgid2.conf")
    run(program("systemd-sysusers"), "--root=%s" % tmp_path, path)
    assert (tmp_path / "etc" / "passwd").read_text().startswith("www-data:x:33:33:")


@as_root
def test_directories_are_made_and_files_of_a_running_server_are_not_cleaned_away(tmp_path):
    path = os.path.join(ETC, "tmpfiles.d", "luafcgid2.conf")
    for name in ("passwd", "group"):
        (tmp_path / "etc").mkdir(exist_ok=True)
        shutil.copy("/etc/" + name, tmp_path / "etc" / name)
    temporary = tmp_path / "var" / "tmp"
    temporary.mkdir(parents=True)
    for name in ("luafcgid2.sock", "luafcgid2.pid", "other"):
        (temporary / name).touch()
    cleaning = tmp_path / "cleaning.conf"
    cleaning.write_text("d /var/tmp 1777 root root 0\n")
    run(program("systemd-tmpfiles"), "--root=%s" % tmp_path, "--create", "--clean", path, str(cleaning))
    assert sorted(os.listdir(temporary)) == ["luafcgid2.pid", "luafcgid2.sock"]
    for name in ("lib", "log"):
        made = os.stat(tmp_path / "var" / name / "luafcgid2")
        assert made.st_mode & 0o777 == 0o750 and made.st_uid != 0


def command_line(key, config):
    """The words of the service's ExecStart or ExecReload, run from this checkout."""
    with open(os.path.join(UNITS, "luafcgid2.service"), encoding="utf-8") as file:
        words = re.search(r"(?m)^%s=(.*)$" % key, file.read()).group(1).replace("${CONFIG}", config).split()
    module = {"luafcgid2": "luafcgid2", "luafcgid2ctl": "luafcgid2.ctl"}[os.path.basename(words[0])]
    return [*CONFINED, sys.executable, "-m", module, *words[1:]]


class Service(Master):
    """The master as the unit starts it: confined, with a socket for its words."""

    def __init__(self, site):
        super().__init__(site)
        self.argv = command_line("ExecStart", self.config)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.settimeout(PATIENCE)
        self.environment["NOTIFY_SOCKET"] = os.path.join(site.run, "notify")
        self.manager.bind(self.environment["NOTIFY_SOCKET"])
        os.chmod(self.environment["NOTIFY_SOCKET"], 0o777)


@as_root
def test_the_unit_starts_reloads_and_stops_and_its_hardening_breaks_no_script(site):
    if subprocess.run([*CONFINED, sys.executable, "-c", ""], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("www-data cannot run this Python")
    # www-data has no business in a folder of root's: what it needs is made readable.
    os.chmod(site.path, 0o755)
    shutil.chown(site.run, "www-data", "www-data")
    path = site.write("x.lua", SCRIPT)
    server = Service(site)
    with contextlib.closing(server.manager), server:
        assert b"READY=1" in server.manager.recv(65536)
        answer = client.request(server.address, {
            "REQUEST_METHOD": "GET", "SCRIPT_FILENAME": path, "DOCUMENT_ROOT": site.www, "SCRIPT_NAME": "/x.lua"})
        assert answer.body == b"piped\nwww-data\nstored"
        run(*command_line("ExecReload", server.config), env=server.environment)
        wait_until(lambda: "SIGHUP: generation 1" in server.log_text(), "the reload")
        workers = server.workers()
        # KillMode=mixed: only the master hears of the stop.
        assert server.stop() == 0
        assert not [pid for pid in workers if is_alive(pid)]
