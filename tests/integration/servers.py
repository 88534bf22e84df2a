"""The servers under test: the master, nginx and lighttpd, each with the project's own configuration files.

In:  a `Site`, settings.  Out: running processes that accept connections, as context managers; see harness.py
for how they start and end.
"""
from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import sys
from typing import Any, Dict, List, NamedTuple, Optional

import harness
from harness import ROOT, Server, Site, children, free_port, program, wait_until

DEFAULT_SOCKET = "/var/tmp/luafcgid2.sock"

NGINX = """\
daemon off;
%(user)s
worker_processes 1;
pid %(run)s/nginx.pid;
error_log %(log)s error;
events { worker_connections 512; }
http {
    access_log off;
    default_type text/plain;
    client_body_temp_path %(run)s/body;
    fastcgi_temp_path %(run)s/fastcgi;
    proxy_temp_path %(run)s/proxy;
    scgi_temp_path %(run)s/scgi;
    uwsgi_temp_path %(run)s/uwsgi;
    include %(run)s/luafcgid2-upstream.conf;
%(servers)s
}
"""
NGINX_SERVER = """\
    server {
        listen 127.0.0.1:%(port)d;
        server_name site.test;
        root %(www)s;
        index index.lua index.html;
        client_max_body_size 64m;
        %(body)s
    }
"""
LIGHTTPD = """\
server.document-root = "%(www)s"
server.bind = "127.0.0.1"
server.port = %(port)d
server.errorlog = "%(log)s"
server.upload-dirs = ( "%(run)s" )
server.modules = ( "mod_accesslog" )
index-file.names = ( "index.html" )
mimetype.assign = ( ".txt" => "text/plain", "" => "application/octet-stream" )
include "%(snippet)s"
"""


class Answer(NamedTuple):
    """An HTTP answer; `headers` is http.client's message."""

    status: int
    headers: Any
    body: bytes


def lua_value(value: Any) -> str:
    """A Python value as Lua source text, for configuration files."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        return "{ %s }" % ", ".join("[%s] = %s" % (lua_value(key), lua_value(value[key])) for key in value)
    if isinstance(value, (list, tuple)):
        return "{ %s }" % ", ".join(map(lua_value, value))
    return '"%s"' % "".join("\\%03d" % byte if byte < 32 or byte in b'"\\' else chr(byte) for byte in value.encode())


class Master(Server):
    """The master with a config.lua of `settings` (Lua names); two workers, its own files all below the site.

    A setting of None is left out of the file.
    """

    harmless = "scripts run as root: set User"

    def __init__(self, site: Site, name: str = "luafcgid2", **settings: Any) -> None:
        super().__init__()
        self.site = site
        self.log = os.path.join(site.run, name + ".log")
        self.address = os.path.join(site.run, name + ".sock")
        self.pid_file = os.path.join(site.run, name + ".pid")
        self.config = os.path.join(site.run, name + ".lua")
        self.settings: Dict[str, Any] = dict(
            Workers=2, Listen=self.address, PidFile=self.pid_file, LogFilePath=self.log, TempDir=site.run,
            SessionStore="sqlite:///" + os.path.join(site.run, name + ".db"), SessionCookieSecure=False)
        if not harness.FAST_PATH:
            self.settings["FastPath"] = False
        self.settings.update(settings)
        self.argv = [sys.executable, "-m", "luafcgid2", self.config]
        self.write_config()

    def write_config(self) -> None:
        with open(self.config, "w", encoding="utf-8") as file:
            file.writelines("%s = %s\n" % (key, lua_value(value))
                            for key, value in self.settings.items() if value is not None)

    def _has_started(self) -> bool:
        return super()._has_started() and "info: ready" in self.log_text()

    def error_lines(self) -> List[str]:
        found = re.findall(r"^\S+ \S+ \[\d+\] (?:warning|error|critical): .*$", self.log_text(), re.MULTILINE)
        return found + [line for line in self.output().splitlines() if line not in found]

    def workers(self) -> List[int]:
        return children(self.pid)

    def reload(self) -> None:
        """SIGHUP, and wait until the master has acted on it."""
        before = self.log_text().count("SIGHUP: generation")
        os.kill(self.pid, signal.SIGHUP)
        wait_until(lambda: self.log_text().count("SIGHUP: generation") > before, "the master takes SIGHUP")


class Web(Server):
    """An HTTP server; `port` is the first of its ports."""

    port: int

    def request(self, path: str, method: str = "GET", body: Any = None, headers: Optional[dict] = None,
                port: int = 0) -> Answer:
        """One HTTP request on a connection of its own."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=60)) as connection:
            return ask(connection, path, method, body, headers)


class Serve(Web):
    """`luafcgid2 serve` on a port of the kernel's choice; its temporary directory is made in the site's `run`."""

    harmless = r"^(?!.*(\] (error|critical): |Traceback|luafcgid2 serve: ))"

    def __init__(self, directory: str, run: str) -> None:
        super().__init__()
        self.log = os.path.join(run, "serve.log")
        self.environment["TMPDIR"] = run
        self.argv = [sys.executable, "-m", "luafcgid2", "serve", directory, "--http", "127.0.0.1:0"]

    def _has_started(self) -> bool:
        assert self._process.poll() is None, "luafcgid2 serve has ended: " + self.output()
        found = re.search(r" is on http://127\.0\.0\.1:(\d+)/ ", self.output())
        self.port = int(found.group(1)) if found else 0
        return bool(found)

    def error_lines(self) -> List[str]:
        return self.output().splitlines()


def ask(connection: http.client.HTTPConnection, path: str, method: str = "GET", body: Any = None,
        headers: Optional[dict] = None) -> Answer:
    """One HTTP request on a connection that stays open."""
    connection.request(method, path, body, headers or {})
    with connection.getresponse() as response:
        return Answer(response.status, response.headers, response.read())


class Nginx(Web):
    """nginx with the project's own two files, and a `server` of its own for each entry of `bodies`.

    `bodies`: name -> content of a server block; "%(snippet)s" in it is the path of etc/nginx/luafcgid2.conf and
    "%(socket)s" that of the master's socket.  `ports` tells where each of them listens.
    """

    def __init__(self, site: Site, master: Master, bodies: Optional[Dict[str, str]] = None) -> None:
        super().__init__()
        bodies = bodies or {"snippet": "include %(snippet)s;"}
        self.log = os.path.join(site.run, "nginx-error.log")
        self.ports = {name: free_port() for name in bodies}
        self.port = next(iter(self.ports.values()))
        self.address = ("127.0.0.1", self.port)
        shutil.copy("/etc/nginx/fastcgi.conf", site.run)
        self.write_upstream(site, master)
        names = {"snippet": os.path.join(ROOT, "etc", "nginx", "luafcgid2.conf"), "socket": master.address}
        servers = [NGINX_SERVER % {"port": self.ports[name], "www": site.www, "body": body % names}
                   for name, body in bodies.items()]
        conf = os.path.join(site.run, "nginx.conf")
        with open(conf, "w", encoding="utf-8") as file:
            file.write(NGINX % {"user": "user root;" if os.geteuid() == 0 else "", "run": site.run, "log": self.log,
                                "servers": "".join(servers)})
        self.argv = [program("nginx"), "-p", site.run, "-e", self.log, "-c", conf]

    def write_upstream(self, site: Site, master: Master) -> None:
        """The file that nginx includes for its upstream."""
        site.snippet("nginx/luafcgid2-upstream.conf", {DEFAULT_SOCKET: master.address})


class Lighttpd(Web):
    """lighttpd with one of the project's own files."""

    harmless = r"\(server\.c\.\d+\) (server started|server stopped|\[note\] graceful)"

    def __init__(self, site: Site, snippet: str, replacements: Dict[str, str]) -> None:
        super().__init__()
        self.log = os.path.join(site.run, "lighttpd-error.log")
        self.port = free_port()
        self.address = ("127.0.0.1", self.port)
        conf = os.path.join(site.run, "lighttpd.conf")
        with open(conf, "w", encoding="utf-8") as file:
            file.write(LIGHTTPD % {"www": site.www, "run": site.run, "port": self.port, "log": self.log,
                                   "snippet": site.snippet(snippet, replacements)})
        self.argv = [program("lighttpd"), "-D", "-f", conf]
