"""nginx as the benchmarks configure it: in front of the compared servers, and as one of them.

In: a folder, and what its `http` and `server` blocks have beside what is common.  Out: its URL and process ids.
front.py and others.py call it.  It knows nothing of the servers and measures nothing.
"""
from __future__ import annotations

import contextlib
import os
import shutil
import socket
from typing import Iterator, Sequence, Tuple

import processes
from instance import BACKLOG, READY_SECONDS, SCRIPTS, Missing

MODULES = "/usr/lib/nginx/modules"
# The slow script of a place is at its path with this behind.
SLOW = "-slow"
# Answers and bodies stay in memory: a benchmark of the disk would be another one.
CONFIG = """\
{modules}
daemon off;
{user}
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_max_body_size 16m;
  client_body_buffer_size 2m;
  client_body_temp_path {folder}/body;
  fastcgi_temp_path {folder}/fastcgi;
  fastcgi_buffers 16 32k;
  fastcgi_max_temp_file_size 0;
  proxy_temp_path {folder}/proxy;
  uwsgi_temp_path {folder}/uwsgi;
  uwsgi_buffers 16 32k;
  uwsgi_max_temp_file_size 0;
  scgi_temp_path {folder}/scgi;
{http}
  server {{
    listen 127.0.0.1:{port} backlog={backlog};
    server_name localhost;
    root {root};
{locations}
  }}
}}
"""
# A location that is answered by nginx's own Lua.
LUA = """\
    location {where} {{
      default_type text/html;
      content_by_lua_file {script};
    }}"""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that the kernel says is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def started(folder: str, workers: int, locations: str, http: str = "",
            modules: Sequence[str] = ()) -> Iterator[Tuple[str, Tuple[int, ...]]]:
    """Runs nginx and yields its base URL and the ids of its processes; raises Missing."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        raise Missing("nginx is not installed: apt-get install nginx")
    port, config = free_port(), os.path.join(folder, "nginx.conf")
    with open(config, "w") as file:
        file.write(CONFIG.format(
            folder=folder, port=port, workers=workers, root=SCRIPTS, locations=locations, http=http, backlog=BACKLOG,
            user="user root;" if os.geteuid() == 0 else "",
            modules="\n".join("load_module %s;" % module for module in modules)))
    command = [program, "-p", folder, "-c", config, "-e", os.path.join(folder, "nginx.log")]
    with processes.started(command) as pids:
        if not processes.listens(port, pids, READY_SECONDS):
            raise Missing("nginx did not start: see its message above")
        yield "http://127.0.0.1:%d/" % port, pids
