"""WSAPI applications with Debian's packages, unmodified, behind a real nginx, in each Lua they are made for."""
from __future__ import annotations

import json
import os
import shutil
from urllib.parse import urlencode

import pytest

from harness import ROOT, Site, wait_until
from servers import Master, Nginx

HERE = os.path.dirname(os.path.abspath(__file__))
ORBIT_SAMPLES = "/usr/share/doc/lua-orbit"
EXTENSIONS = (".lua", ".ws", ".op", ".lp")
LOCATION = """
        location ~ [^/]\\.(lua|ws|op|lp)(/|$) {
            fastcgi_split_path_info ^(.+?\\.(?:lua|ws|op|lp))(/.*)$;
            include fastcgi.conf;
            fastcgi_param PATH_INFO $fastcgi_path_info;
            fastcgi_pass luafcgid2;
            fastcgi_keep_conn on;
        }
"""
# Debian has lua-wsapi for 5.1 and 5.2, which later versions can use, and the C modules for 5.1 to 5.4.
LATER = "/usr/share/lua/5.2/?.lua;/usr/share/lua/5.1/?.lua"
LUA_PATH = {"5.2": LATER, "5.3": LATER, "5.4": LATER}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def serve(version, **settings):
    """A site with the samples, and a server for it in this Lua version."""
    with Site() as site:
        for name in ("hello", "songs", "blog"):
            folder = os.path.join(ORBIT_SAMPLES, name)
            if os.path.isdir(folder):
                shutil.copytree(folder, os.path.join(site.www, "orbit", name))
        os.makedirs(os.path.join(site.www, "mine", "data"))
        shutil.copy(os.path.join(HERE, "wsapi", "blog.lua"), os.path.join(site.www, "mine", "blog.lua"))
        shutil.copy(os.path.join(ROOT, "examples", "notes.lua"), os.path.join(site.www, "mine", "notes.lua"))
        with Master(site, LuaVersion=version, ScriptExtensions=EXTENSIONS, LuaPath=LUA_PATH.get(version, ""),
                    MinFileInfoTime=0, **settings) as master, Nginx(site, master, {"wsapi": LOCATION}) as server:
            server.site, server.master = site, master
            yield server


@pytest.fixture(scope="module", params=["5.1", "5.2", "5.3", "5.4", "jit"])
def web(request):
    """nginx in front of each Lua version that lua-wsapi runs in."""
    yield from serve(request.param)


@pytest.fixture(scope="module", params=["5.1", "jit"])
def orbit(request):
    """nginx in front of the Lua versions that Debian's Orbit is for."""
    yield from serve(request.param)


class TestWsapi:
    """Request, response and util of lua-wsapi, LuaSQL and cjson."""

    def test_a_blog_takes_posts_and_shows_them(self, web: Nginx) -> None:
        form = {"title": "First <post>", "text": "It's & \u00e4", "author": "Ann B"}
        made = web.request("/mine/blog.lua/post", "POST", urlencode(form), FORM)
        assert made.status == 302 and made.headers["Location"] == "/mine/blog.lua/"
        assert made.headers.get_all("Set-Cookie") == ["author=Ann+B; path=/", "last=post"]
        page = web.request("/mine/blog.lua/", headers={"Cookie": "x=y; author=Ann+B"})
        assert page.status == 200 and int(page.headers["Content-Length"]) == len(page.body)
        assert b"<h1>Blog of Ann B</h1>" in page.body
        assert b"/mine/blog.lua/post?id=1'>First &lt;post&gt;</a>" in page.body
        assert "<p>It's & \u00e4</p>".encode() in web.request("/mine/blog.lua/post?id=1").body
        assert web.request("/mine/blog.lua/post?id=99").status == 404
        assert web.request("/mine/blog.lua/nowhere").status == 404

    def test_an_uploaded_file_is_parsed_by_wsapi_request(self, web: Nginx) -> None:
        content = bytes(range(256)) * 2000
        body = (b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
                b"Content-Type: application/x-a\r\n\r\n" + content + b"\r\n--XX--\r\n")
        kind = {"Content-Type": "multipart/form-data; boundary=XX"}
        answer = web.request("/mine/blog.lua/upload", "POST", body, kind)
        assert answer.body == b"a.bin application/x-a %d" % len(content)
        wait_until(lambda: "upload of a.bin" in web.master.log_text(), "the application's line is in the log")

    def test_a_json_api_keeps_notes(self, web: Nginx) -> None:
        made = web.request("/mine/notes.lua", "POST", json.dumps({"text": "n\u00f6te"}))
        note = json.loads(made.body)
        assert made.status == 201 and note["text"] == "n\u00f6te"
        assert note in json.loads(web.request("/mine/notes.lua").body)["notes"]
        assert web.request("/mine/notes.lua/%d" % note["id"], "DELETE").status == 204
        assert web.request("/mine/notes.lua/%d" % note["id"]).status == 404

    def test_a_launcher_and_a_long_lazy_body(self, web: Nginx) -> None:
        web.site.write("mine/count.lua", "return { run = function()\n"
                       "  return '200 OK', { ['Content-Type'] = 'text/plain' }, coroutine.wrap(function()\n"
                       "    for i = 1, 20000 do coroutine.yield(i .. '\\n') end\n  end)\nend }")
        web.site.write("mine/launch.ws", "#!/usr/bin/env wsapi.cgi\nreturn require 'count'")
        body = web.request("/mine/launch.ws").body
        assert body == b"".join(b"%d\n" % number for number in range(1, 20001))


class TestOrbit:
    """Orbit's own samples, as Debian has them, and its pages."""

    @pytest.mark.skipif(not os.path.isdir(ORBIT_SAMPLES + "/songs"), reason="installed without documentation")
    def test_the_samples_run_from_their_launchers(self, orbit: Nginx) -> None:
        assert b"Hello World!" in orbit.request("/orbit/hello/hello.ws").body
        assert b"Hello foo" in orbit.request("/orbit/hello/hello.ws/say/foo").body
        songs = orbit.request("/orbit/songs/songs.ws").body
        assert songs.count(b"<td>") == 13 and b"Lovely Rita</td>" in songs
        assert orbit.request("/orbit/songs/songs.ws/nowhere").status == 404

    def test_pages_are_filled_and_reloaded_with_what_they_include(self, orbit: Nginx) -> None:
        orbit.site.write("page.op", "#!op.cgi\n<p>$lua{[[return web.input.name]]} $include{'/part.op'}</p>")
        orbit.site.write("part.op", "first")
        assert b"<p>Ann first</p>" in orbit.request("/page.op?name=Ann").body
        orbit.site.write("part.op", "second")
        assert b"<p>Ann second</p>" in orbit.request("/page.op?name=Ann").body
        orbit.site.write("page.op", "changed")
        assert orbit.request("/page.op?name=Ann").body == b"changed"
        assert orbit.request("/none.op").status == 404


class TestCgilua:
    """Lua Pages of CGILua."""

    def test_a_page_reads_query_and_form_and_sets_a_header(self, web: Nginx) -> None:
        web.site.write("lp/page.lp", "<% cgilua.header('X-Made', 'lp') %><p><%= cgilua.QUERY.a %> "
                                        "<%= tostring(cgilua.POST.b) %></p>")
        answer = web.request("/lp/page.lp?a=1", "POST", "b=two", FORM)
        assert answer.status == 200 and answer.body == b"<p>1 two</p>" and answer.headers["X-Made"] == "lp"
        web.site.write("lp/page.lp", "changed")
        assert web.request("/lp/page.lp").body == b"changed"


def test_an_error_script_that_never_ends_is_stopped_and_the_built_in_page_sent() -> None:
    with Site() as site:
        script = os.path.join(site.path, "error.lua")
        with open(script, "w") as file:
            file.write("function main(env) if env.ERROR_STATUS == '404' then while true do end end "
                       "Send('page of ' .. env.ERROR_STATUS) end")
        with Master(site, ErrorScript=script, RequestTimeout=1) as master, Nginx(site, master) as server:
            master.expect_errors(r"ErrorScript|broken|over|interrupt|RequestTimeout")
            server.expect_errors(r"broken|traceback|\[C\]")
            site.write("broken.lua", "function main() error('broken') end")
            workers = master.workers()
            missing = server.request("/missing.lua")
            assert missing.status == 404 and b"not found" in missing.body
            failed = server.request("/broken.lua")
            assert failed.status == 500 and failed.body == b"page of 500"
            assert master.workers() == workers
