"""The cookbook's recipes, docs/recipes: nginx serves them as they are, and each does what its page says."""
from __future__ import annotations

import json
import os
import re
import shutil
from urllib.parse import urlencode

import pytest
from harness import ROOT, Site
from servers import Master, Nginx

RECIPES = os.path.join(ROOT, "docs", "recipes")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JPEG = b"\xff\xd8\xff\xe0" + bytes(5000)


@pytest.fixture(scope="module")
def web():
    """nginx in front of all recipes, with the error page and the StartupScript among them."""
    with Site() as site:
        shutil.copytree(RECIPES, site.www, dirs_exist_ok=True)
        for name in ("photos", "files"):
            os.mkdir(os.path.join(site.path, name))
        folders = {name: os.path.join(site.path, name) for name in ("photos", "files")}
        with Master(site, Config=folders, ErrorScript=os.path.join(RECIPES, "error.lua"),
                    StartupScript=os.path.join(RECIPES, "startup.lua")) as master, Nginx(site, master) as server:
            server.site = site
            yield server


def cookie(answer):
    """The cookie that an answer sets, as a browser sends it back."""
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


def test_the_cookbook_shows_every_recipe_and_every_one_is_asked_here():
    here = {os.path.relpath(os.path.join(folder, name), RECIPES) for folder, _, names in os.walk(RECIPES)
            for name in names}
    with open(os.path.join(ROOT, "docs", "cookbook.rst"), encoding="utf-8") as file:
        shown = re.findall(r"literalinclude:: recipes/(\S+)", file.read())
    assert len(here) >= 12 and here == set(shown) and len(shown) == len(here)
    with open(__file__, encoding="utf-8") as file:
        own = file.read()
    # These two are named in the configuration; a folder's index is asked for by the folder's name.
    asked = here - {"error.lua", "startup.lua", "admin/index.lua"}
    assert [name for name in asked if '"/%s' % name not in own] == []


def test_redirect(web):
    answer = web.request("/redirect.lua?page=about")
    assert (answer.status, answer.headers["Location"].rpartition("/")[2]) == (301, "team.html")
    assert web.request("/redirect.lua?page=zebra").status == 404


def test_cookies(web):
    answer = web.request("/cookies.lua?theme=dark")
    assert answer.status == 302 and "Max-Age=31536000" in answer.headers["Set-Cookie"]
    assert b'class="dark"' in web.request("/cookies.lua", headers=cookie(answer)).body
    assert b'class="light"' in web.request("/cookies.lua", headers={"Cookie": 'theme="><script>'}).body


def test_json_api(web):
    before = json.loads(web.request("/api.lua").body)["count"]
    made = web.request("/api.lua", "POST", json.dumps({"text": "sweep"}), {"Content-Type": "application/json"})
    task = json.loads(made.body)
    listed = json.loads(web.request("/api.lua").body)
    assert made.status == 201 and listed["count"] == before + 1 and task in listed["tasks"]
    assert web.request("/api.lua", "POST", '{"text": 5}').status == 422
    assert web.request("/api.lua", "POST", "{").status == 400
    assert web.request("/api.lua", "DELETE").headers["Allow"] == "GET, POST"


def photo(content):
    """A form with one file: its content type and its body."""
    head = 'Content-Disposition: form-data; name="photo"; filename="<b>.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return {"Content-Type": "multipart/form-data; boundary=zzz"}, (
        b"--zzz\r\n" + head.encode() + content + b"\r\n--zzz--\r\n")


def test_upload(web):
    headers, body = photo(JPEG)
    answer = web.request("/upload.lua", "POST", body, headers)
    number = int(re.search(rb"kept as number (\d+)", answer.body)[1])
    assert b"&lt;b&gt;.jpg" in answer.body
    with open(os.path.join(web.site.path, "photos", "%06d.jpg" % number), "rb") as file:
        assert file.read() == JPEG
    headers, body = photo(b"MZ")
    assert web.request("/upload.lua", "POST", body, headers).status == 422


def test_server_sent_events(web):
    answer = web.request("/events.lua")
    assert answer.headers["Content-Type"] == "text/event-stream" and answer.headers["Content-Length"] is None
    assert answer.body.count(b"\ndata: reading ") == 3


def test_download(web):
    content = os.urandom(300000)
    with open(os.path.join(web.site.path, "files", "report.pdf"), "wb") as file:
        file.write(content)
    answer = web.request("/download.lua?name=report.pdf")
    assert (answer.status, answer.body) == (200, content)
    assert answer.headers["Content-Type"] == "application/pdf"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="report.pdf"'
    missing = web.request("/download.lua?name=missing.pdf")
    assert (missing.status, missing.headers["Content-Disposition"]) == (404, None)
    for name in ("../luafcgid2.lua", "/etc/passwd", ".hidden", ""):
        assert web.request("/download.lua?" + urlencode({"name": name})).status == 400


def log_in(web, name, password):
    return web.request("/login.lua", "POST", urlencode({"name": name, "password": password}), FORM)


def test_login(web):
    assert log_in(web, "ann", "wrong").status == log_in(web, "nobody", "").status == 403
    answer = log_in(web, "ann", "lua")
    assert answer.status == 303
    session = cookie(answer)
    assert b"Hello, ann!" in web.request("/login.lua", headers=session).body
    assert web.request("/login.lua", "POST", "logout=1", dict(FORM, **session)).status == 303
    assert b"Hello" not in web.request("/login.lua", headers=session).body


def test_counter(web):
    first, second = (re.fullmatch(r"visit (\d+), (\d+) today\n", web.request("/counter.lua").body.decode())
                     for _ in range(2))
    assert int(second[1]) == int(first[1]) + 1 and 1 <= int(second[2]) <= int(second[1])


def test_limit(web):
    statuses = [web.request("/limit.lua").status for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    assert 0 < int(web.request("/limit.lua").headers["Retry-After"]) <= 60


def test_conditional_get(web):
    first = web.request("/conditional.lua")
    again = web.request("/conditional.lua", headers={"If-None-Match": first.headers["ETag"]})
    assert (first.status, again.status, again.body) == (200, 304, b"")


def test_error_page(web):
    answer = web.request("/nothing.lua")
    assert answer.status == 404 and b"It may have moved" in answer.body


def test_startup_script(web):
    stranger = web.request("/admin/")
    assert (stranger.status, stranger.headers["Location"].rpartition("/")[2]) == (302, "login.lua")
    page = web.request("/admin/", headers=cookie(log_in(web, "ann", "lua")))
    assert b"<title>Admin</title>" in page.body and b"Hello, ann!" in page.body


def test_a_program(web):
    answer = web.request("/uptime.lua?" + urlencode({"say": "it's $HOME; `id`"}))
    assert answer.body.decode().splitlines() == [
        "kernel: %s %s" % (os.uname().sysname, os.uname().release), "you said: it's $HOME; `id`"]


def test_templates(web):
    body = web.request("/template.lua?" + urlencode({"first": "{{title}}<"})).body.decode()
    assert body == ("<h1>Songs &amp; more</h1>\n<ul>\n<li>{{title}}&lt;: 181 s</li>\n<li>Two: 240 s</li>\n</ul>\n"
                    "<p>The end.</p>\n")
