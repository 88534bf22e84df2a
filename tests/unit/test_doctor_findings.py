"""luafcgid2ctl doctor: reading nginx's and lighttpd's configuration, and findings from facts made by hand."""
from __future__ import annotations

import importlib.util
import json
import os
import sys

import click
import pytest

from luafcgid2 import config as configuration
from luafcgid2 import listener
from luafcgid2.doctor import ERROR, OK, WARNING, Finding, expand, lighttpd, machine, nginx, request_params
from luafcgid2.doctor.checks import backlog, fast_path, lua
from luafcgid2.doctor.facts import Facts, same_address, target_of
from luafcgid2.doctor.report import as_data, as_text
from luafcgid2.doctor.webchecks import cookie_domain, handed_over, known, script_names, secure_cookie

SOCKET = "/run/lua/l.sock"
PARAMS = "fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; fastcgi_param DOCUMENT_ROOT $document_root;"
PASS = "fastcgi_pass unix:%s;" % SOCKET


@pytest.fixture
def read(tmp_path):
    """read("server { ... }"): the Nginx of that http block; other files may stand beside it."""
    def make(http: str, **files: str) -> nginx.Nginx:
        for name, text in files.items():
            (tmp_path / (name + ".conf")).write_text(text)
        (tmp_path / "nginx.conf").write_text("user www-data web;\nevents { }\nhttp {\n%s\n}\n" % http)
        return nginx.read(str(tmp_path / "nginx.conf"))
    return make


def facts(server=None, **settings) -> Facts:
    made = Facts(configuration.defaults(Listen=SOCKET, **settings))
    made.address = listener.parse(made.config.listen)
    made.servers = [server] if server else []
    return made


def levels(findings) -> list:
    return [found.level for found in findings]


class TestNginx:
    def test_a_location_is_a_site_with_all_that_it_inherits(self, read):
        server = read("root /srv/a; server { listen 80; server_name a.test www.a.test; include params.conf;"
                      "location ~ \\.lua$ { %s } }" % PASS, params=PARAMS)
        site, = server.sites
        assert (server.user, server.group, server.problems) == ("www-data", "web", ())
        assert (site.names, site.root, site.addresses, site.plain) == (
            ("a.test", "www.a.test"), "/srv/a", (SOCKET,), True)
        assert request_params(site, "/x.lua")["SCRIPT_FILENAME"] == "/srv/a/x.lua"
        assert site.place.endswith("(location ~ \\.lua$)")

    def test_a_level_with_parameters_of_its_own_inherits_none(self, read):
        server = read("server { %s location / { fastcgi_param SITE x; %s } }" % (PARAMS, PASS))
        assert dict(server.sites[0].params) == {"SITE": "x"}

    def test_an_upstream_is_its_servers(self, read):
        server = read("upstream lua { server unix:%s; server 10.0.0.2:9000; keepalive 4; }"
                      "server { location / { fastcgi_pass lua; } }" % SOCKET)
        assert server.sites[0].addresses == (SOCKET, "10.0.0.2:9000")

    @pytest.mark.parametrize("listen,plain", [
        ("", True), ("listen 80;", True), ("listen 443 ssl;", False), ("listen 80; listen 443 ssl;", True),
        ("listen 443; ssl on;", False), ("listen 443 quic; listen 443 ssl;", False)])
    def test_plain_http_is_a_port_without_ssl(self, read, listen, plain):
        assert read("server { %s location / { %s } }" % (listen, PASS)).sites[0].plain is plain

    @pytest.mark.parametrize("path,taken", [
        ("/x.lua", "regex"), ("/app/x.lua", "inner"), ("/exact.lua", "exact"), ("/static/x.lua", "static"),
        ("/X.LUA", "nocase"), ("/other", "root")])
    def test_the_location_is_the_one_that_nginx_picks(self, read, path, taken):
        server = read("""server { root /srv;
            location / { fastcgi_pass root:1; }
            location = /exact.lua { fastcgi_pass exact:1; }
            location ^~ /static/ { fastcgi_pass static:1; }
            location /app/ { location ~ \\.lua$ { fastcgi_pass inner:1; } }
            location ~ \\.lua$ { fastcgi_pass regex:1; }
            location ~* \\.lua$ { fastcgi_pass nocase:1; }
        }""")
        assert server.find("", path)[0].addresses == (taken + ":1",)

    @pytest.mark.parametrize("host,root", [
        ("a.test", "/a"), ("x.b.test", "/b"), ("c.test", "/c"), ("deep.c.test", "/c"), ("d7.test", "/d"),
        ("unknown", "/default"), ("", "/a")])
    def test_the_server_block_is_the_one_that_nginx_picks(self, read, host, root):
        names = {"a.test": "/a", "*.b.test": "/b", ".c.test": "/c", "~^(?<name>d)[0-9]": "/d", "~(?+broken": "/e"}
        blocks = "".join("server { root %s; server_name %s; location / { %s } }" % (names[name], name, PASS)
                         for name in names)
        server = read(blocks + "server { listen 80 default_server; root /default; location / { %s } }" % PASS)
        assert server.find(host, "/x")[0].root == root

    def test_index_and_try_files_lead_on(self, read, tmp_path):
        (tmp_path / "www").mkdir()
        for name in ("index.lua", "here.lua"):
            (tmp_path / "www" / name).write_text("")
        server = read("""server { root %s/www; index index.lua index.html;
            location / { try_files $uri $uri/ /index.lua?$query_string; }
            location ~ \\.lua$ { try_files $uri =404; %s } }""" % (tmp_path, PASS))
        assert server.find("", "/")[:2] == (server.sites[0], "/index.lua")
        assert server.find("", "/no/such/page")[1] == "/index.lua"
        assert server.find("", "/here.lua")[1:] == ("/here.lua", "")
        site, _, reason = server.find("", "/none.lua")
        assert site is None and "finds no %s/www/none.lua and answers 404" % tmp_path in reason

    def test_what_does_not_reach_the_server_has_a_reason(self, read):
        server = read("server { root /srv; location /old { return 301 /new; } location /a { } }")
        assert "return 301 /new" in server.find("", "/old/x.lua")[2]
        assert "has no fastcgi_pass" in server.find("", "/a/x.lua")[2]

    def test_script_and_path_info_are_split_as_nginx_does(self, read):
        site = read("""server { root /srv; location ~ [^/]\\.lua(/|$) { fastcgi_split_path_info ^(.+?\\.lua)(/.*)$;
            %s fastcgi_param PATH_INFO $fastcgi_path_info; %s } }""" % (PARAMS, PASS)).sites[0]
        params = request_params(site, "/blog.lua/2026/11")
        assert (params["SCRIPT_FILENAME"], params["PATH_INFO"]) == ("/srv/blog.lua", "/2026/11")

    @pytest.mark.parametrize("size,room", [("", 4096), ("fastcgi_buffer_size 16k;", 16384),
                                           ("fastcgi_buffer_size 1M;", 1 << 20)])
    def test_the_room_for_headers_is_fastcgi_buffer_size(self, read, size, room):
        assert read("server { location / { %s %s } }" % (size, PASS)).sites[0].header_room == room

    def test_a_missing_file_is_a_problem_with_its_name(self, tmp_path):
        assert str(tmp_path / "none.conf") in nginx.read(str(tmp_path / "none.conf")).problems[0]


LIGHTTPD = r"""config {
    var.PID                        = 16339
    server.document-root           = "/srv/www"
    server.username                = "www-data"
    server.modules                 = ("mod_access", "mod_fastcgi")
    index-file.names               = ("index.lua")
    fastcgi.server                 = (
        ".lua" => (
            # 0
            (
                "socket"      => "/run/lua/l.sock",
                "check-local" => "disable",
            ),
        ),
        "/app"  => (
            "localhost" => (
                "host"        => "127.0.0.1",
                "port"        => 9000,
                "x" => "a \"quoted\" ) one",
            ),
        ),
    )


    $HTTP["host"] == "shop.test" {
        # block 1
        server.document-root = "/srv/shop/"


        $HTTP["url"] =^ "/x" {
            # block 2
            server.document-root = "/srv/x"

        } # end of $HTTP["url"] =^ "/x"
    } # end of $HTTP["host"] == "shop.test"
    else $HTTP["host"] =~ "a"b(" {
        # block 3
        server.document-root = "/srv/o"

    } # end of $HTTP["host"] =~ "a"b("

    $SERVER["socket"] == ":8443" {
        # block 4
        ssl.engine = "enable"

    } # end of $SERVER["socket"] == ":8443"
}
"""


class TestLighttpd:
    server = lighttpd.Lighttpd("lighttpd.conf", LIGHTTPD)

    def test_settings_are_read_as_they_are_printed(self):
        settings = lighttpd.blocks(LIGHTTPD)[0].settings
        assert settings["fastcgi.server"]["/app"] == {
            "localhost": {"host": "127.0.0.1", "port": 9000, "x": 'a "quoted" ) one'}}
        assert settings["server.modules"] == ["mod_access", "mod_fastcgi"]
        assert (self.server.user, settings["var.PID"]) == ("www-data", 16339)

    @pytest.mark.parametrize("host,path,root,script", [
        ("", "/x.lua", "/srv/www", "/srv/www/x.lua"), ("shop.test", "/y.lua/info", "/srv/shop", "/srv/shop/y.lua"),
        ("shop.test", "/x/y.lua", "/srv/x", "/srv/x/x/y.lua")])
    def test_conditions_decide_on_the_document_root(self, host, path, root, script):
        site, found, reason = self.server.find(host, path)
        assert (site.root, found, reason) == (root, path, "")
        assert request_params(site, path)["SCRIPT_FILENAME"] == script

    def test_a_prefix_and_an_extension_choose_the_server(self):
        assert self.server.find("", "/app/x")[0].addresses == ("127.0.0.1:9000",)
        assert self.server.find("", "/x.luac")[0] is None

    def test_a_port_with_tls_is_a_site_that_is_not_plain(self):
        assert {site.plain for site in self.server.sites} == {True, False}

    def test_a_redirect_to_https_leaves_no_plain_site(self):
        block = '    $HTTP["scheme"] == "http" {\n        url.redirect = ("" => "https://")\n    }\n}'
        text = LIGHTTPD.rstrip()[:-1] + block
        assert not any(site.plain for site in lighttpd.Lighttpd("x", text).sites)

    def test_a_server_that_lighttpd_starts_listens_on_a_numbered_socket(self):
        text = LIGHTTPD.replace('"check-local" => "disable",', '"bin-path" => "/usr/bin/luafcgid2 x.lua",')
        site = lighttpd.Lighttpd("x", text).find("", "/x.lua")[0]
        assert (site.addresses, site.spawned) == (("/run/lua/l.sock-0",), True)

    def test_a_table_of_many_lines_is_read_once(self):
        types = "".join('        ".x%d" => "text/plain",\n' % number for number in range(50000))
        text = "config {\n    mimetype.assign = (\n%s    )\n    server.port = 80\n}\n" % types
        settings = lighttpd.blocks(text)[0].settings
        assert (len(settings["mimetype.assign"]), settings["server.port"]) == (50000, 80)

    def test_half_a_file_is_read_without_an_error(self):
        for end in range(0, len(LIGHTTPD), 7):
            lighttpd.Lighttpd("x", LIGHTTPD[:end])


class TestMachine:
    UNIX = ("u_str LISTEN 0      5      /run/other.sock 4377795 * 0\n"
            "u_str ESTAB  0      0      /run/lua/l.sock 4377800 * 4\n"
            "u_str LISTEN 129    128    /run/lua/l.sock 4377796 * 0\n")
    TCP = "LISTEN 0 128 0.0.0.0:2024 0.0.0.0:*\nLISTEN 3 511 [::1]:9000 [::]:*\n"

    @pytest.mark.parametrize("text,address,found", [
        (UNIX, SOCKET, (129, 128)), (UNIX, "/run/none.sock", None), (TCP, "[::1]:9000", (3, 511)),
        (TCP, ":2024", (0, 128)), (TCP, ":24", None), ("", SOCKET, None)])
    def test_the_queue_is_read_from_what_ss_prints(self, text, address, found):
        assert machine.queue_in(text, listener.parse(address)) == found

    @pytest.mark.parametrize("pid,address", [
        (12, ["127.0.0.1:9000"]), (13, ["*:9001", "[::1]:9003"]), (1, []), (2, [])])
    def test_where_a_process_listens_is_read_from_what_ss_prints(self, pid, address):
        text = ('LISTEN 0 9 127.0.0.1:9000 0.0.0.0:* users:(("a",pid=121,fd=3),("b",pid=12,fd=3))\n'
                'LISTEN 0 9 *:9001 *:* users:(("a",pid=13,fd=3))\nLISTEN 0 9 *:9002 *:*\n'
                'LISTEN 0 9 [::1]:9003 [::]:* users:(("a",pid=13,fd=4))\n')
        assert machine.listens_in(text, pid) == address

    @pytest.mark.parametrize("words,letter,value", [
        ("nginx -c /a.conf -g x", "-c", "/a.conf"), ("nginx -c/a.conf", "-c", "/a.conf"), ("nginx", "-c", ""),
        ("lighttpd -D -f /l.conf", "-f", "/l.conf"), ("lighttpd -f", "-f", "")])
    def test_options_of_a_running_server_are_found(self, words, letter, value):
        assert machine.option(words.split(), letter) == value

    @pytest.mark.parametrize("listen,text,same", [
        (SOCKET, SOCKET, True), (SOCKET, "/run/other.sock", False), (SOCKET, "127.0.0.1:9000", False),
        (":9000", "127.0.0.1:9000", True), ("127.0.0.1:9000", "localhost:9000", True),
        ("[::1]:9000", "[::1]:9000", True), ("10.0.0.1:9000", "127.0.0.1:9000", False),
        (":9000", "127.0.0.1:9001", False)])
    def test_two_addresses_are_compared_by_where_they_lead(self, listen, text, same):
        assert same_address(listener.parse(listen), text) is same

    @pytest.mark.parametrize("listen,target", [(SOCKET, SOCKET), (":9000", "127.0.0.1:9000"),
                                               ("[::1]:9000", "[::1]:9000")])
    def test_listen_becomes_an_address_to_connect_to(self, listen, target):
        assert target_of(listener.parse(listen)) == target


class TestFindings:
    def test_an_unknown_variable_is_empty(self):
        assert expand("$a${b}c$none.", {"a": "1", "b": "2"}) == "12c."

    @pytest.mark.parametrize("root,filename,level", [
        ("/srv", "$document_root$fastcgi_script_name", []), ("/srv", "/srv/sub$fastcgi_script_name", []),
        ("/srv", "/other$fastcgi_script_name", [ERROR]), ("/srv", "$fastcgi_script_name", [ERROR]),
        ("/srv", "www$fastcgi_script_name", [ERROR]), ("/srv", "$my_root$fastcgi_script_name", []),
        ("/srv/$host", "$document_root$fastcgi_script_name", [])])
    def test_script_filename_must_lie_below_document_root(self, read, root, filename, level):
        server = read("server { root %s; location ~ \\.lua$ { fastcgi_param DOCUMENT_ROOT $document_root;"
                      "fastcgi_param SCRIPT_FILENAME %s; %s } }" % (root, filename, PASS))
        assert levels(script_names(facts(server))) == level

    def test_script_roots_allow_what_document_root_does_not(self, read):
        server = read("server { root /srv; location ~ \\.lua$ { fastcgi_param DOCUMENT_ROOT $document_root;"
                      "fastcgi_param SCRIPT_FILENAME /other$fastcgi_script_name; %s } }" % PASS)
        assert levels(script_names(facts(server, ScriptRoots=("/other",)))) == []
        assert known(server.sites[0])

    @pytest.mark.parametrize("location,level", [
        ("= /status", []), ("/status", []), ("^~ /status", []), ("~ ^/(status|ping)$", []), ("~* ^/Ping$", []),
        ("= /other", [ERROR]), ("/", [ERROR]), ("~ ^/(?!pong)", [ERROR]), ("~ \\.lua$", [ERROR])])
    def test_the_status_page_needs_no_script_filename(self, read, location, level):
        server = read("server { root /srv; location %s { fastcgi_param SCRIPT_NAME $fastcgi_script_name; %s } }" % (
            location, PASS))
        assert levels(script_names(facts(server, StatusPath="/status", PingPath="/ping"))) == level

    def test_another_server_s_location_is_a_warning_while_one_is_ours(self, read, tmp_path):
        (tmp_path / "there.sock").write_text("")
        server = read("server { location ~ \\.lua$ { %s } }"
                      "server { location ~ \\.lua$ { fastcgi_pass unix:%s/there.sock; } }"
                      "server { location ~ \\.php$ { fastcgi_pass unix:/run/php.sock; } }" % (PASS, tmp_path))
        assert levels(handed_over(facts(server))) == [WARNING, OK]

    @pytest.mark.parametrize("settings,level", [({}, [WARNING]), ({"SessionCookieSecure": False}, [])])
    def test_secure_cookies_need_https(self, read, settings, level):
        server = read("server { location / { %s } }" % PASS)
        assert levels(secure_cookie(facts(server, **settings))) == level
        server = read("server { listen 443 ssl; location / { %s } }" % PASS)
        assert levels(secure_cookie(facts(server, **settings))) == []

    @pytest.mark.parametrize("names,level", [
        ("a.test", []), ("www.a.test a.test *.a.test", []), ("_", [WARNING]), ("", [WARNING]), ("b.test", [WARNING]),
        ("nota.test", [WARNING])])
    def test_a_cookie_domain_must_fit_the_server_names(self, read, names, level):
        name = "server_name %s;" % names if names else ""
        server = read("server { %s location / { %s } }" % (name, PASS))
        assert levels(cookie_domain(facts(server, SessionCookieDomain="a.test"))) == level
        assert levels(cookie_domain(facts(server))) == []

    @pytest.mark.parametrize("queue,level", [((0, 128), OK), ((65, 128), WARNING), ((128, 128), ERROR),
                                             ((129, 128), ERROR)])
    def test_a_backlog_is_judged_by_how_full_it_is(self, queue, level):
        made = facts()
        made.queue = queue
        assert levels(backlog(made)) == [level]

    def test_modules_of_another_lua_are_named_with_their_version(self):
        made = facts()
        message = "error loading module 'lfs' from file '/a/lfs.so':\n\t/a/lfs.so: undefined symbol: lua_newuserdatauv"
        made.modules = {"tried": [["lfs", ""], ["cjson", ""]], "broken": [["lfs", message]],
                        "elsewhere": [["lsqlite3", ["5.1", "5.4"]]]}
        first, second, good = lua(made)
        assert "/a/lfs.so is built for Lua 5.4 or 5.5, not for Lua 5.3" in first.text
        assert "lsqlite3" in second.text and "Lua 5.1 and 5.4, not for 5.3" in second.text
        assert good.text == "Lua 5.3; C modules that load: cjson"

    @pytest.mark.parametrize(("built", "settings", "level", "words"), [
        (True, {}, OK, "in use"), (True, {"FastPath": False}, OK, "FastPath is false"),
        (True, {"AccessLogPath": "/tmp/access"}, OK, "AccessLogPath is set"), (False, {}, WARNING, "not built")])
    def test_whether_the_fast_path_is_used_is_said(self, monkeypatch, built, settings, level, words):
        made = facts(**settings)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if built else None)
        found, = fast_path(made)
        assert found.level == level and words in found.text

    def test_nothing_is_wrong_while_there_are_warnings_only(self):
        findings = [Finding(OK, "lua", "fine"), Finding(WARNING, "web", "odd", "do this")]
        assert json.loads(as_data(findings))["ok"] is True
        assert json.loads(as_data(findings + [Finding(ERROR, "web", "bad", "do that")]))["ok"] is False

    def test_a_long_finding_is_folded_between_words(self):
        finding = Finding(ERROR, "web", "word " * 40 + "/a/very-long/path", "change " * 20)
        text = click.unstyle(as_text([finding], facts(), 80))
        lines = text.splitlines()
        assert max(map(len, lines)) <= 80
        assert lines[0].startswith("error    web      word") and "/a/very-long/path" in text
        assert lines[-1] == "1 error"


def test_without_crossplane_the_doctor_says_what_to_install(monkeypatch):
    from luafcgid2.doctor import facts as gathering
    from luafcgid2.doctor.webchecks import web_servers
    monkeypatch.setitem(sys.modules, "crossplane", None)
    made = facts()
    with pytest.raises(gathering.ConfigError, match="crossplane is not installed") as caught:
        nginx.read(os.devnull)
    made.servers_error = str(caught.value)
    found, = web_servers(made)
    assert (found.level, found.change) == (WARNING, "pip install 'luafcgid2[doctor]'")
