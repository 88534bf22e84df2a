"""`luafcgid2 serve`: files and scripts over HTTP with one command, and nothing left of it afterwards."""
from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from wsgiref.util import setup_testing_defaults

import pytest

from harness import ROOT, Site, accepts, children, is_alive, wait_until
from luafcgid2 import client
from luafcgid2.front import Front
from promises import env
from servers import Serve

EXAMPLES = os.path.join(ROOT, "examples")


@pytest.fixture(scope="module")
def web():
    """The test scripts under `luafcgid2 serve`."""
    with Site() as site:
        site.write("page/index.html", "<p>page</p>")
        site.write(".hidden", "secret")
        os.symlink("/etc/passwd", os.path.join(site.www, "outside.txt"))
        os.mkdir(os.path.join(site.www, "bare"))
        with Serve(site.www, site.run) as server:
            server.site = site
            yield server


@pytest.fixture
def serve(site, start):
    """A serve of its own for a test that ends it."""
    server = start(Serve, site.www, site.run)
    server.site = site
    return server


def family(pid: int) -> list:
    """A process, its children and theirs."""
    return [pid] + [each for child in children(pid) for each in family(child)]


def cpu_ticks(pid: int) -> int:
    """CPU time that a process has used, in ticks of a hundredth of a second."""
    with open("/proc/%d/stat" % pid) as file:
        return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))


def test_a_script_answers(web: Serve) -> None:
    assert web.request("/respond.lua?body=hello").body == b"hello"


@pytest.mark.parametrize("size", (0, 1, 65535, 65536, 1 << 20, 4 << 20))
def test_a_body_comes_up_and_goes_down_unchanged(web: Serve, size: int) -> None:
    body = os.urandom(size)
    answer = web.request("/echo.lua", "POST", body)
    assert (answer.status, hashlib.sha256(answer.body).digest()) == (200, hashlib.sha256(body).digest())


def test_a_large_answer_comes_whole(web: Serve) -> None:
    answer = web.request("/bytes.lua?%d" % (20 << 20))
    expected = (bytes(range(251)) * ((20 << 20) // 251 + 1))[:20 << 20]
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(expected).digest()


def test_a_chunked_upload_arrives_whole(web: Serve) -> None:
    assert web.request("/echo.lua", "POST", iter([b"one", b"two"])).body == b"onetwo"


def test_a_body_over_max_post_size_is_413(web: Serve) -> None:
    assert web.request("/echo.lua", "POST", bytes((4 << 20) + 1)).status == 413


def test_env_is_what_nginx_would_send(web: Serve) -> None:
    headers = {"Host": "Site.test:81", "X-Own": "1", "Proxy": "evil"}
    found = env(web.request("/env.lua/extra/p%20q?x=1&y", headers=headers))
    www = os.path.realpath(web.site.www)
    expected = {
        "SCRIPT_FILENAME": www + "/env.lua", "SCRIPT_NAME": "/env.lua", "PATH_INFO": "/extra/p q",
        "DOCUMENT_ROOT": www, "DOCUMENT_URI": "/env.lua/extra/p q", "REQUEST_URI": "/env.lua/extra/p%20q?x=1&y",
        "QUERY_STRING": "x=1&y", "REQUEST_METHOD": "GET", "CONTENT_TYPE": "", "CONTENT_LENGTH": "",
        "SERVER_NAME": "site.test", "SERVER_PORT": str(web.port), "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1", "GATEWAY_INTERFACE": "CGI/1.1", "REDIRECT_STATUS": "200",
        "REQUEST_SCHEME": "http", "HTTP_HOST": "Site.test:81", "HTTP_X_OWN": "1"}
    assert {name: found.get(name) for name in expected} == expected
    assert "HTTP_PROXY" not in found
    assert found["SERVER_SOFTWARE"].startswith("luafcgid2/") and found["REMOTE_PORT"].isdigit()


def test_a_post_tells_type_and_length(web: Serve) -> None:
    found = env(web.request("/env.lua", "POST", b"12345", {"Content-Type": "text/x-test"}))
    assert (found["CONTENT_TYPE"], found["CONTENT_LENGTH"]) == ("text/x-test", "5")


def test_head_has_headers_and_no_body(web: Serve) -> None:
    for path in ("/bytes.lua?500", "/plain.txt", "/missing"):
        get, head = web.request(path), web.request(path, "HEAD")
        assert (head.status, head.body) == (get.status, b"")
        assert head.headers["Content-Length"] == get.headers["Content-Length"]


def test_a_file_is_sent_once_and_then_known(web: Serve) -> None:
    first = web.request("/plain.txt")
    assert (first.status, first.body) == (200, b"plain file\n")
    assert first.headers["Content-Type"] == "text/plain; charset=utf-8"
    since = {"If-Modified-Since": first.headers["Last-Modified"]}
    again = web.request("/plain.txt", headers=since)
    assert (again.status, again.body) == (304, b"")
    assert web.request("/plain.txt", headers={"If-Modified-Since": "nonsense"}).status == 200


def test_a_file_takes_get_and_head_only(web: Serve) -> None:
    answer = web.request("/plain.txt", "POST", b"x")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_a_directory_gets_its_slash_and_its_index(web: Serve) -> None:
    answer = web.request("/sub?x=1")
    assert (answer.status, answer.headers["Location"]) == (301, "/sub/?x=1")
    assert web.request("//sub").headers["Location"] == "/sub/"
    assert web.request("/sub/").body == b"index of /sub/index.lua"
    assert web.request("/page/").body == b"<p>page</p>"


@pytest.mark.parametrize("path", ("/missing", "/missing.lua", "/bare/", "/", "/plain.txt/x", "/.hidden", "/outside.txt",
                                  "/../run/serve.log", "/%2e%2e/run/serve.log", "/sub/..%2f..%2frun/serve.log",
                                  "/echo.lua%00", "/%s" % ("a" * 3000)))
def test_what_is_missing_hidden_or_outside_is_404(web: Serve, path: str) -> None:
    answer = web.request(path)
    assert answer.status == 404
    assert b"<h1>404 Not Found</h1>" in answer.body


def test_a_url_in_an_error_page_is_escaped(web: Serve) -> None:
    assert b"<script>" not in web.request("/<script>").body


def test_a_failed_script_shows_where(web: Serve) -> None:
    web.expect_errors("provoked")
    answer = web.request("/fail.lua")
    assert answer.status == 500
    assert b"provoked" in answer.body and b"fail.lua" in answer.body


def test_an_edit_is_seen_by_the_next_request(web: Serve) -> None:
    for number in range(10):
        web.site.write("edited.lua", "function main() Send('version %d') end" % number)
        assert web.request("/edited.lua").body == b"version %d" % number


def test_each_request_is_one_log_line(web: Serve) -> None:
    web.request("/respond.lua?status=418&logged", "POST", b"x")
    wait_until(lambda: re.search(r"^POST /respond\.lua\?status=418&logged 418 \d+\.\d ms$", web.output(), re.MULTILINE),
               "the log line")


def test_a_request_cannot_write_control_characters_to_the_terminal(web: Serve) -> None:
    with socket.create_connection(("127.0.0.1", web.port)) as sock:
        sock.sendall(b"GET /\x1b[31mred HTTP/1.0\r\n\r\n")
        while sock.recv(65536):
            pass
    wait_until(lambda: "[31mred" in web.output(), "the log line")
    assert "\x1b" not in web.output()


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
def test_a_signal_stops_everything_and_leaves_nothing(serve: Serve, number: int) -> None:
    assert serve.request("/respond.lua").status == 200
    processes = family(serve.pid)
    assert len(processes) == 4 and [name for name in os.listdir(serve.site.run) if name.startswith("luafcgid2-")]
    assert serve.stop(number) == 0
    assert not any(map(is_alive, processes))
    assert os.listdir(serve.site.run) == ["serve.log.out"]


def test_a_script_that_never_ends_does_not_hold_up_the_stop(serve: Serve) -> None:
    serve.expect_errors("luafcgid2 serve: |SIGKILL|killed")
    serve.site.write("endless.lua", "function main() while true do end end")
    processes = family(serve.pid)
    with socket.create_connection(("127.0.0.1", serve.port)) as sock:
        sock.sendall(b"GET /endless.lua HTTP/1.0\r\n\r\n")
        wait_until(lambda: any(cpu_ticks(pid) > 20 for pid in processes[1:]), "the script runs")
        assert serve.stop() == 0
    assert not any(map(is_alive, processes))
    assert os.listdir(serve.site.run) == ["serve.log.out"]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells the child of its parent's death on Linux only")
def test_even_sigkill_leaves_nothing(serve: Serve) -> None:
    processes = family(serve.pid)
    serve.stop(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, processes)), "master and workers have left")
    assert os.listdir(serve.site.run) == ["serve.log.out"]


def test_without_its_master_it_ends_with_an_error(serve: Serve) -> None:
    serve.expect_errors("the master has gone")
    (master,) = children(serve.pid)
    processes = family(serve.pid)
    os.kill(master, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, processes)), "everything has left")
    assert serve.stop() == 1
    assert os.listdir(serve.site.run) == ["serve.log.out"]


def test_without_its_master_what_runs_keeps_its_files_to_the_end(serve: Serve) -> None:
    serve.expect_errors("the master has gone")
    pipe, outcome = os.path.join(serve.site.path, "pipe"), []
    os.mkfifo(pipe)
    serve.site.write("last.lua", "function main() io.open(Env.QUERY_STRING):read('l') Session.Start() "
                                 "Session.SetVar('a', 'b', 1) Send('kept') end")
    (address,) = glob.glob(os.path.join(serve.site.run, "*", "luafcgid2.sock"))
    params = {"REQUEST_METHOD": "GET", "SCRIPT_FILENAME": os.path.join(serve.site.www, "last.lua"),
              "SCRIPT_NAME": "/last.lua", "DOCUMENT_ROOT": serve.site.www, "QUERY_STRING": pipe}
    (master,) = children(serve.pid)
    processes = family(serve.pid)
    # Not by way of its front, which is awaited in any case.
    thread = threading.Thread(target=lambda: outcome.append(client.request(address, params).body))
    thread.start()
    # Opening returns when the script has opened the other end.
    with open(pipe, "w") as end:
        os.kill(master, signal.SIGKILL)
        wait_until(lambda: not accepts(("127.0.0.1", serve.port)), "the front has left")
        end.write("go\n")
    thread.join(30)
    assert outcome == [b"kept"]
    wait_until(lambda: not any(map(is_alive, processes)), "everything has left")
    assert serve.stop() == 1
    assert os.listdir(serve.site.run) == ["serve.log.out"]


def test_a_fastcgi_server_that_is_away_is_502(site: Site, capsys) -> None:
    lines, sent = [], []
    environ: dict = {"PATH_INFO": "/respond.lua"}
    setup_testing_defaults(environ)
    away = Front(site.www, os.path.join(site.run, "none.sock"), lines.append)
    page = b"".join(away(environ, lambda status, headers: sent.append(status)))
    assert sent == ["502 Bad Gateway"] and b"<h1>502 Bad Gateway</h1>" in page
    assert re.fullmatch(r"GET /respond\.lua 502 \d+\.\d ms", lines[0])
    assert "No such file" in capsys.readouterr().err


def run(*arguments: str, code: str = "") -> subprocess.CompletedProcess:
    """`luafcgid2 serve` that is expected to fail at once, or Python `code` instead."""
    command = ["-c", code] if code else ["-m", "luafcgid2", "serve", *arguments]
    return subprocess.run([sys.executable, *command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60, check=False)


def test_a_port_in_use_is_told(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        http = "127.0.0.1:%d" % taken.getsockname()[1]
        done = run(site.www, "--http", http)
    assert done.returncode == 1
    assert "cannot listen on http://%s: " % http in done.stdout and "in use" in done.stdout


@pytest.mark.parametrize("arguments, message", (
    (("/nonexistent",), "/nonexistent is not a directory"),
    ((".", "--http", "localhost"), "'localhost' is not HOST:PORT"),
    ((".", "--http", "127.0.0.1:99999"), "cannot listen on http://127.0.0.1:99999"),
))
def test_a_wrong_argument_is_told(arguments: tuple, message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    assert message in done.stdout and "Traceback" not in done.stdout


def test_a_missing_waitress_is_told_with_what_to_install() -> None:
    done = run(code="import sys; sys.modules['waitress'] = None\n"
                    "from luafcgid2 import serve\n"
                    "sys.exit(serve.main('.'))")
    assert done.returncode == 1
    assert "pip install 'luafcgid2[serve]'" in done.stdout and "Traceback" not in done.stdout


@pytest.fixture(scope="module")
def examples():
    """The examples, as `make run` serves them."""
    with Site() as site, Serve(EXAMPLES, site.run) as server:
        yield server


def test_all_that_the_landing_page_links_to_is_there(examples: Serve) -> None:
    examples.expect_errors(r"error\.lua:\d+: attempt to")
    landing = examples.request("/").body.decode()
    links = re.findall(r'(?:href|src)="([^"]+)"', landing)
    assert len(links) > 8
    for link in links:
        expected = 500 if link == "/error.lua" else 200
        assert examples.request(link.replace("&amp;", "&")).status == expected, link


def test_the_example_form_escapes_what_it_shows(examples: Serve) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    for answer in (examples.request("/form.lua?name=%3Cb%3E%22&message=%26"),
                   examples.request("/form.lua", "POST", "name=%3Cb%3E%22&message=%26", kind)):
        assert b"<td>&lt;b&gt;&quot;</td>" in answer.body and b"<td>&amp;</td>" in answer.body
        assert b"<b>" not in answer.body
    assert examples.request("/form.lua?name=a&name=b").status == 200


def test_the_example_upload_shows_what_came(examples: Serve) -> None:
    part = '--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    body = (part % ("title", "", "<b>") + part % ("files", '; filename="a<b>.txt"', "Hello") +
            part % ("files", '; filename="b.txt"', "") + "--b--\r\n")
    answer = examples.request("/upload.lua", "POST", body, {"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status == 200
    assert "2 files came, called “&lt;b&gt;”" in answer.body.decode()
    assert b'<td>a&lt;b&gt;.txt</td><td></td><td class="number">5</td><td><code>48 65 6c 6c 6f </code>' in answer.body


def test_the_example_counter_counts_its_cookie(examples: Serve) -> None:
    for value, shown in (("", 1), ("visits=4", 5), ("visits=<b>", 1), ("visits=9999999999999", 1)):
        answer = examples.request("/cookies.lua", headers={"Cookie": value} if value else {})
        assert '<p class="big">%d</p>' % shown in answer.body.decode()
        assert answer.headers["Set-Cookie"].startswith("visits=%d; Path=/cookies.lua; HttpOnly;" % shown)
    assert "Max-Age=0" in examples.request("/cookies.lua?forget").headers["Set-Cookie"]


def test_the_example_hits_counts_every_request(examples: Serve) -> None:
    shown = [int(re.search(rb'class="big">(\d+)<', examples.request("/hits.lua").body).group(1)) for _ in range(3)]
    assert shown == [shown[0], shown[0] + 1, shown[0] + 2]


def test_the_example_limit_answers_429_and_says_how_long_to_wait(examples: Serve) -> None:
    answers = [examples.request("/limit.lua") for _ in range(12)]
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.status for answer in answers} == {200, 429}
    assert all(1 <= int(answer.headers["Retry-After"]) <= 10 for answer in refused)


def test_the_example_cache_makes_its_page_once(examples: Serve) -> None:
    # Its time may be over between two requests, but not between three.
    assert any(b"it found the page" in examples.request("/cache.lua").body for _ in range(3))


def test_the_example_events_sends_a_clock_and_says_when_it_ends(examples: Serve) -> None:
    answer = examples.request("/events.lua?events=2")
    assert answer.headers["Content-Type"] == "text/event-stream" and answer.headers["Content-Length"] is None
    assert re.fullmatch(rb"(id: [12]\ndata: \d\d:\d\d:\d\d\n\n){2}event: end\ndata:\n\n", answer.body)
    assert b'new EventSource("/events.lua?events=20")' in examples.request("/events.lua").body


def test_the_example_api_keeps_lists_and_deletes_notes(examples: Serve) -> None:
    made = examples.request("/notes.lua", "POST", '{"text": "a \\"note\\""}')
    note = json.loads(made.body)
    assert made.status == 201 and made.headers["Content-Type"] == "application/json"
    assert note["text"] == 'a "note"' and note in json.loads(examples.request("/notes.lua").body)["notes"]
    name = "/notes.lua/%d" % note["id"]
    assert json.loads(examples.request(name).body) == note
    assert examples.request(name, "DELETE").status == 204
    assert examples.request(name).status == 404
    assert examples.request("/notes.lua", "POST", "no JSON").status == 400
    assert examples.request("/notes.lua", "PUT", "{}").status == 405


def test_the_example_listing_shows_sources_of_this_directory_only(examples: Serve) -> None:
    assert b"function main()" in examples.request("/files.lua?show=hello.lua").body
    for name in ("../setup.cfg", "lib/page.lua", ".env", "none.lua", "/etc/passwd", "..%2fsetup.cfg"):
        assert examples.request("/files.lua?show=" + name).status == 404
