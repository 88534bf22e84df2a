"""Two tenants by the files of etc/tenants, as docs/security.rst has it: neither reaches what is the other's."""
from __future__ import annotations

import contextlib
import http.client
import os
import pwd
import re
import subprocess
import sys

import pytest
from harness import ROOT, free_port, program
from servers import Server, ask
from service import SCRIPT

from luafcgid2 import client

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can serve two users")
TENANTS = os.path.join(ROOT, "etc", "tenants")
# Accounts that every Debian has, and that run nothing; none is test_faults.NOBODY_ELSE.
ALICE, BOB = "news", "list"
SPY = """
function main()
  local pipe = io.popen("id -un")
  local found = {pipe:read("l")}
  pipe:close()
  for _, name in ipairs {"%(www)s/id.lua", "%(state)s/state.db", "%(log)s/luafcgid2.log", "%(config)s"} do
    found[#found + 1] = io.open(name) and "read" or "refused"
  end
  os.execute("exec 2>/dev/null; rm -f %(socket)s; kill -9 $(cat %(run)s/luafcgid2.pid)")
  Session.SetVar("r", "k", "stored")
  Send(table.concat(found, " "))
end
"""


class Tenant:
    """One tenant's account, files and init script, all below `folder`."""

    def __init__(self, folder, account, ctl):
        self.folder, self.account = folder, pwd.getpwnam(account)
        self.places = {"/srv/": folder + "/srv/", "/run/luafcgid2": folder + "/run/luafcgid2",
                       "/var/log/": folder + "/log/", "/var/lib/": folder + "/lib/",
                       "/etc/luafcgid2/": folder + "/etc/", "alice": account}
        self.www = "%s/srv/%s/www" % (folder, account)
        self.socket = "%s/run/luafcgid2/%s.sock" % (folder, account)
        self.config = self.write("config.lua", "%s/etc/%s.lua" % (folder, account))
        self.defaults = self.write("default", "%s/etc/default-%s" % (folder, account))
        with open(self.defaults, "a") as file:
            file.write("CTL=%s\n" % ctl)
        os.chown(self.config, 0, self.account.pw_gid)
        os.chmod(self.config, 0o640)
        subprocess.run(["install", "-d", "-m", "2750", "-o", account, "-g", "www-data", os.path.dirname(self.www),
                        self.www], check=True)

    def write(self, name, path):
        """A file of etc/tenants with this tenant's name and places."""
        with open(os.path.join(TENANTS, name), encoding="utf-8") as file:
            text = re.sub("|".join(map(re.escape, self.places)), lambda found: self.places[found[0]], file.read())
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def script(self, name, text):
        path = os.path.join(self.www, name)
        with open(path, "w") as file:
            file.write(text)
        os.chown(path, self.account.pw_uid, -1)
        os.chmod(path, 0o600)
        return path

    def names(self):
        """What the other tenant looks for."""
        name = self.account.pw_name
        return {"www": self.www, "state": "%s/lib/luafcgid2-%s" % (self.folder, name), "config": self.config,
                "log": "%s/log/luafcgid2-%s" % (self.folder, name), "socket": self.socket,
                "run": "%s/run/luafcgid2-%s" % (self.folder, name)}

    def service(self, verb):
        done = subprocess.run(["/bin/sh", SCRIPT, verb], env={"LUAFCGID2_DEFAULTS": self.defaults, "TERM": "dumb"},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              cwd="/", timeout=120)
        assert done.returncode == 0, done.stdout

    def ask(self, name):
        path = os.path.join(self.www, name)
        return client.request(self.socket, {"SCRIPT_FILENAME": path, "DOCUMENT_ROOT": self.www,
                                            "SCRIPT_NAME": "/" + name, "REQUEST_METHOD": "GET", "QUERY_STRING": ""})


@pytest.fixture
def tenants(site):
    os.chmod(site.path, 0o755)
    folder = site.path
    for name in ("srv", "log", "lib", "etc"):
        os.mkdir(os.path.join(folder, name))
    os.chmod(site.run, 0o755)
    ctl = os.path.join(site.run, "ctl")
    with open(ctl, "w") as file:
        file.write('#!/bin/sh\nPYTHONPATH="%s" exec "%s" -m luafcgid2.ctl "$@"\n' % (ROOT, sys.executable))
    os.chmod(ctl, 0o755)
    both = [Tenant(folder, account, ctl) for account in (ALICE, BOB)]
    try:
        for tenant in both:
            tenant.service("start")
        yield both
    finally:
        for tenant in both:
            tenant.service("stop")


def test_a_tenant_reaches_nothing_of_the_other(tenants):
    alice, bob = tenants
    bob.script("id.lua", "function main() Session.SetVar('r', 'k', 'v') Send('of bob') end")
    assert bob.ask("id.lua").body == b"of bob"
    alice.script("spy.lua", SPY % bob.names())
    assert alice.ask("spy.lua").body.decode().split() == [ALICE, "refused", "refused", "refused", "refused"]
    assert bob.ask("id.lua").body == b"of bob"
    bob.service("status")


def test_a_link_into_the_other_tenants_folder_is_refused(tenants):
    alice, bob = tenants
    os.symlink(bob.script("secret.lua", "function main() Send('secret') end"), os.path.join(alice.www, "link.lua"))
    answer = alice.ask("link.lua")
    assert answer.status == 403 and b"secret" not in answer.body
    # Were it readable it would lie outside of ScriptRoots all the same.
    for path in (os.path.dirname(bob.www), bob.www):
        os.chmod(path, 0o755)
    os.chmod(os.path.join(bob.www, "secret.lua"), 0o644)
    assert alice.ask("link.lua").status == 403


def test_only_the_web_server_may_connect_to_a_tenants_socket(tenants):
    for tenant in tenants:
        found = os.stat(tenant.socket)
        group = pwd.getpwnam("www-data").pw_gid
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, group, 0o660)
        assert os.stat(os.path.dirname(tenant.socket)).st_uid == 0
        code = "import socket, sys; sys.exit(socket.socket(socket.AF_UNIX).connect_ex(sys.argv[1]))"
        for account, refused in ((ALICE, True), (BOB, True), ("www-data", False)):
            done = subprocess.run(["setpriv", "--reuid", account, "--regid", account, "--init-groups",
                                   "/usr/bin/python3", "-c", code, tenant.socket])
            assert bool(done.returncode) == refused


class TenantsWeb(Server):
    """nginx as www-data with the server block of each tenant."""

    def __init__(self, site, tenants):
        super().__init__()
        self.log = os.path.join(site.run, "nginx.log")
        self.ports, includes = {}, []
        for tenant in tenants:
            port = self.ports[tenant] = free_port()
            path = tenant.write("nginx.conf", os.path.join(site.run, tenant.account.pw_name + ".conf"))
            with open(path) as file:
                text = file.read()
            for old, new in (("listen 80;", "listen 127.0.0.1:%d;" % port),
                             ("include fastcgi.conf;", "include /etc/nginx/fastcgi.conf;")):
                assert text.count(old) == 1
                text = text.replace(old, new)
            with open(path, "w") as file:
                file.write(text)
            includes.append("include %s;" % path)
        self.address = ("127.0.0.1", port)
        conf = os.path.join(site.run, "nginx.conf")
        temporary = "".join("%s_temp_path %s/temp;" % (kind, site.run)
                            for kind in ("client_body", "fastcgi", "proxy", "scgi", "uwsgi"))
        with open(conf, "w") as file:
            file.write("daemon off; user www-data; pid %s/nginx.pid; error_log %s; events {}\n"
                       "http { access_log off; %s %s }\n" % (site.run, self.log, temporary, " ".join(includes)))
        self.argv = [program("nginx"), "-p", site.run, "-e", self.log, "-c", conf]

    def get(self, tenant, path):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.ports[tenant], timeout=60)) as connection:
            return ask(connection, path, "GET", None, None)


def test_nginx_serves_both_and_no_link_to_anothers_file(tenants, site):
    alice, bob = tenants
    for tenant in tenants:
        tenant.script("who.lua", "function main() local p = io.popen('id -un') Send(p:read('l')) p:close() end")
    with open(os.path.join(bob.www, "plain.txt"), "w") as file:
        file.write("bob's")
    os.chown(file.name, bob.account.pw_uid, -1)
    os.symlink(file.name, os.path.join(alice.www, "link.txt"))
    os.lchown(os.path.join(alice.www, "link.txt"), alice.account.pw_uid, -1)
    with TenantsWeb(site, tenants) as web:
        web.expect_errors("symbolic links|forbidden")
        assert [web.get(tenant, "/who.lua").body for tenant in tenants] == [ALICE.encode(), BOB.encode()]
        assert web.get(bob, "/plain.txt").body == b"bob's"
        assert web.get(alice, "/link.txt").status == 403
        assert web.get(alice, "/.git/config").status == 403


def test_the_init_script_of_a_tenant_is_the_one_with_another_name(tmp_path):
    """The sed of docs/security.rst finds its two lines, and the copy reads its own settings."""
    with open(os.path.join(ROOT, "docs", "security.rst"), encoding="utf-8") as file:
        expression = re.search(r"sed '(s/[^']*NAME=[^']*)'", file.read())[1]
    made = subprocess.run(["sed", expression, SCRIPT], stdout=subprocess.PIPE, text=True, check=True).stdout
    with open(SCRIPT) as file:
        before = file.read().splitlines()
    changed = [line for line, old in zip(made.splitlines(), before) if line != old]
    assert [line.split() for line in changed] == [["#", "Provides:", "luafcgid2-alice"], ["NAME=luafcgid2-alice"]]
    assert "/etc/default/$NAME" in made


def test_systemd_finds_nothing_to_say_about_a_tenants_units(tmp_path):
    for name in ("luafcgid2", "luafcgid2ctl"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    units = []
    for kind in ("service", "socket"):
        with open(os.path.join(TENANTS, "luafcgid2@." + kind), encoding="utf-8") as file:
            path = tmp_path / ("luafcgid2@%s.%s" % (ALICE, kind))
            path.write_text(file.read().replace("/usr/local/bin", str(tmp_path)))
            units.append(str(path))
    done = subprocess.run([program("systemd-analyze"), "verify", "--man=no", *units], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert (done.returncode, done.stdout) == (0, "")
    with open(units[0]) as file:
        assert "User=%i" in file.read()
