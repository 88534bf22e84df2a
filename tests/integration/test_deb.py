"""The Debian package: built, installed, started, asked through nginx, removed, purged; nothing of it is left.

It changes the machine, so it runs only for root, and only where no luafcgid2 is installed or configured.
"""
from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess

import pytest
from harness import ROOT, accepts, children, is_alive
from servers import DEFAULT_SOCKET, Nginx
from test_package import GENERATED

from luafcgid2 import __version__
from luafcgid2.pidfile import probe

PID_FILE = "/var/tmp/luafcgid2.pid"
OURS = ("/etc/luafcgid2", "/etc/init.d/luafcgid2", "/var/log/luafcgid2", "/var/lib/luafcgid2", "/usr/bin/luafcgid2",
        "/usr/lib/luafcgid2", PID_FILE, DEFAULT_SOCKET)
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}


def is_free():
    """Whether this machine has nothing of luafcgid2 that the test could harm."""
    return (os.geteuid() == 0 and shutil.which("dpkg-buildpackage") and shutil.which("dh")
            and "ii " not in dpkg_status() and not any(map(os.path.lexists, OURS)))


def dpkg_status():
    done = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ", "luafcgid2"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True)
    return done.stdout


def run(*command, check=True, **options):
    """What a command prints on both outputs, with a root shell's environment."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=280, env=options.pop("env", ENVIRONMENT), **options)
    assert not check or done.returncode == 0, "%s\n%s" % (" ".join(command), done.stdout)
    return done.stdout


def apt(*words, check=True):
    # Somebody else may be installing something at this moment.
    return run("apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0", *words, check=check)


def named_after_us():
    """Every path of the system that bears the name."""
    return {path for top in ("/etc", "/usr", "/var", "/lib", "/run")
            for path in run("find", top, "-xdev", "-name", "*luafcgid2*", check=False).splitlines() if path[:1] == "/"}


@pytest.fixture
def package(tmp_path):
    """A .deb of this checkout, built in a copy."""
    checkout = tmp_path / "luafcgid2"
    shutil.copytree(ROOT, checkout, ignore=GENERATED, symlinks=True)
    pip = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "HTTP", "http", "HOME"))}
    run("make", "deb", cwd=checkout, env=dict(ENVIRONMENT, EXTRAS="", **pip))
    (made,) = (checkout / "dist").glob("luafcgid2_%s_*.deb" % __version__)
    return str(made)


@contextlib.contextmanager
def installed(package):
    """The package is on the machine, and is no more afterwards, whatever happens."""
    try:
        apt("install", "--no-install-recommends", package)
        yield
    finally:
        apt("purge", "luafcgid2", check=False)


@pytest.mark.skipif(not is_free(), reason="only for root, with debhelper, on a machine without any luafcgid2")
def test_the_package_serves_through_nginx_and_goes_without_a_trace(package, site):
    os.chmod(site.path, 0o755)
    site.write("packaged.lua", 'function main() Send("from the package") end')
    before = named_after_us()
    with installed(package):
        assert dpkg_status().startswith("ii ")
        run("/etc/init.d/luafcgid2", "start")
        pid = probe(PID_FILE).pid
        processes = [pid, *children(pid)]
        assert len(processes) > 1 and accepts(DEFAULT_SOCKET)
        assert "is running" in run("/etc/init.d/luafcgid2", "status")
        files = run("dpkg", "-L", "luafcgid2")
        assert files.count("/usr/share/man/man8/luafcgid2") == 2 and "/luafcgid2/_fastpath." in files
        with Nginx(site, Installed(), {"packaged": "include /etc/nginx/snippets/luafcgid2.conf;"}) as nginx:
            answer = nginx.request("/packaged.lua")
            assert (answer.status, answer.body) == (200, b"from the package")
        for path in ("/var/log/luafcgid2/luafcgid2.log", "/var/lib/luafcgid2"):
            assert os.stat(path).st_uid == pwd.getpwnam("www-data").pw_uid

        apt("remove", "luafcgid2")
        assert not any(map(is_alive, processes))
        assert not os.path.exists("/usr/lib/luafcgid2") and not os.path.lexists("/usr/bin/luafcgid2")
        # What the administrator and the visitors have made stays until the package is purged.
        assert os.path.exists("/etc/luafcgid2/config.lua") and os.path.exists("/var/log/luafcgid2/luafcgid2.log")
        apt("purge", "luafcgid2")
        assert named_after_us() - before == set()
        assert not any(map(os.path.lexists, OURS))


class Installed:
    """What nginx's configuration needs to know of the server."""

    address = DEFAULT_SOCKET
