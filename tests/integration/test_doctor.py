"""luafcgid2ctl doctor: each failure is provoked for real, nginx or lighttpd shows its status, the doctor says why."""
from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from typing import Any, Dict, List, Optional

import pytest
from harness import ROOT, Site, accepts, free_port, is_alive, wait_until
from test_lighttpd import BIN_PATH, SPAWNED_SOCKET
from servers import DEFAULT_SOCKET, Lighttpd, Master, Nginx

from luafcgid2 import privileges
from luafcgid2.doctor import ERROR, Finding
from luafcgid2.doctor.checks import examine
from luafcgid2.doctor.facts import Asked, gather
from luafcgid2.doctor.machine import web_servers
from luafcgid2.doctor.visitor import as_user
from luafcgid2.procfs import is_stopped

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become the web server's user")
USER = "www-data"
LOCATION = "location ~ \\.lua$ { include %s; fastcgi_pass unix:%%(socket)s; %s }"
STOCK = LOCATION % ("fastcgi.conf", "")


class DebianNginx(Nginx):
    """nginx with Debian's user, and one server block."""

    def __init__(self, site: Site, master: Master, body: str = "include %(snippet)s;",
                 replace: Optional[Dict[str, str]] = None) -> None:
        super().__init__(site, master, {"site": body})
        shutil.copy("/etc/nginx/fastcgi_params", site.run)
        self.conf = os.path.join(site.run, "nginx.conf")
        with open(self.conf, encoding="utf-8") as file:
            text = file.read()
        for old, new in {"user root;": "user %s;" % USER, **(replace or {})}.items():
            assert old in text
            text = text.replace(old, new)
        with open(self.conf, "w", encoding="utf-8") as file:
            file.write(text)


class Told:
    """What the doctor said: `code` is its exit code."""

    def __init__(self, master: Master, *words: str) -> None:
        done = subprocess.run([sys.executable, "-m", "luafcgid2.ctl", "-c", master.config, "doctor", "--json", *words],
                              env=dict(os.environ, PYTHONPATH=ROOT), stdin=subprocess.DEVNULL, timeout=120, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert done.stderr == ""
        self.code, self.findings = done.returncode, json.loads(done.stdout)["findings"]

    def of(self, level: str, topic: str = "") -> List[str]:
        """The sentences of a level, each with what to change."""
        return ["%(text)s -> %(change)s" % found for found in self.findings
                if found["level"] == level and topic in ("", found["topic"])]

    def error(self, topic: str, *parts: str) -> None:
        """One error of this topic contains all parts, and the exit code says so."""
        assert self.code == 1
        assert any(all(part in text for part in parts) for text in self.of("error", topic)), self.findings

    def warning(self, topic: str, *parts: str) -> None:
        assert any(all(part in text for part in parts) for text in self.of("warning", topic)), self.findings

    def fine(self) -> None:
        """Nothing is wrong."""
        assert (self.code, self.of("error")) == (0, []), self.findings


@pytest.fixture
def serve(site, start):
    """serve(Entrypoint="main"): a master that runs as www-data, as the init script starts it."""
    os.chmod(site.path, 0o755)
    shutil.chown(site.run, USER, USER)

    def make(**settings: Any) -> Master:
        return start(Master, site, User=USER, **settings)
    return make


@pytest.fixture
def behind(start):
    """behind(master, body): a real nginx in front of it; what it may say in its log is part of each test."""
    def make(master: Master, *arguments: Any) -> DebianNginx:
        nginx = start(DebianNginx, master.site, master, *arguments)
        nginx.expect_errors(r"\[error\]|\[crit\]")
        # Its master is known by its title, which it has once a worker answers.
        nginx.request("/plain.txt")
        return nginx
    return make


def told(master: Master, nginx: DebianNginx, *words: str) -> Told:
    return Told(master, "--nginx", nginx.conf, *words)


class TestHealthy:
    @pytest.mark.parametrize("body", ("include %(snippet)s;", STOCK))
    def test_a_sound_server_has_no_error(self, serve, behind, body):
        master = serve()
        nginx = behind(master, body)
        assert nginx.request("/respond.lua").status == 200
        said = told(master, nginx, "--url-path", "/respond.lua")
        said.fine()
        # What this machine has for other versions of Lua is not the server's.
        assert [text for text in said.of("warning") if " with require " not in text] == []
        assert any("a FastCGI request of www-data is answered" in text for text in said.of("ok", "request"))
        assert any("/respond.lua is 200" in text for text in said.of("ok", "page"))

    def test_the_text_has_a_line_for_each_finding_and_one_for_what_to_change(self, serve, behind):
        master = serve(SessionCookieSecure=True)
        nginx = behind(master)
        done = subprocess.run([sys.executable, "-m", "luafcgid2.ctl", "-c", master.config, "doctor", "--nginx",
                               nginx.conf], env=dict(os.environ, PYTHONPATH=ROOT), text=True, timeout=120,
                              stdout=subprocess.PIPE)
        lines = done.stdout.splitlines()
        at = next(number for number, line in enumerate(lines) if line.startswith("warning  cookie"))
        assert any(line.startswith(" " * 18 + "change: set SessionCookieSecure") for line in lines[at + 1:])
        warnings = sum(line.startswith("warning  ") for line in lines)
        assert (done.returncode, lines[-1]) == (0, "1 warning" if warnings == 1 else "%d warnings" % warnings)
        assert "\x1b" not in done.stdout

    def test_the_web_server_that_runs_is_found_with_its_file_and_user(self, serve, behind):
        nginx = behind(serve())
        found = [server for server in web_servers() if server.file == nginx.conf]
        assert [(server.running, server.user) for server in found] == [(True, USER)]

    def test_the_file_of_a_page_can_be_named_instead(self, serve, behind):
        master = serve()
        said = told(master, behind(master), "--script", os.path.join(master.site.www, "sub", "index.lua"))
        said.fine()
        assert len(said.of("ok", "page")) == 1

    def test_a_directory_is_its_index(self, serve, behind):
        master = serve()
        said = told(master, behind(master), "--url-path", "http://site.test/sub/")
        assert any("/sub/index.lua is 200" in text for text in said.of("ok", "page"))


class TestSocket:
    def test_a_socket_that_the_web_server_may_not_write_to_is_502(self, serve, behind):
        master = serve()
        nginx = behind(master)
        os.chown(master.address, 0, 0)
        os.chmod(master.address, 0o600)
        assert nginx.request("/respond.lua").status == 502
        said = told(master, nginx)
        said.error("request", "502", "www-data may not write to %s (mode 0600, owner root:root)" % master.address,
                   "ListenMode")
        said.warning("socket", "has mode 0600, ListenMode is 0660")

    def test_a_closed_directory_around_the_socket_is_502(self, serve, behind, site):
        master = serve()
        # Its session store lies there, too.
        master.expect_errors("session store")
        nginx = behind(master)
        os.chown(site.run, 0, 0)
        os.chmod(site.run, 0o700)
        assert nginx.request("/respond.lua").status == 502
        told(master, nginx).error("request", "502", "www-data may not enter %s" % site.run, "chmod o+x %s" % site.run)
        os.chmod(site.run, 0o755)
        shutil.chown(site.run, USER)

    def test_a_stopped_server_is_502(self, serve, behind):
        master = serve()
        nginx = behind(master)
        master.stop()
        assert nginx.request("/respond.lua").status == 502
        said = told(master, nginx, "--url-path", "/respond.lua")
        said.error("server", "502", "luafcgid2 is not running", "luafcgid2ctl start")
        said.error("page", "502", "there is no socket %s" % master.address)

    def test_a_socket_that_a_killed_server_left_is_502(self, serve, behind):
        master = serve()
        nginx = behind(master)
        family = [master.pid, *master.workers()]
        master.expect_errors("the master is gone")
        master.stop(signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, family)), "the workers of a killed master leave")
        assert os.path.exists(master.address) and not accepts(master.address)
        assert nginx.request("/respond.lua").status == 502
        said = told(master, nginx, "--url-path", "/respond.lua")
        said.error("server", "left %s" % master.pid_file)
        said.error("page", "502", "nobody listens on %s" % master.address)

    def test_a_full_backlog_is_502(self, serve, behind):
        master = serve(Workers=1, ListenBacklog=1)
        master.expect_errors("[12] connections wait to be accepted, there is room for 1|is stopped by a signal")
        nginx = behind(master)
        with stopped(master), contextlib.ExitStack() as waiting:
            fill(master.address, waiting)
            assert nginx.request("/respond.lua").status == 502
            said = told(master, nginx)
        said.error("socket", "502", "the backlog is full", "2 of 1 connections wait")
        said.error("request", "502", "the backlog of %s is full" % master.address)

    def test_a_server_that_hangs_is_504(self, serve, behind):
        master = serve()
        nginx = behind(master, LOCATION % ("fastcgi.conf", "fastcgi_read_timeout 1s;"))
        with stopped(master):
            assert nginx.request("/respond.lua").status == 504
            told(master, nginx, "--timeout", "1").error("request", "504", "no answer within 1 seconds")


@contextlib.contextmanager
def stopped(master: Master):
    """The workers hang, as a script in a blocking call makes them."""
    family = [master.pid, *master.workers()]
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    # Until then they may take one more connection.
    wait_until(lambda: all(map(is_stopped, family)), "all are stopped")
    try:
        yield
    finally:
        for pid in family:
            os.kill(pid, signal.SIGCONT)


def fill(address: str, waiting: contextlib.ExitStack) -> None:
    """Connect until the kernel takes no more."""
    while True:
        sock = waiting.enter_context(socket.socket(socket.AF_UNIX))
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code:
            assert code == errno.EAGAIN
            return


class TestConfiguration:
    def test_a_fastcgi_pass_to_another_socket_is_502(self, serve, behind):
        master = serve()
        other = os.path.join(master.site.run, "other.sock")
        nginx = behind(master, "location ~ \\.lua$ { include fastcgi.conf; fastcgi_pass unix:%s; }" % other)
        assert nginx.request("/respond.lua").status == 502
        said = told(master, nginx, "--url-path", "/respond.lua")
        said.error("web", "502", "goes to %s, but Listen is %s" % (other, master.address),
                   "fastcgi_pass unix:%s;" % master.address)
        said.error("page", "502", "there is no socket %s" % other)

    def test_parameters_without_script_filename_are_500(self, serve, behind):
        master = serve()
        master.expect_errors("no SCRIPT_FILENAME")
        nginx = behind(master, LOCATION % ("fastcgi_params", ""))
        assert nginx.request("/respond.lua").status == 500
        said = told(master, nginx, "--url-path", "/respond.lua")
        said.error("web", "500", "sends no SCRIPT_FILENAME",
                   "fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;")
        said.error("page", "500", "the web server sends no SCRIPT_FILENAME")

    def test_a_parameter_of_its_own_ends_the_inheritance(self, serve, behind):
        master = serve()
        master.expect_errors("no SCRIPT_FILENAME")
        nginx = behind(master, "include fastcgi.conf; location ~ \\.lua$ { fastcgi_param SITE shop; "
                               "fastcgi_pass unix:%(socket)s; }")
        assert nginx.request("/respond.lua").status == 500
        told(master, nginx).error("web", "500", "no SCRIPT_FILENAME and no DOCUMENT_ROOT", "inherits none")

    def test_script_filename_outside_the_document_root_is_403(self, serve, behind):
        master = serve()
        other = os.path.join(master.site.path, "other")
        shutil.copytree(master.site.www, other)
        nginx = behind(master, LOCATION % ("fastcgi_params", "fastcgi_param SCRIPT_FILENAME %s$fastcgi_script_name;"
                                           % other))
        assert nginx.request("/respond.lua").status == 403
        said = told(master, nginx, "--url-path", "/respond.lua")
        said.error("web", "403", "outside of %s" % master.site.www, 'ScriptRoots = {"%s"}' % other)
        said.error("page", "403", "lies outside of %s" % master.site.www)

    def test_a_document_root_that_is_not_there_is_404(self, serve, behind):
        master = serve()
        nginx = behind(master, STOCK, {"root %s;" % master.site.www: "root %s/none;" % master.site.path})
        assert nginx.request("/respond.lua").status == 404
        said = told(master, nginx, "--url-path", "/respond.lua")
        said.error("web", "404", "there is no document root %s/none" % master.site.path)
        said.error("page", "404", "there is no %s/none" % master.site.path, "correct root")

    def test_an_nginx_that_knows_nothing_of_it_sends_the_source(self, serve, behind):
        master = serve()
        nginx = behind(master, "")
        assert b"RespStatus" in nginx.request("/respond.lua").body
        said = told(master, nginx, "--url-path", "/respond.lua")
        said.error("web", "the source as text", "include snippets/luafcgid2.conf;")
        said.error("page", "has no fastcgi_pass")

    def test_try_files_answers_404_before_the_server_is_asked(self, serve, behind):
        master = serve()
        nginx = behind(master, LOCATION % ("fastcgi.conf", "try_files $uri =404;"))
        assert nginx.request("/none.lua").status == 404
        told(master, nginx, "--url-path", "/none.lua").error(
            "page", "try_files finds no %s/none.lua and answers 404" % master.site.www)
        told(master, nginx, "--url-path", "/respond.lua").fine()

    def test_a_broken_nginx_configuration_is_told_with_its_line(self, serve, behind, site):
        master = serve()
        conf = os.path.join(site.run, "broken.conf")
        with open(conf, "w") as file:
            file.write("http {\n    server { listen 80 }\n}\n")
        Told(master, "--nginx", conf).error("web", "is not terminated", conf + ":2")

    def test_a_wrong_configuration_of_luafcgid2_is_told_with_its_key(self, serve, behind):
        master = serve()
        nginx = behind(master)
        master.settings["WorkerThreads"] = "many"
        master.write_config()
        told(master, nginx).error("config", "WorkerThreads", "luafcgid2ctl check")


class TestCookies:
    def test_a_secure_cookie_on_plain_http_is_a_warning(self, serve, behind):
        master = serve(SessionCookieSecure=True)
        said = told(master, behind(master))
        said.fine()
        said.warning("cookie", "SessionCookieSecure is true", "plain HTTP", "SessionCookieSecure = false")

    def test_a_cookie_domain_with_a_server_without_a_name_is_a_warning(self, serve, behind):
        master = serve(SessionCookieDomain="shop.example")
        nginx = behind(master, STOCK, {"server_name site.test;": "server_name _;"})
        said = told(master, nginx)
        said.fine()
        said.warning("cookie", "SessionCookieDomain is shop.example", "server_name _")

    def test_a_cookie_domain_of_somebody_else_is_a_warning(self, serve, behind):
        master = serve(SessionCookieDomain="shop.example")
        told(master, behind(master)).warning("cookie", "browsers refuse a cookie for shop.example from site.test")


PAGES = {
    "missing": ("/none.lua", 404, "there is no %(www)s/none.lua", "put the script there"),
    "unreadable": ("/secret.lua", 403, "www-data, who runs the scripts, may not read %(www)s/secret.lua", "chmod o+r"),
    "closed": ("/closed/x.lua", 403, "may not enter %(www)s/closed", "chmod o+x %(www)s/closed"),
    "outside": ("/link.lua", 403, "lies outside of %(www)s", "ScriptRoots"),
    "extension": ("/page.luap", 403, "its extension is not one of ScriptExtensions", "rename the script"),
    "own": ("/respond.lua?status=404", 404, "the script itself answers so", "RespStatus"),
    "error": ("/fail.lua", 500, "provoked", "correct the script"),
    "header": ("/header.lua", 502, "is over fastcgi_buffer_size (4096)", "fastcgi_buffer_size 16k;"),
}


@pytest.fixture(scope="module")
def pages():
    """A server with a page for each way to fail."""
    with Site() as site:
        os.chmod(site.path, 0o755)
        shutil.chown(site.run, USER, USER)
        for name in ("secret.lua", "closed/x.lua", "page.luap"):
            site.write(name, 'function main() Send("x") end')
        site.write("header.lua", 'function main() Header("X-Long", ("x"):rep(5000)) end')
        os.chmod(os.path.join(site.www, "secret.lua"), 0o600)
        os.chmod(os.path.join(site.www, "closed"), 0o700)
        shutil.copy(os.path.join(site.www, "respond.lua"), os.path.join(site.path, "away.lua"))
        os.symlink(os.path.join(site.path, "away.lua"), os.path.join(site.www, "link.lua"))
        body = "location ~ \\.luap?$ { include fastcgi.conf; fastcgi_pass unix:%(socket)s; }"
        with Master(site, User=USER) as master, DebianNginx(site, master, body) as nginx:
            master.expect_errors("provoked")
            nginx.expect_errors(r"\[error\]|traceback|provoked|in function|in upvalue|in field|stack")
            yield master, nginx


@pytest.mark.parametrize("name", PAGES)
def test_the_doctor_explains_the_status_that_nginx_gives(pages, name):
    master, nginx = pages
    path, status, text, change = PAGES[name]
    assert nginx.request(path).status == status
    where = {"www": master.site.www}
    told(master, nginx, "--url-path", path).error("page", "%s is %d: " % (path.partition("?")[0], status),
                                                  text % where, change % where)


def test_a_c_module_of_another_lua_is_a_warning(serve, behind, site):
    folder = os.path.join(site.path, "clib")
    os.mkdir(folder)
    found = [os.path.join(base, "lfs.so") for base, _, names in os.walk("/usr/lib")
             if base.endswith("/lua/5.1") and "lfs.so" in names]
    shutil.copy(found[0], folder)
    master = serve(LuaCPath=folder + "/?.so")
    said = told(master, behind(master))
    said.fine()
    said.warning("lua", 'require "lfs"', "%s/lfs.so is built for Lua 5.1, not for Lua 5.3" % folder)


class TcpMaster(Master):
    """A master on a TCP port; `address` names no file then."""

    def __init__(self, site: Site, **settings: Any) -> None:
        self.port = free_port()
        super().__init__(site, Listen="127.0.0.1:%d" % self.port, **settings)

    def _has_started(self) -> bool:
        return accepts(("127.0.0.1", self.port)) and "info: ready" in self.log_text()


def test_a_server_on_tcp_is_examined_too(site, start, behind):
    os.chmod(site.path, 0o755)
    shutil.chown(site.run, USER, USER)
    master = start(TcpMaster, site, User=USER)
    nginx = behind(master, "location ~ \\.lua$ { include fastcgi.conf; fastcgi_pass localhost:%d; }" % master.port)
    assert nginx.request("/respond.lua").status == 200
    said = told(master, nginx, "--url-path", "/respond.lua")
    said.fine()
    assert any("connections wait at 127.0.0.1:%d" % master.port in text for text in said.of("ok", "socket"))
    master.stop()
    assert nginx.request("/respond.lua").status == 502
    told(master, nginx, "--url-path", "/respond.lua").error("page", "502", "nobody listens on 127.0.0.1")


def test_a_listen_that_was_changed_since_the_start_is_a_warning(serve, behind):
    master = serve()
    nginx = behind(master)
    master.settings["Listen"] = "/run/changed.sock"
    master.write_config()
    said = told(master, nginx, "--url-path", "/respond.lua")
    said.fine()
    said.warning("socket", "it listens on %s, though Listen is /run/changed.sock" % master.address)


def test_a_server_that_lighttpd_starts_is_found_by_lighttpd_s_file(site, start):
    os.chmod(site.path, 0o755)
    master = Master(site, Listen=None, PidFile="")
    spawned = os.path.join(site.run, "spawned.sock")
    web = start(Lighttpd, site, "lighttpd/luafcgid2-spawn.conf", {
        BIN_PATH: "%s -m luafcgid2 %s" % (sys.executable, master.config), SPAWNED_SOCKET: spawned})
    assert web.request("/respond.lua").status == 200
    said = Told(master, "--lighttpd", os.path.join(site.run, "lighttpd.conf"), "--url-path", "/respond.lua")
    said.fine()
    assert any("/respond.lua is 200" in text for text in said.of("ok", "page"))


def test_an_ordinary_user_is_told_what_only_root_can_see(serve, behind):
    if not os.environ.get("LUAFCGID2_ALONE"):
        # In a process of its own: who becomes nobody can import nothing more, and must not depend on other tests.
        name = "%s::test_an_ordinary_user_is_told_what_only_root_can_see" % os.path.abspath(__file__)
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name], cwd=ROOT,
                              env=dict(os.environ, LUAFCGID2_ALONE="1"), text=True, timeout=250,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout
        return
    master = serve()
    nginx = behind(master)
    os.chown(master.address, 0, 0)

    def examined() -> list:
        facts = gather(master.config, Asked(nginx=nginx.conf))
        return [list(found) for found in examine(facts)]

    # What a process has not imported as root it cannot import as a user who may not enter root's home.
    examined()
    found = [Finding(*each) for each in as_user(privileges.resolve("nobody", ""), 60, examined)]
    assert [each.change for each in found if "only root can become www-data" in each.text] == [
        "sudo luafcgid2ctl doctor"]
    assert any("502: nobody may not write to" in each.text for each in found if each.level == ERROR)


class TestLighttpd:
    @pytest.fixture
    def lighttpd(self, site, start):
        """A real lighttpd with Debian's user, whose file for luafcgid2 names `socket`."""
        def make(path: str) -> Lighttpd:
            made = Lighttpd(site, "lighttpd/luafcgid2.conf", {DEFAULT_SOCKET: path})
            made.conf = os.path.join(site.run, "lighttpd.conf")
            with open(made.conf, "a", encoding="utf-8") as file:
                file.write('server.username = "%s"\nserver.groupname = "%s"\n' % (USER, USER))
            made.expect_errors("gw_backend")
            start(lambda: made)
            return made
        return make

    def test_a_sound_server_has_no_error(self, serve, lighttpd):
        master = serve()
        web = lighttpd(master.address)
        assert web.request("/respond.lua").status == 200
        said = Told(master, "--lighttpd", web.conf, "--url-path", "/respond.lua/extra?x=1")
        said.fine()
        assert any("a FastCGI request of www-data is answered" in text for text in said.of("ok", "request"))
        assert any("/respond.lua/extra is 200" in text for text in said.of("ok", "page"))

    def test_another_socket_is_503(self, serve, lighttpd):
        master = serve()
        web = lighttpd(master.site.run + "/other.sock")
        assert web.request("/respond.lua").status == 503
        said = Told(master, "--lighttpd", web.conf, "--url-path", "/respond.lua")
        said.error("web", "503", "but Listen is %s" % master.address, '"socket" => "%s"' % master.address)
        said.error("page", "503", "there is no socket")

    def test_a_socket_that_it_may_not_write_to_is_503(self, serve, lighttpd):
        master = serve()
        web = lighttpd(master.address)
        os.chown(master.address, 0, 0)
        os.chmod(master.address, 0o600)
        assert web.request("/respond.lua").status == 503
        Told(master, "--lighttpd", web.conf).error("request", "503", "www-data may not write to")

    def test_a_broken_configuration_is_told_with_its_line(self, serve, site):
        master = serve()
        conf = os.path.join(site.run, "broken.conf")
        with open(conf, "w") as file:
            file.write('server.document-root = "/srv"\nserver.port = (\n')
        Told(master, "--lighttpd", conf).error("web", "lighttpd has a mistake", conf + " line: ")
