"""Answers that leave in pieces, behind a real nginx and a real lighttpd: Flush, server-sent events, SendFile."""
from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
from urllib.parse import quote

import pytest
from harness import Site, wait_until
from servers import DEFAULT_SOCKET, Lighttpd, Master, Nginx

WAIT = "local function wait(name) io.open(Dir() .. '/' .. name, 'r'):close() end\n"
SCRIPTS = {
    "events.lua": WAIT + "function main() RespContentType('text/event-stream') Header('X-Accel-Buffering', 'no') "
                         "Header('Cache-Control', 'no-store') Send('data: one\\n\\n') Flush() wait('a') "
                         "Send('data: two\\n\\n') Flush() wait('b') Send('data: three\\n\\n') end",
    "flood.lua": "function main() Header('X-Accel-Buffering', 'no') local piece = ('x'):rep(1000) "
                 "while true do Send(piece) Flush() end end",
    "broken.lua": "function main() Send('one') Flush() error('oops') end",
    "later.lua": WAIT + "function main() Send('one') Flush() wait('a') error('oops') end",
    "pieces.lua": "function main() RespStatus(Env.QUERY_STRING) for i = 1, 3 do Send(i) Flush() end end",
    "file.lua": "function main() local ok, message = SendFile(lf.urldecode(Env.QUERY_STRING)) "
                "if not ok then RespStatus(404) Send(message) end end",
}
NAMES = ("plain.txt", "two words.txt", "100%.txt", "100%20.txt", "what?x=1.txt", "hash#tag.txt", "a+b&c.txt",
         "sch\u00f6n \u2713.txt", "sub/deep.txt")
HANDOVER = "include %%(snippet)s; location /protected/ { internal; alias %s/; }"
PASS = "location ~ [.]lua$ { include fastcgi.conf; fastcgi_pass unix:%(socket)s; "


def files(site):
    """A folder beside the document root with a file of each name, which holds the name."""
    folder = os.path.join(site.path, "files")
    for name in NAMES:
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(name)
    for name in "ab":
        os.mkfifo(os.path.join(site.www, name))
    for name, source in SCRIPTS.items():
        site.write(name, source)
    return folder


@pytest.fixture(scope="module")
def nginx(served_by):
    """nginx that sends files itself."""
    with Site() as site:
        folder = files(site)
        settings = {"SendFileHeader": "X-Accel-Redirect", "SendFileMap": folder + "=/protected"}
        with Master(site, **settings) as master, Nginx(site, master, {
                "keep": HANDOVER % folder, "plain": PASS + "}", "unbuffered": PASS + "fastcgi_buffering off; }"
                }) as server:
            server.site, server.master, server.files = site, master, folder
            yield server


@pytest.fixture(scope="module")
def lighttpd(served_by):
    """lighttpd that streams, and sends files itself."""
    with Site() as site:
        folder = files(site)
        changes = {DEFAULT_SOCKET: None, '"check-local" => "disable"':
                   '"check-local" => "disable", "x-sendfile" => "enable", "x-sendfile-docroot" => ( "%s" )' % folder,
                   'server.modules += ( "mod_fastcgi" )':
                   'server.modules += ( "mod_fastcgi" )\nserver.stream-response-body = 2'}
        with Master(site, SendFileHeader="X-Sendfile") as master:
            changes[DEFAULT_SOCKET] = master.address
            with Lighttpd(site, "lighttpd/luafcgid2.conf", changes) as server:
                server.site, server.master, server.files = site, master, folder
                yield server


@pytest.fixture(params=["nginx", "lighttpd"])
def web(request):
    """Each of the two."""
    return request.getfixturevalue(request.param)


@contextlib.contextmanager
def asked(web, path):
    """The answer to a request, of which only the head was read."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)) as connection:
        connection.request("GET", path)
        with connection.getresponse() as response:
            yield response


def test_events_come_while_the_script_waits(web):
    with asked(web, "/events.lua") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Content-Length"] is None
        for name, event in (("a", b"one"), ("b", b"two")):
            assert response.readline() == b"data: %s\n" % event and response.readline() == b"\n"
            open(os.path.join(web.site.www, name), "w").close()
        assert response.read() == b"data: three\n\n"


def test_kept_connections_go_on_after_a_streamed_answer(web):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)) as connection:
        for _ in range(5):
            connection.request("GET", "/pieces.lua?200")
            with connection.getresponse() as response:
                assert (response.status, response.read()) == (200, b"123")


@pytest.mark.parametrize("method, status, body", [
    ("HEAD", 200, b""), ("GET", 204, b""), ("GET", 304, b""), ("GET", 503, b"123")])
def test_statuses_and_methods_that_have_no_body_get_none(web, method, status, body):
    answer = web.request("/pieces.lua?%d" % status, method)
    assert (answer.status, answer.body) == (status, body)


def check_broken(web):
    web.master.expect_errors("broken.lua:1: oops")
    web.master.expect_errors(r"^\s")
    # Whether anything has come before depends on what the web server keeps back.
    with pytest.raises((http.client.IncompleteRead, http.client.RemoteDisconnected)):
        with asked(web, "/broken.lua") as response:
            response.read()
    assert "broken.lua:1: oops" in web.master.log_text()


@pytest.mark.parametrize("way", ["keep", "plain", "unbuffered"])
def test_an_error_after_flush_truncates_what_the_client_of_nginx_sees(nginx, way):
    nginx.expect_errors("upstream sent invalid FastCGI record type: 2 ")
    port, nginx.port = nginx.port, nginx.ports[way]
    try:
        check_broken(nginx)
    finally:
        nginx.port = port


def test_an_error_after_flush_truncates_what_the_client_of_lighttpd_sees(lighttpd):
    lighttpd.expect_errors("response already sent out, but backend returned error")
    lighttpd.expect_errors("header.type not handled|unexpected end-of-file")
    lighttpd.master.expect_errors("later.lua:2: oops|^\\s")
    # What it learns before it has begun its own answer, it cannot tell.
    with asked(lighttpd, "/later.lua") as response:
        assert response.headers["Content-Length"] is None
        open(os.path.join(lighttpd.site.www, "a"), "w").close()
        with pytest.raises(http.client.IncompleteRead):
            response.read()
    assert "later.lua:2: oops" in lighttpd.master.log_text()


def test_a_client_that_goes_away_ends_the_script(web):
    def ended():
        return web.master.log_text().count("Flush: the client has gone away")
    for _ in range(5):
        before = ended()
        with asked(web, "/flood.lua") as response:
            assert response.read(10) == b"x" * 10
        wait_until(lambda former=before: ended() > former, "the script is ended")
    assert web.request("/pieces.lua?200").body == b"123"
    assert "uarantine" not in web.master.log_text()


@pytest.mark.parametrize("name", NAMES)
def test_the_web_server_sends_the_file(web, name):
    answer = web.request("/file.lua?" + quote(os.path.join(web.files, name)))
    assert (answer.status, answer.body.decode()) == (200, name)
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.headers.get_all("Content-Length") == [str(len(answer.body))]
    # Only the web server knows this one.
    assert answer.headers["Last-Modified"] or answer.headers["ETag"]
    part = web.request("/file.lua?" + quote(os.path.join(web.files, name)), headers={"Range": "bytes=1-2"})
    assert (part.status, part.body) == (206, answer.body[1:3])


def test_a_file_that_is_not_there_is_the_scripts_to_answer(web):
    answer = web.request("/file.lua?" + quote(os.path.join(web.files, "missing")))
    assert answer.status == 404 and b"No such file" in answer.body


def test_names_that_the_web_server_would_refuse_are_sent_by_the_worker(web):
    answer = web.request("/file.lua?" + quote(os.path.join(web.files, "sub", "..", "plain.txt")))
    assert (answer.status, answer.body) == (200, b"plain.txt")
    assert answer.headers["Last-Modified"] is None


def test_files_outside_of_the_map_are_sent_by_the_worker(nginx):
    data = os.urandom(20 << 20)
    for folder in (nginx.site.run, nginx.files + "2"):
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "large.bin"), "wb") as file:
            file.write(data)
        answer = nginx.request("/file.lua?" + quote(os.path.join(folder, "large.bin")))
        assert answer.status == 200 and answer.headers["Content-Length"] == str(len(data))
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(data).digest()


def test_the_name_of_the_internal_location_stays_inside(nginx):
    answer = nginx.request("/file.lua?" + quote(os.path.join(nginx.files, "plain.txt")))
    assert "X-Accel-Redirect" not in answer.headers
    assert nginx.request("/protected/plain.txt").status == 404
