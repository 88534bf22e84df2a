"""The servers that are compared: how each is built, configured, started and stopped.

In: a folder for sockets, logs and configurations.  Out: a context manager per server that yields a Running.
bench.py calls it.  It measures nothing and starts no web server.  All are started in the foreground and
stopped by the process ids that were ours.
"""
from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, Sequence, Tuple

import processes

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPTS = os.path.join(HERE, "scripts")
BACKLOG = 1024
READY_SECONDS = 10.0
PHP_FPM_CONFIG = """\
[global]
daemonize = no
pid = {folder}/php-fpm.pid
error_log = {folder}/php-fpm.log
[www]
listen = {path}
listen.backlog = {backlog}
pm = static
pm.max_children = {children}
php_admin_value[session.save_path] = {folder}
{user}
"""
OUR_CONFIG = """\
Listen = "{path}"
LogFilePath = "{folder}/luafcgid2.log"
PidFile = "{folder}/luafcgid2.pid"
SessionStore = "{store}"
"""
USER = "user = root\ngroup = root"


class Missing(Exception):
    """Something that a server needs is not installed; the message says what and how to get it."""


@dataclass(frozen=True)
class Running:
    """A started server: the unix socket it listens on and the ids of the processes we started."""

    path: str
    pids: Tuple[int, ...]


@dataclass(frozen=True)
class Server:
    """One of the compared servers.

    `extension` of its scripts; "" if it looks at none.  `start(folder)` is a context manager of a Running and
    raises Missing.  `only_script`: the one script for which it differs from the others.
    """

    key: str
    title: str
    extension: str
    start: Callable[[str], "contextlib.AbstractContextManager[Running]"]
    only_script: str = ""

    def runs(self, script: str) -> bool:
        """Whether it is compared by default where `script` is."""
        return self.only_script in ("", script)

    def script(self, name: str) -> str:
        """Path of the script `name` as this server would run it."""
        return os.path.join(SCRIPTS, name + (self.extension or ".lua"))


def build_responder(folder: str) -> str:
    """Compiles responder.c into `folder` and returns the program's path; raises Missing."""
    program = os.path.join(folder, "responder")
    command = [os.environ.get("CC", "cc"), "-O2", "-Wall", "-o", program,
               os.path.join(HERE, "responder.c"), "-lfcgi"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        raise Missing("no C compiler (%s): apt-get install gcc libc6-dev libfcgi-dev" % error) from None
    if done.returncode:
        raise Missing("responder.c does not compile (apt-get install gcc libc6-dev libfcgi-dev):\n"
                      + done.stdout)
    return program


@contextlib.contextmanager
def start_responder(folder: str) -> Iterator[Running]:
    """Two processes on one inherited socket, in the manner of `spawn-fcgi -F 2`."""
    program = build_responder(folder)
    path = os.path.join(folder, "c.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(BACKLOG)
        with processes.started(*([[program]] * 2), stdin=listener) as pids:
            yield Running(path, pids)


@contextlib.contextmanager
def start_php(folder: str) -> Iterator[Running]:
    """Debian's php-fpm with two children that stay."""
    found = sorted(glob.glob("/usr/sbin/php-fpm[0-9]*")) or list(filter(None, [shutil.which("php-fpm")]))
    if not found:
        raise Missing("php-fpm is not installed: apt-get install php-fpm")
    path, config = os.path.join(folder, "php.sock"), os.path.join(folder, "php-fpm.conf")
    root = os.geteuid() == 0
    with open(config, "w") as file:
        file.write(PHP_FPM_CONFIG.format(folder=folder, path=path, backlog=BACKLOG, children=2,
                                         user=USER if root else ""))
    command = [found[-1], "-F", "-y", config] + (["-R"] if root else [])
    with processes.started(command) as pids:
        yield Running(path, pids)


def our_command() -> Sequence[str]:
    """The installed program beside this Python, else the package of the checkout."""
    program = os.path.join(os.path.dirname(sys.executable), "luafcgid2")
    return [program] if os.access(program, os.X_OK) else [sys.executable, "-m", "luafcgid2"]


@contextlib.contextmanager
def start_ours(folder: str, store: str = "") -> Iterator[Running]:
    """luafcgid2 with default settings; only the paths are set, and the session store."""
    path, config = os.path.join(folder, "luafcgid2.sock"), os.path.join(folder, "luafcgid2.lua")
    with open(config, "w") as file:
        file.write(OUR_CONFIG.format(folder=folder, path=path,
                                     store=store or "sqlite://%s/state.db" % folder))
    with processes.started([*our_command(), config], cwd=os.path.dirname(HERE)) as pids:
        yield Running(path, pids)


@contextlib.contextmanager
def redis_server(folder: str) -> Iterator[Tuple[str, Tuple[int, ...]]]:
    """redis-server that appends to a file each second, as docs/several-machines.rst has it; (URL, process ids)."""
    program = shutil.which("redis-server")
    if program is None:
        raise Missing("redis-server is not installed: apt-get install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--save", "",
               "--appendonly", "yes", "--logfile", os.path.join(folder, "redis.log")]
    with processes.started(command) as pids:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if time.monotonic() > deadline or not processes.tree(pids):
                raise Missing("redis-server did not start: see %s" % command[-1])
            time.sleep(0.01)
        yield "redis://127.0.0.1:%d/0" % port, pids


@contextlib.contextmanager
def start_ours_with_redis(folder: str) -> Iterator[Running]:
    """luafcgid2 and a redis-server; the figures are those of both."""
    if importlib.util.find_spec("redis") is None:
        raise Missing("the redis client is not installed: pip install 'luafcgid2[redis]'")
    with redis_server(folder) as (url, redis_pids), start_ours(folder, url) as running:
        yield Running(running.path, running.pids + redis_pids)


SERVERS: Dict[str, Server] = {server.key: server for server in (
    Server("c", "bare C responder, 2 processes", "", start_responder),
    Server("luafcgid2", "luafcgid2, default settings", ".lua", start_ours),
    Server("redis", "luafcgid2 and redis-server", ".lua", start_ours_with_redis, "session"),
    Server("php", "php-fpm, 2 children", ".php", start_php),
)}
