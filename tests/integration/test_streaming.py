"""Answers that leave in pieces, by a real worker: Flush, SendFile, MaxBufferSize, and what goes wrong on the way.

Scripts that must wait do so in C for a named pipe, which the test opens once it has seen what it came for.
"""
from __future__ import annotations

import contextlib
import hashlib
import os
import resource

import pytest
from harness import PATIENCE, wait_until
from test_worker import Worker

from luafcgid2 import answer, records
from luafcgid2.client import Client
from luafcgid2.errors import ProtocolError
from luafcgid2.runtime import Engine

WAIT = "local function wait(name) io.open(Dir() .. '/' .. name, 'r'):close() end\n"
SCRIPTS = {
    "pieces.lua": WAIT + "function main() RespStatus(201) Header('X-A', 'a') Send('one') Flush() wait('a') "
                         "Send('two') Flush() Flush() wait('b') Send('three') end",
    "con.lua": WAIT + "function main(env, con) con:puts('one') con:flush() wait('a') con:puts('two') end",
    "state.lua": WAIT + "function main() if Env.QUERY_STRING ~= 'wait' then return Send(Info.State) end "
                        "Send('one') Flush() wait('a') Send('two') Flush() Send('never') end",
    "caught.lua": WAIT + "function main() Send('one') Flush() wait('a') Send('two') "
                         "local ok, message = pcall(Flush) Log('caught: ' .. tostring(message)) Send('three') end",
    "late.lua": "function main() Send('one') Flush()\n%s\nend",
    "overflow.lua": "function main() for i = 1, 5 do Send(('%d'):format(i):rep(1000)) end end",
    "length.lua": "function main() Header('Content-Length', 6) Send('one') Flush() Send('two') end",
    "nothing.lua": "function main() Flush() Flush() end",
    "status.lua": "function main() RespStatus(Env.QUERY_STRING) Send('body') Flush() Send('more') end",
    "error.lua": "function main() Send('one') Flush() error('oops') end",
    "file.lua": "function main() local ok, message = SendFile(lf.urldecode(Env.QUERY_STRING)) "
                "if not ok then RespStatus(404) Send(tostring(ok) .. ', ' .. message) end end",
    "after.lua": "function main() RespContentType('text/x') Send('<') Flush() Send('-') SendFile('style.css') "
                 "Send('>') end",
    "flood.lua": "function main() local piece = ('x'):rep(1000) while true do Send(piece) Flush() end end",
    "beats.lua": "function main() for i = 1, 6 do os.execute('sleep 0.25') Send(i) Flush() end end",
    "hangs.lua": "function main() Send('one') Flush() while true do end end",
    "large.lua": "function main() local piece = ('x'):rep(1048576) for i = 1, 200 do Send(piece) "
                 "if Env.QUERY_STRING ~= '' then Flush() end end end",
    "session.lua": WAIT + "function main() if Env.QUERY_STRING == 'get' then "
                          "return Send(tostring(Session.GetVar('r', 'k'))) end "
                          "Session.SetVar('r', 'k', 'before') Send('one') Flush() wait('a') "
                          "Session.SetVar('r', 'k', 'after') Send('two') end",
    "begun.lua": "function main() Send('one') Flush() Session.SetVar('r', 'k', 'v') Send('two') end",
    "finalizer.lua": "local function make() local proxy = newproxy and newproxy(true) or setmetatable({}, {}) "
                     "getmetatable(proxy).__gc = function() Send('ghost') Flush() end "
                     "if not newproxy then setmetatable(proxy, getmetatable(proxy)) end end\n"
                     "function main() Send('one') Flush() Send('two') garbage = ('x'):rep(1000000) garbage = nil "
                     "for i = 1, 20 do make() end end",
    "wsapi.lua": WAIT + "return function() return 200, { ['Content-Type'] = 'text/x' }, coroutine.wrap(function() "
                        "coroutine.yield('one') coroutine.yield('two') wait('a') coroutine.yield('three') "
                        "wait('b') coroutine.yield('four') end) end",
    "single.lua": "return function() return 200, {}, coroutine.wrap(function() coroutine.yield('one') end) end",
}


class Streaming(Worker):
    """A worker with the scripts above, and a few files."""

    def __enter__(self):
        super().__enter__()
        for name, source in SCRIPTS.items():
            self.write(name, source)
        self.write("style.css", "p { margin: 0 }")
        for name in "ab":
            os.mkfifo(os.path.join(self.folder, name))
        return self

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def go_on(self, name):
        """Let the script that waits, or will wait, for this pipe go on."""
        open(os.path.join(self.folder, name), "w").close()

    def talk(self, name, query="", client=None, **params):
        return Talk(client or Client(self.address, PATIENCE), dict(self.params(name, query), **params), bool(client))

    def opened(self):
        """The files and folders of the site that the process has open."""
        found = []
        for name in os.listdir("/proc/%d/fd" % self.pid):
            with contextlib.suppress(OSError):
                found.append(os.readlink("/proc/%d/fd/%s" % (self.pid, name)))
        own = tuple(os.path.join(self.folder, name) for name in ("log", "out", "sock", "state.db"))
        return [path for path in found if path.startswith(self.folder) and not path.startswith(own)]

    def peak(self):
        """Megabytes that the process had at most."""
        with open("/proc/%d/status" % self.pid) as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


class Talk:
    """One request whose answer is read record by record."""

    def __init__(self, client, params, keep):
        self.client, self.output = client, b""
        self._events = client.exchange(params, keep_conn=keep)

    def until(self, ending):
        """Read until the output ends so; the script cannot have sent more than it has."""
        while not self.output.endswith(ending):
            kind, content = next(self._events)
            assert kind == records.STDOUT, (kind, self.output)
            self.output += content
        return self

    def end(self):
        """Read all that is left."""
        for kind, content in self._events:
            if kind == records.STDOUT:
                self.output += content
        return self

    @property
    def head(self):
        return answer.parse_head(self.output)

    @property
    def names(self):
        return [name.lower() for name, _ in self.head.headers]

    @property
    def body(self):
        return self.output[self.head.size:]


@pytest.fixture(scope="module")
def worker():
    with Streaming() as made:
        yield made


@pytest.fixture(scope="module", params=Engine.versions())
def each(request):
    """A worker of each Lua version; more than 3,000 bytes do not wait."""
    with Streaming(lua_version=request.param, max_buffer_size=3000) as made:
        yield made


def test_flush_sends_the_head_and_what_there_is_and_then_more(each):
    talk = each.talk("pieces.lua").until(b"one")
    assert talk.head.status == 201 and ("X-A", "a") in talk.head.headers
    assert "content-length" not in talk.names
    each.go_on("a")
    talk.until(b"onetwo")
    each.go_on("b")
    assert talk.end().body == b"onetwothree"


def test_con_flush_does_the_same(each):
    talk = each.talk("con.lua").until(b"one")
    each.go_on("a")
    assert talk.end().body == b"onetwo" and "content-length" not in talk.names


def test_an_empty_flush_sends_the_head(each):
    talk = each.talk("nothing.lua").end()
    assert (talk.head.status, talk.body) == (200, b"")


@pytest.mark.parametrize("call", [
    "Header('X-B', 'b')", "RespStatus(404)", "RespContentType('text/x')", "lf.cookie('a', 'b')", "lf.redirect('/')"])
def test_a_header_after_flush_is_a_lua_error_that_says_so_where_it_is(each, call):
    name = "late%d.lua" % abs(hash(call))
    each.write(name, SCRIPTS["late.lua"] % call)
    with pytest.raises(ProtocolError):
        each.talk(name).end()
    line = next(line for line in each.log_text().splitlines() if name in line and "the headers have been sent" in line)
    assert "by Flush or because of MaxBufferSize" in line
    assert call.startswith("lf.") or "%s:2: " % name in line


def test_output_over_max_buffer_size_leaves_by_itself(each):
    talk = each.talk("overflow.lua").end()
    assert talk.body == b"".join(b"%d" % number * 1000 for number in range(1, 6))
    assert "content-length" not in talk.names


@pytest.mark.parametrize("size", [100, 50_000, 65_536, 3_000_000])
def test_parts_that_wait_leave_before_what_follows_them(size):
    with Streaming(max_buffer_size=1 << 20) as made:
        made.write("parts.lua", "function main() for n = 1, %d do Send(string.rep(string.char(65 + n %% 26), %d)) end "
                   "end" % (3_000_000 // size + 1, size))
        talk = made.talk("parts.lua").end()
    expected = b"".join(bytes([65 + n % 26]) * size for n in range(1, 3_000_000 // size + 2))
    assert talk.body == expected
    assert "content-length" not in talk.names


def test_send_file_sends_length_type_and_bytes(each):
    talk = each.talk("file.lua", "style.css").end()
    assert talk.body == b"p { margin: 0 }"
    assert {("Content-Length", "15"), ("Content-Type", "text/css")} <= set(talk.head.headers)


def test_what_cannot_be_sent_is_nil_and_a_message(each):
    os.mkdir(os.path.join(each.folder, "folder"))
    try:
        for name, message in (("missing", b"nil, %s/missing: No such file or directory"), ("a", b"regular file"),
                              ("folder", b"regular file"), ("a%00b", b"null character in path"),
                              ("/dev/null", b"regular file")):
            found = each.ask("file.lua", name)
            assert found.status == 404 and found.body.endswith(message.replace(b"%s", each.folder.encode())), name
    finally:
        os.rmdir(os.path.join(each.folder, "folder"))
    assert each.opened() == []


def test_flush_at_the_top_level_is_an_error_of_the_script(each):
    each.write("top.lua", "local ok, message = pcall(Flush or function() error('no Flush') end)\n"
                          "function main() Send(tostring(message)) end")
    assert b"no request" in each.ask("top.lua").body


def test_errors_of_flush_name_the_line_of_the_script(each):
    each.write("where.lua", WAIT + "function main() Send('one') Flush() wait('a') Send('x')\nFlush()\nend")
    talk = each.talk("where.lua").until(b"one")
    talk.client.close()
    each.go_on("a")
    wait_until(lambda: "where.lua:3: Flush: the client has gone away" in each.log_text(), "it is logged")


def test_send_file_after_flush_adds_to_the_body(worker):
    talk = worker.talk("after.lua").end()
    assert talk.body == b"<-p { margin: 0 }>"
    assert ("Content-Type", "text/x") in talk.head.headers and "content-length" not in talk.names


def test_a_length_that_the_script_knows_is_sent(worker):
    talk = worker.talk("length.lua").end()
    assert ("Content-Length", "6") in talk.head.headers and talk.body == b"onetwo"


@pytest.mark.parametrize("status", ["204", "304 Not Modified"])
def test_no_body_follows_a_status_that_has_none(worker, status):
    talk = worker.talk("status.lua", status).end()
    assert (talk.head.status, talk.body) == (int(status[:3]), b"")


def test_head_gets_no_body(worker):
    for name, query in (("status.lua", "200"), ("file.lua", "style.css"), ("overflow.lua", ""), ("after.lua", "")):
        assert worker.talk(name, query, REQUEST_METHOD="HEAD").end().body == b"", name
    talk = worker.talk("file.lua", "style.css", REQUEST_METHOD="HEAD").end()
    assert ("Content-Length", "15") in talk.head.headers


def test_kept_connections_go_on_after_a_streamed_answer(worker):
    with worker.client() as client:
        for _ in range(3):
            assert worker.talk("overflow.lua", client=client).end().body.endswith(b"5")
            assert worker.talk("length.lua", client=client).end().body == b"onetwo"
            assert worker.talk("hello.lua", client=client).end().body == b"hello"


def test_the_request_id_of_the_request_is_used(worker):
    assert worker.ask("length.lua", request_id=7).body == b"onetwo"


def test_a_client_that_goes_away_ends_the_script_and_harms_nothing():
    with Streaming(lua_states=1, lua_max_states=1, worker_threads=1) as worker:
        first = worker.ask("state.lua").body
        for _ in range(5):
            talk = worker.talk("state.lua", "wait").until(b"one")
            talk.client.close()
            worker.go_on("a")
            assert worker.ask("state.lua").body == first
        said = "Flush: the client has gone away"
        wait_until(lambda: worker.log_text().count(said) == 5, "it is logged")
        text = worker.log_text()
        assert " error: " not in text and " warning: " not in text and "uarantine" not in text
        assert "reply not delivered: the client left while it was sent" in text


def test_a_script_that_catches_it_gets_no_further(worker):
    before = worker.log_text().count("reply not delivered")
    talk = worker.talk("caught.lua").until(b"one")
    talk.client.close()
    worker.go_on("a")
    wait_until(lambda: "caught: " in worker.log_text(), "the script goes on")
    wait_until(lambda: worker.log_text().count("reply not delivered") > before, "the answer goes nowhere")
    assert "caught: Flush: the client has gone away" in worker.log_text() and " error: " not in worker.log_text()


def test_an_error_after_flush_truncates_the_answer_and_is_logged():
    with Streaming() as worker:
        talk = worker.talk("error.lua")
        with pytest.raises(ProtocolError, match="before END_REQUEST"):
            talk.end()
        assert (talk.head.status, talk.body) == (200, b"one")
        text = worker.log_text()
        assert " error: 500 " in text and "error.lua:1: oops" in text and "stack traceback" in text
        assert worker.ask().body == b"hello"


def test_the_session_cookie_is_in_the_head_and_later_values_are_stored(worker):
    talk = worker.talk("session.lua", HTTPS="on").until(b"one")
    cookie = dict((name.lower(), value) for name, value in talk.head.headers)["set-cookie"].partition(";")[0]
    assert worker.talk("session.lua", "get", HTTP_COOKIE=cookie).end().body == b"before"
    worker.go_on("a")
    talk.end()
    assert worker.talk("session.lua", "get", HTTP_COOKIE=cookie).end().body == b"after"
    assert "its cookie has changed" not in worker.log_text()
    # Of a session that the client has, what is first touched after Flush is no problem.
    assert worker.talk("begun.lua", HTTP_COOKIE=cookie).end().body == b"onetwo"
    assert "its cookie has changed" not in worker.log_text()


def test_a_session_begun_after_flush_is_logged_as_lost():
    with Streaming() as worker:
        talk = worker.talk("begun.lua").end()
        assert talk.body == b"onetwo" and "set-cookie" not in talk.names
        lost = "Session: its cookie has changed after Flush, and the client does not get it"
        wait_until(lambda: lost in worker.log_text(), "it is logged")


def test_a_large_file_comes_whole_and_no_descriptor_stays_open(worker):
    data = os.urandom(20 << 20)
    with open(os.path.join(worker.folder, "large.bin"), "wb") as file:
        file.write(data)
    talk = worker.talk("file.lua", "large.bin").end()
    assert ("Content-Length", str(len(data))) in talk.head.headers
    assert ("Content-Type", "application/octet-stream") in talk.head.headers
    assert hashlib.sha256(talk.body).digest() == hashlib.sha256(data).digest()
    for _ in range(3):
        # The client leaves at the head, and in the middle.
        talk = worker.talk("file.lua", "large.bin")
        while not talk.output:
            talk.output += next(talk._events)[1]
        talk.client.close()
    wait_until(lambda: not worker.opened(), "all is closed")


def test_a_file_that_shrinks_truncates_the_answer():
    with Streaming() as worker:
        path = os.path.join(worker.folder, "shrinks.bin")
        with open(path, "wb") as file:
            file.truncate(50 << 20)
        worker.write("shrinks.lua", "function main() local ok, message = pcall(SendFile, 'shrinks.bin') "
                                    "Log(tostring(message)) Send('more') end")
        for name, query in (("file.lua", "shrinks.bin"), ("shrinks.lua", "")):
            os.truncate(path, 50 << 20)
            talk = worker.talk(name, query)
            while not talk.output:
                talk.output += next(talk._events)[1]
            os.truncate(path, 1000)
            with pytest.raises(ProtocolError):
                talk.end()
            assert len(talk.body) < 50 << 20 and b"more" not in talk.body
        wait_until(lambda: worker.log_text().count(" error: ") == 2, "both are logged")
        assert worker.log_text().count("the file has become shorter while it was sent") == 3
        wait_until(lambda: not worker.opened(), "all is closed")


@pytest.mark.parametrize("name, query, options", [
    ("large.lua", "flush", {}), ("large.lua", "", {"max_buffer_size": 1 << 20}), ("file.lua", "sparse.bin", {}),
    ("large.lua", "flush", {"script_max_memory": 16 << 20}),
    ("large.lua", "", {"script_max_memory": 16 << 20, "max_buffer_size": 1 << 20}),
    ("file.lua", "sparse.bin", {"script_max_memory": 16 << 20})])
def test_memory_stays_flat_however_much_is_streamed(name, query, options):
    with Streaming(**options) as worker, worker.client() as client:
        with open(os.path.join(worker.folder, "sparse.bin"), "wb") as file:
            file.truncate(200 << 20)
        assert worker.ask().body == b"hello"
        before, size = worker.peak(), 0
        for kind, content in client.exchange(worker.params(name, query), keep_conn=False):
            size += len(content) if kind == records.STDOUT else 0
        assert size >= 200 << 20
        assert worker.peak() - before < 24


def test_a_slow_reader_holds_a_thread_for_send_timeout_and_is_no_hung_script():
    with Streaming(send_timeout=1, request_timeout=0.4, worker_threads=1, lua_max_states=1) as worker:
        with worker.client() as client:
            client.send_raw(worker.records("flood.lua"))
            wait_until(lambda: "it took nothing for SendTimeout, 1 s" in worker.log_text(), "the script is ended")
            assert worker.ask().body == b"hello"
        text = worker.log_text()
        assert "RequestTimeout" not in text and " error: " not in text and " warning: " not in text


def test_request_timeout_counts_from_the_last_flush():
    with Streaming(request_timeout=1) as worker:
        assert worker.talk("beats.lua").end().body == b"123456"
        talk = worker.talk("hangs.lua")
        with pytest.raises(ProtocolError):
            talk.end()
        assert talk.body == b"one"
        assert "504 " in worker.log_text() and "RequestTimeout is 1 s" in worker.log_text()
        assert "beats.lua" not in worker.log_text()


def test_the_access_log_has_status_and_bytes_of_streamed_answers(tmp_path):
    path = str(tmp_path / "access.log")
    with Streaming(access_log_path=path) as worker:
        talk = worker.talk("pieces.lua").until(b"one")
        for name in "ab":
            worker.go_on(name)
        talk.end()
        worker.talk("file.lua", "style.css").end()
        worker.talk("overflow.lua", REQUEST_METHOD="HEAD").end()
        with contextlib.suppress(ProtocolError):
            worker.talk("error.lua").end()

        def lines():
            with open(path) as file:
                found = [line.split('" ')[1].split()[:2] for line in file]
            return found if len(found) == 4 else None
        assert sorted(wait_until(lines, "the lines are there")) == [
            ["200", "-"], ["200", "15"], ["200", "3"], ["201", "11"]]


def test_error_pages_stay_whole(tmp_path):
    script = tmp_path / "page.lua"
    script.write_text("function main() Send('sorry, ') Flush() Send(Env.ERROR_STATUS) end")
    with Streaming(error_script=str(script), max_buffer_size=1) as worker:
        talk = worker.talk("missing.lua").end()
        assert (talk.head.status, talk.body) == (404, b"sorry, 404")
        assert ("Content-Length", "10") in talk.head.headers


def test_wsapi_iterators_stream(worker):
    talk = worker.talk("wsapi.lua").until(b"two")
    assert ("Content-Type", "text/x") in talk.head.headers and "content-length" not in talk.names
    worker.go_on("a")
    talk.until(b"onetwothree")
    worker.go_on("b")
    assert talk.end().body == b"onetwothreefour"
    assert "content-length" in worker.talk("single.lua").end().names


@pytest.mark.parametrize("version", ["5.1", "5.3"])
def test_finalizers_that_flush_between_requests_send_nothing(version):
    with Streaming(lua_version=version, worker_threads=1) as worker, worker.client() as client:
        for _ in range(20):
            talk = worker.talk("finalizer.lua", client=client).end()
            assert talk.output.startswith(b"Status: ") and talk.body.replace(b"ghost", b"") == b"onetwo"
            talk = worker.talk("hello.lua", client=client).end()
            assert talk.output.startswith(b"Status: ") and talk.body == b"hello"


def test_descriptors_that_run_out_are_no_end_of_send_file(worker):
    with worker.client() as client:
        assert worker.talk("file.lua", "style.css", client=client).end().head.status == 200
        used = {int(name) for name in os.listdir("/proc/%d/fd" % worker.pid)}
        free = next(number for number in range(max(used) + 2) if number not in used)
        soft, hard = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (free, hard))
        try:
            talk = worker.talk("file.lua", "style.css", client=client).end()
            assert talk.head.status == 404 and b"Too many open files" in talk.body
        finally:
            resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert worker.talk("file.lua", "style.css", client=client).end().head.status == 200
