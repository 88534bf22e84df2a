"""The servers that are compared: how each is built, configured, started and stopped.

In: a folder for sockets, logs and configurations, and a Task.  Out: a context manager per server that yields a Running,
and SERVERS, the table of all.  It measures nothing and starts no web server.  All are started in the foreground and
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
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, Sequence, Tuple

import others
import processes
from instance import BACKLOG, HERE, READY_SECONDS, SCRIPTS, Missing, Running, Task

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
php_admin_value[opcache.enable] = 1
php_admin_value[post_max_size] = 16M
{user}
"""
OUR_CONFIG = """\
Listen = "{path}"
LogFilePath = "{folder}/luafcgid2.log"
PidFile = "{folder}/luafcgid2.pid"
SessionStore = "{store}"
{settings}"""
HELLO = Task()
USER = "user = root\ngroup = root"
# The workloads that responder.c knows.
RESPONDER_MODES = ("hello", "env", "page", "post", "download")



@dataclass(frozen=True)
class Server:
    """One of the compared servers.

    `start(folder, task)` is a context manager of a Running and raises Missing.  `names` gives the file of a script by
    its name, below SCRIPTS or another folder of that shape.  `keeps`: whether it knows fastcgi_keep_conn.  `protocol`:
    what the web server in front speaks to it; "http" if none is in front.  `only`: the one workload that it is for.
    """

    key: str
    title: str
    names: str
    start: Callable[[str, Task], "contextlib.AbstractContextManager[Running]"]
    keeps: bool = True
    protocol: str = "fastcgi"
    only: str = ""

    def script(self, name: str, folder: str = SCRIPTS) -> str:
        """Path of the script `name` as this server runs it."""
        return os.path.join(folder, self.names % name)

    def runs(self, name: str) -> bool:
        """Whether there is a script `name` for it; the C responder has what it knows built in."""
        return name in RESPONDER_MODES if self.key == "c" else os.path.exists(self.script(name))


def build_responder(folder: str) -> str:
    """Compiles responder.c into `folder`, unless it is there, and returns the program's path; raises Missing."""
    program = os.path.join(folder, "responder")
    if os.path.exists(program):
        return program
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
def start_responder(folder: str, task: Task) -> Iterator[Running]:
    """Two processes on one inherited socket, as `spawn-fcgi -F 2` starts them."""
    command = [build_responder(folder), task.script]
    with others.on_inherited_socket(os.path.join(folder, "c.sock"), command) as running:
        yield running


@contextlib.contextmanager
def start_php(folder: str, task: Task) -> Iterator[Running]:
    """Debian's php-fpm with two children that stay, and its cache of compiled scripts."""
    found = sorted(glob.glob("/usr/sbin/php-fpm[0-9]*")) or list(filter(None, [shutil.which("php-fpm")]))
    if not found:
        raise Missing("php-fpm is not installed: apt-get install php-fpm")
    if not glob.glob("/etc/php/*/fpm/conf.d/*opcache.ini") and found[-1] != shutil.which("php-fpm"):
        raise Missing("php-fpm has no opcache: apt-get install php%s-opcache" % found[-1].rpartition("fpm")[2])
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
def start_ours(folder: str, task: Task = HELLO, store: str = "") -> Iterator[Running]:
    """luafcgid2 with default settings; only the paths are set, the session store, and what the task says."""
    path, config = os.path.join(folder, "luafcgid2.sock"), os.path.join(folder, "luafcgid2.lua")
    with open(config, "w") as file:
        file.write(OUR_CONFIG.format(folder=folder, path=path, settings=task.settings,
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
        if not processes.listens(port, pids, READY_SECONDS):
            raise Missing("redis-server did not start: see %s" % command[-1])
        yield "redis://127.0.0.1:%d/0" % port, pids


@contextlib.contextmanager
def start_ours_with_redis(folder: str, task: Task) -> Iterator[Running]:
    """luafcgid2 and a redis-server; the figures are those of both."""
    if importlib.util.find_spec("redis") is None:
        raise Missing("the redis client is not installed: pip install 'luafcgid2[redis]'")
    with redis_server(folder) as (url, redis_pids), start_ours(folder, task, url) as running:
        yield Running(running.path, running.pids + redis_pids)


SERVERS: Dict[str, Server] = {server.key: server for server in (
    Server("c", "bare C responder", "%s.lua", start_responder),
    Server("luafcgid2", "luafcgid2", "%s.lua", start_ours),
    Server("redis", "luafcgid2 and redis-server", "%s.lua", start_ours_with_redis, only="session"),
    Server("php", "php-fpm", "%s.php", start_php),
    Server("uwsgi-fcgi", "uWSGI's Lua (FastCGI)", "wsapi/%s.lua", others.start_uwsgi_fcgi, keeps=False),
    Server("uwsgi", "uWSGI's Lua (uwsgi)", "wsapi/%s.lua", others.start_uwsgi, keeps=False,
           protocol="uwsgi"),
    Server("wsapi", "lua-wsapi-fcgi", "wsapi/%s.lua", others.start_wsapi),
    Server("nginx", "nginx's own Lua", "nginx/%s.lua", others.start_nginx, keeps=False,
           protocol="http"),
)}
