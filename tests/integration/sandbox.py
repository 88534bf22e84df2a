"""A machine to ruin: a copy of this one in namespaces of its own, as a tutorial's reader has one.

In: root's rights on Linux with overlayfs.  Out: `Sandbox`, which runs commands of a shell one by one and writes files;
all of it, services that were started included, is gone after `with`.  Files of the real machine can be read and never
changed; what a luafcgid2 there has in /etc and /var is left out.  `sudo` does what it is told, without
asking, and so does apt-get, which leaves alone what is installed.  Commands reach the network only if they ask for it.
"""
from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from typing import List, Optional

from harness import PATIENCE, children, is_alive, wait_until

START = """\
set -e
mount -t tmpfs -o mode=755 sandbox "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" overlay "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
for folder in run tmp var/tmp; do mount -t tmpfs -o mode=1777 sandbox "$1/root/$folder"; done
mkdir "$1/root/run/lock"
rm -rf "$1/root/var/lib/luafcgid2" "$1/root/var/log/luafcgid2" "$1/root/etc/luafcgid2"
ip link set lo up
printf '#!/bin/sh\\nexec "$@"\\n' >"$1/root/usr/local/bin/sudo"
chmod 755 "$1/root/usr/local/bin/sudo"
printf 'APT::Get::Assume-Yes "true";\nAPT::Get::Upgrade "false";\n' >"$1/root/etc/apt/apt.conf.d/99sandbox"
touch "$1/ready"
exec sleep infinity
"""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def unavailable() -> str:
    """Why there can be no sandbox here; "" if there can."""
    if os.geteuid() != 0:
        return "only root can make a sandbox"
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        return "util-linux is not installed"
    done = subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c",
                           "mount -t tmpfs x /mnt && mkdir /mnt/u /mnt/w /mnt/r && "
                           "mount -t overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w x /mnt/r"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return "no namespaces or no overlayfs: " + done.stdout if done.returncode else ""


class Sandbox:
    """See the module's contract.  `home` is where commands start; `source` is copied to luafcgid2 in it."""

    home = "/home/pi"

    def __init__(self, source: str) -> None:
        self._source, self._folder = source, ""
        self._cwd = self.home
        self._process: Optional[subprocess.Popen] = None

    def __enter__(self) -> Sandbox:
        # Where a file system of its own covers nothing that the sandbox needs.
        self._folder = tempfile.mkdtemp(prefix="lf2-")
        command = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", START, "sandbox",
                   self._folder]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            # The folder's content is seen in the namespace only.
            wait_until(self._is_ready, "the sandbox is made")
            self.run("mkdir -p luafcgid2 && tar -C luafcgid2 -xf -", given=self._archive())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        first = children(self._process.pid)
        self._process.kill()
        self._process.wait()
        wait_until(lambda: not any(map(is_alive, first)), "the sandbox's processes are gone")
        os.rmdir(self._folder)

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, "no sandbox: exit code %d" % self._process.returncode
        inside = children(self._process.pid)
        return bool(inside) and os.path.exists("/proc/%d/root%s/ready" % (inside[0], self._folder))

    def _archive(self) -> bytes:
        skipped = ["--exclude=./" + name for name in (".git", ".venv*", "build", "dist", "*.egg-info")]
        return subprocess.run(["tar", "-C", self._source, *skipped, "--exclude=__pycache__", "-cf", "-", "."],
                              stdout=subprocess.PIPE, check=True).stdout

    def run(self, command: str, network: bool = False, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """What a command of the shell did; `cd` lasts, as in a terminal.  Both outputs are in `stdout`."""
        if command.startswith("cd "):
            self._cwd = os.path.normpath(os.path.join(self._cwd, command[3:]))
            command = "true"
        enter: List[str] = ["nsenter", "--target", str(children(self._process.pid)[0]), "--mount", "--pid"]
        script = 'mkdir -p "%s" && cd "%s" && %s' % (self.home, self._cwd, command)
        environment = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "http"))}
        environment.update(PATH=PATH, HOME=self.home, USER="root", LC_ALL="C.UTF-8")
        return subprocess.run(
            enter + ([] if network else ["--net"]) + ["chroot", self._folder + "/root", "sh", "-c", script],
            input=given, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=10 * PATIENCE)

    def write(self, path: str, text: str) -> None:
        """Put a file there, as an editor does."""
        done = self.run("cat >'%s'" % path, given=text.encode())
        assert done.returncode == 0, done.stdout.decode()
