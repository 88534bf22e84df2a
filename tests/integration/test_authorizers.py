"""Authorizers behind the real lighttpd (its authorizer mode) and nginx (auth_request), as the README has them."""
from __future__ import annotations

import os
import re
import textwrap
from typing import Dict, Iterator

import pytest

from harness import ROOT, Site, wait_until
from luafcgid2 import client, records
from servers import DEFAULT_SOCKET, Answer, Lighttpd, Master, Nginx, Web

AUTHORIZE = """
function authorize(env)
  local who = env.HTTP_X_WHO
  if not who then return 401, { ["WWW-Authenticate"] = 'Basic realm="site"' }, "Who are you?" end
  if who == "loop" then while true do end end
  if who == "fail" then error("provoked") end
  if who == "late" then RespStatus(200) Flush() Send(("x"):rep(3000000)) error("provoked") end
  if who == "kill" then os.execute("kill -9 $PPID") end
  if who == "staff" then return env.REQUEST_URI:find("staff") ~= nil end
  if who == "bob" then return true, { REMOTE_USER = who, LEVEL = 3 } end
end
"""
SHOW = """
function main(env)
  Send(env.FCGI_ROLE .. " " .. tostring(env.REMOTE_USER) .. " " .. tostring(env.LEVEL) .. " " .. Receive())
end
"""
SECRET = "for members only"


def snippet(word: str, replacements: Dict[str, str]) -> str:
    """The README's literal block that has this word."""
    with open(os.path.join(ROOT, "README.rst"), encoding="utf-8") as file:
        blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", file.read())
    (text,) = [textwrap.dedent(block) for block in blocks if word in block]
    for old, new in replacements.items():
        assert old in text
        text = text.replace(old, new)
    return text


class Authorizing(Lighttpd):
    """lighttpd with the project's file, and then the README's."""

    def __init__(self, site: Site, master: Master) -> None:
        super().__init__(site, "lighttpd/luafcgid2.conf", {DEFAULT_SOCKET: master.address})
        with open(self.argv[-1], "a", encoding="utf-8") as file:
            file.write(snippet('"authorizer"', {DEFAULT_SOCKET: master.address, "/var/www/html": site.www}))


@pytest.fixture(params=["lighttpd", "nginx"])
def web(request: pytest.FixtureRequest) -> Iterator[Web]:
    """A web server whose folder /members/ is for those that an authorizer lets in."""
    with Site() as site:
        os.mkdir(os.path.join(site.path, "lua"))
        script = site.write("../lua/authorizer.lua", AUTHORIZE)
        site.write("members/a.txt", SECRET)
        site.write("members/staff.txt", SECRET)
        site.write("members/show.lua", SHOW)
        with Master(site, RequestTimeout=1, AuthorizerScript=script, ScriptRoots=[site.path],
                    QuarantineStrikes=0, MinFileInfoTime=0) as master:
            if request.param == "lighttpd":
                server: Web = Authorizing(site, master)
            else:
                body = snippet("auth_request /authorize", {"/srv/lua": os.path.dirname(script)})
                server = Nginx(site, master, {"auth": body.replace("%", "%%") + "include %(snippet)s;"})
            with server:
                server.site, server.master, server.script = site, master, script
                yield server


def ask(web: Web, who: str, path: str = "/members/a.txt", method: str = "GET", body: object = None) -> Answer:
    return web.request(path, method, body, {"X-Who": who} if who else {})


def test_who_is_allowed_gets_what_was_asked_for(web: Web) -> None:
    for _ in range(3):
        found = ask(web, "bob")
        assert (found.status, found.body.decode()) == (200, SECRET)
    assert ask(web, "staff", "/members/staff.txt").status == 200
    web.expect_errors("none.txt")
    assert ask(web, "bob", "/members/none.txt").status == 404
    assert web.request("/plain.txt").status == 200
    assert web.request("/respond.lua").status == 200


def test_who_is_not_allowed_gets_403_and_not_the_page(web: Web) -> None:
    for path in ("/members/a.txt", "/members/show.lua", "/members/none.txt"):
        for who in ("eve", "staff"):
            found = ask(web, who, path)
            assert found.status == 403 and SECRET.encode() not in found.body


def test_who_is_unknown_is_asked_for_a_name(web: Web) -> None:
    found = ask(web, "")
    assert (found.status, found.headers["WWW-Authenticate"]) == (401, 'Basic realm="site"')
    assert SECRET.encode() not in found.body
    assert ask(web, "", method="HEAD").status == 401


def test_variables_reach_the_script_and_the_body_is_still_there(web: Web) -> None:
    level = b"3" if isinstance(web, Lighttpd) else b"nil"
    assert ask(web, "bob", "/members/show.lua").body == b"RESPONDER bob %s " % level
    for size in (3, 1 << 20):
        found = ask(web, "bob", "/members/show.lua", "POST", b"b" * size)
        assert found.body == b"RESPONDER bob %s " % level + b"b" * size
        assert ask(web, "eve", "/members/show.lua", "POST", b"b" * size).status == 403


def test_an_authorizer_that_fails_allows_nothing(web: Web) -> None:
    web.master.expect_errors("no authorizer|provoked|RequestTimeout|authorizer.lua|SIGKILL|closed the connection")
    web.expect_errors("provoked|traceback|in function|FastCGI-stderr|RequestTimeout|authorizer|unexpected status"
                      "|unexpected end-of-file|prematurely|upstream|response not received|not found")
    for who in ("fail", "late", "loop", "kill"):
        found = ask(web, who)
        assert found.status >= 500 and SECRET.encode() not in found.body
    assert ask(web, "bob").status == 200
    os.remove(web.script)
    found = ask(web, "bob")
    assert found.status == 500 and SECRET.encode() not in found.body


def test_no_answer_in_the_authorizer_role_is_without_output() -> None:
    with Site() as site, Master(site, PingPath="/ping", AccessLogPath=os.path.join(site.run, "access.log")) as master:
        master.expect_errors("authorize")
        for name, more in (("respond.lua", {}), ("none.lua", {}), ("plain.txt", {}),
                           ("none.lua", {"SCRIPT_NAME": "/ping"})):
            asked = {"SCRIPT_FILENAME": os.path.join(site.www, name), "DOCUMENT_ROOT": site.www,
                     "REQUEST_METHOD": "GET", "REQUEST_URI": "/asked", **more}
            found = client.request(master.address, asked, role=records.AUTHORIZER)
            assert (found.status, found.protocol_status) == (500, 0)
        wait_until(lambda: open(master.settings["AccessLogPath"]).read().count('"GET /asked') == 4, "the access log")
