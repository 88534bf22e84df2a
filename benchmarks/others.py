"""Debian's other ways to run Lua for a web server: uWSGI, lua-wsapi-fcgi, and nginx itself.

In: a folder for sockets and configurations, and a Task.  Out: a context manager each that yields a Running or raises
Missing.  servers.py puts them into its table.  It measures nothing.
"""
from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from typing import Iterator, Sequence

import nginx
import processes
from instance import BACKLOG, READY_SECONDS, SCRIPTS, Missing, Running, Task

# The number of the Lua plugin, as uWSGI's documentation lists them.
LUA_MODIFIER = "6"
WSAPI = os.path.join(SCRIPTS, "wsapi")


@contextlib.contextmanager
def on_inherited_socket(path: str, command: Sequence[str]) -> Iterator[Running]:
    """Two processes that serve one socket as their descriptor 0: `spawn-fcgi -F 2` does no more, but leaves them to
    themselves, where nobody could stop them by their ids."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(BACKLOG)
        with processes.started(command, command, stdin=listener) as pids:
            yield Running(path, pids)


@contextlib.contextmanager
def start_wsapi(folder: str, task: Task) -> Iterator[Running]:
    """Two processes of the launcher that Debian ships, which gives each application a Lua state of its own."""
    program = shutil.which("wsapi.fcgi")
    if program is None:
        raise Missing("wsapi.fcgi is not installed: apt-get install lua-wsapi-fcgi")
    with on_inherited_socket(os.path.join(folder, "wsapi.sock"), [program]) as running:
        yield running


def longest_queue() -> int:
    """BACKLOG, or less where the kernel allows less: uWSGI does not start with more."""
    with open("/proc/sys/net/core/somaxconn", encoding="ascii") as file:
        return min(BACKLOG, int(file.read()))


@contextlib.contextmanager
def _uwsgi(folder: str, task: Task, *sockets: str) -> Iterator[Running]:
    program = shutil.which("uwsgi_lua51")
    if program is None:
        raise Missing("uWSGI's Lua is not installed: apt-get install uwsgi-core uwsgi-plugin-lua5.1")
    path = os.path.join(folder, "uwsgi.sock")
    # It serves one application; the slow one answers both kinds of requests.
    application = os.path.join(WSAPI, (task.slow or task.script) + ".lua")
    command = [program, "--master", "--die-on-term", "--processes", "2", "--disable-logging",
               "--listen", str(longest_queue()), "--logto", os.path.join(folder, "uwsgi.log"), "--lua", application,
               *(word.format(path=path) for word in sockets)]
    # It says on standard error what its log has, too.
    with processes.started(command, cwd=folder, stderr=subprocess.DEVNULL) as pids:
        deadline = time.monotonic() + READY_SECONDS
        while not os.path.exists(path):
            if time.monotonic() > deadline or not processes.tree(pids):
                raise Missing("uWSGI did not start: %s" % " ".join(command))
            time.sleep(0.01)
        yield Running(path, pids)


def start_uwsgi_fcgi(folder: str, task: Task) -> "contextlib.AbstractContextManager[Running]":
    """uWSGI with two processes on a FastCGI socket."""
    return _uwsgi(folder, task, "--fastcgi-socket", "{path}", "--fastcgi-modifier1", LUA_MODIFIER)


def start_uwsgi(folder: str, task: Task) -> "contextlib.AbstractContextManager[Running]":
    """uWSGI with two processes and its own protocol."""
    return _uwsgi(folder, task, "--uwsgi-socket", "{path}")


@contextlib.contextmanager
def start_nginx(folder: str, task: Task) -> Iterator[Running]:
    """A second nginx, with as many processes as the one in front of the others, that runs the scripts itself."""
    modules = [os.path.join(nginx.MODULES, name) for name in ("ndk_http_module.so", "ngx_http_lua_module.so")]
    if not all(map(os.path.exists, modules)):
        raise Missing("nginx's Lua module is not installed: apt-get install libnginx-mod-http-lua")
    scripts = os.path.join(SCRIPTS, "nginx")
    locations = [nginx.LUA.format(where="= /", script=os.path.join(scripts, task.script + ".lua"))]
    if task.slow:
        locations.append(nginx.LUA.format(where="= /" + nginx.SLOW, script=os.path.join(scripts, task.slow + ".lua")))
    if task.many:
        locations = [nginx.LUA.format(where="~ ^/(?<file>[a-z0-9]+)$", script=task.many + "/nginx/$file.lua")]
    with nginx.started(folder, task.processes, "\n".join(locations), modules=modules) as (url, pids):
        yield Running("", pids, url)
