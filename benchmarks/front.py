"""nginx in front of every compared server, and wrk in front of nginx.

In: the servers' sockets and scripts.  Out: URLs, and a Sample per run of wrk.  bench.py calls it.  Two
locations a server: `/KEY` opens a connection for each request, `/KEY-keep` keeps them with `fastcgi_keep_conn
on`, each with an instance of the server of its own.
"""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from typing import Iterator, List, Mapping, Sequence, Tuple

import processes
from servers import HERE, Missing, Running, Server

KEEP = "-keep"
CONNECTIONS = 16
READY_SECONDS = 10.0
# What Debian's fastcgi_params sends.
PARAMS = (
    ("QUERY_STRING", "$query_string"), ("REQUEST_METHOD", "$request_method"),
    ("CONTENT_TYPE", "$content_type"), ("CONTENT_LENGTH", "$content_length"),
    ("SCRIPT_NAME", "$fastcgi_script_name"),
    ("REQUEST_URI", "$request_uri"), ("DOCUMENT_URI", "$document_uri"), ("DOCUMENT_ROOT", "$document_root"),
    ("SERVER_PROTOCOL", "$server_protocol"), ("REQUEST_SCHEME", "$scheme"), ("HTTPS", "$https if_not_empty"),
    ("GATEWAY_INTERFACE", "CGI/1.1"), ("SERVER_SOFTWARE", "nginx/$nginx_version"),
    ("REMOTE_ADDR", "$remote_addr"), ("REMOTE_PORT", "$remote_port"), ("SERVER_ADDR", "$server_addr"),
    ("SERVER_PORT", "$server_port"), ("SERVER_NAME", "$server_name"), ("REDIRECT_STATUS", "200"),
)
CONFIG = """\
daemon off;
{user}
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/body;
  fastcgi_temp_path {folder}/fastcgi;
  proxy_temp_path {folder}/proxy;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{upstreams}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    server_name localhost;
    root {root};
{locations}
  }}
}}
"""
UPSTREAM = "  upstream {name} {{ server unix:{path};{keepalive} }}"
LOCATION = """\
    location = /{name} {{
      fastcgi_param SCRIPT_FILENAME {script};
      {params}
      fastcgi_pass {name};{keep}
    }}"""


@dataclass(frozen=True)
class Sample:
    """One run of wrk against one location; `p50` and `p99` in milliseconds, `cpu` of the server in
    microseconds per request, `pss` in bytes at the end of the run."""

    rate: float
    p50: float
    p99: float
    cpu: float
    pss: int
    failures: int


def free_port() -> int:
    """A TCP port of 127.0.0.1 that the kernel says is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _config(folder: str, port: int, workers: int, script: str,
            running: Mapping[str, Tuple[Server, Running]]) -> str:
    upstreams, locations = [], []
    # A location that sets one fastcgi_param inherits none.
    params = "\n      ".join("fastcgi_param %s %s;" % pair for pair in PARAMS)
    for name, (server, where) in running.items():
        keep = name.endswith(KEEP)
        upstreams.append(UPSTREAM.format(
            name=name, path=where.path, keepalive=" keepalive %d;" % CONNECTIONS if keep else ""))
        locations.append(LOCATION.format(
            name=name, script=server.script(script), params=params,
            keep=" fastcgi_keep_conn on;" if keep else ""))
    return CONFIG.format(
        folder=folder, port=port, workers=workers, root=os.path.join(HERE, "scripts"),
        user="user root;" if os.geteuid() == 0 else "",
        upstreams="\n".join(upstreams), locations="\n".join(locations))


@contextlib.contextmanager
def started(folder: str, workers: int, script: str,
            running: Mapping[str, Tuple[Server, Running]]) -> Iterator[str]:
    """Runs nginx over the `running` servers and yields its base URL; raises Missing."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        raise Missing("nginx is not installed: apt-get install nginx")
    port, config = free_port(), os.path.join(folder, "nginx.conf")
    with open(config, "w") as file:
        file.write(_config(folder, port, workers, script, running))
    command = [program, "-p", folder, "-c", config, "-e", os.path.join(folder, "nginx.log")]
    with processes.started(command) as pids:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if time.monotonic() > deadline or not processes.tree(pids):
                raise Missing("nginx did not start: see its message above")
            time.sleep(0.01)
        yield "http://127.0.0.1:%d/" % port


def fetch(url: str, cookie: str = "") -> Tuple[bytes, str]:
    """The body of one answer, and the cookie that it sets as `name=value`; raises OSError for a status other
    than 2xx.  The client's name is wrk's, none: a session may be bound to it."""
    request = urllib.request.Request(url, headers={"User-Agent": "", **({"Cookie": cookie} if cookie else {})})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read(), answer.headers.get("Set-Cookie", "").partition(";")[0]


def visitors(url: str) -> List[str]:
    """Cookies of new sessions, one for each connection of wrk."""
    return [fetch(url)[1] for _ in range(CONNECTIONS)]


def wrk(url: str, seconds: int, cookies: Sequence[str] = ()) -> Mapping[str, float]:
    """One run of wrk: 16 connections in one thread, `cookies` in turn; keys as in report.lua.  Raises
    Missing."""
    program = shutil.which("wrk")
    if program is None:
        raise Missing("wrk is not installed: apt-get install wrk")
    command = [program, "-t1", "-c%d" % CONNECTIONS, "-d%ds" % seconds,
               "-s", os.path.join(HERE, "report.lua"), url, "--", *cookies]
    done = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(url: str, seconds: int, where: Running, cookies: Sequence[str] = ()) -> Sample:
    """Loads `url` for `seconds` and says how the server behind it, `where`, did."""
    before = processes.cpu_seconds(where.pids)
    told = wrk(url, seconds, cookies)
    cpu = processes.cpu_seconds(where.pids) - before
    requests = told["requests"]
    return Sample(rate=requests / told["seconds"], p50=told["p50"], p99=told["p99"],
                  cpu=cpu * 1e6 / max(1, requests), pss=processes.pss_bytes(where.pids),
                  failures=int(told["failures"]))
