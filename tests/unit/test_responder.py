"""Every request gets an answer: the script's, or an error page that tells a visitor nothing."""
from __future__ import annotations

import os

import pytest
from lua_site import Answer, Site

from luafcgid2 import params
from luafcgid2.errors import ProtocolError
from luafcgid2.runtime import Engine
from luafcgid2.scoreboard import script_key
from luafcgid2.seat import Seat


@pytest.fixture(scope="module")
def engine():
    return Engine("5.3", c_modules=False)


@pytest.fixture
def site(engine, tmp_path):
    return Site(engine, os.path.realpath(str(tmp_path)))


def raw(site, data, problem=0, body=b""):
    return site.responder.respond(data, body, problem, Seat(0))


def page_of(site, **options):
    """What a visitor gets for a script that fails."""
    site.configure(**options)
    site.write("fail.lua", "local secret = 'password'\nfunction main()\n  error('<b>it & that</b>')\nend\n")
    return site.request("fail.lua")


def check_page(answer, status, reason):
    assert (answer.status, answer.reason) == (status, reason)
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"
    assert int(answer.header("Content-Length")) == len(answer.body) > 0


class TestErrorPages:
    def test_a_missing_script_is_404(self, site):
        answer = site.request("missing.lua")
        check_page(answer, 404, "Not Found")
        assert answer.stderr == b"" and site.folder not in answer.body.decode()
        assert "missing.lua" in site.log.text()

    def test_a_script_outside_of_the_root_is_403(self, site):
        answer = site.request("../x.lua", SCRIPT_FILENAME=os.path.abspath(__file__) + "/../lua_site.py")
        check_page(answer, 403, "Forbidden")
        site.configure(script_extensions=())
        check_page(site.request("x", SCRIPT_FILENAME=os.path.abspath(__file__)), 403, "Forbidden")

    def test_a_body_over_max_post_size_is_413_and_runs_nothing(self, site):
        site.write("index.lua", "function main() error('ran') end")
        data = params.encode({"SCRIPT_FILENAME": site.folder + "/index.lua", "DOCUMENT_ROOT": site.folder})
        check_page(Answer(raw(site, data, 413)), 413, "Payload Too Large")
        assert "ran" not in site.log.text() and "MaxPostSize" in site.log.text()

    def test_a_full_disk_is_507(self, site):
        check_page(Answer(raw(site, b"", 507)), 507, "Insufficient Storage")

    def test_a_lua_error_is_500_with_the_traceback_in_the_log_and_on_stderr(self, site):
        answer = page_of(site)
        check_page(answer, 500, "Internal Server Error")
        for text in (answer.stderr.decode(), site.log.text()):
            assert "/fail.lua:3: <b>it & that</b>" in text and "stack traceback:" in text
        assert len(site.log.lines) == 1

    @pytest.mark.parametrize("missing", ["SCRIPT_FILENAME", "DOCUMENT_ROOT"])
    def test_a_web_server_that_does_not_say_which_script_is_told_so(self, site, missing):
        site.write("index.lua", "function main() end")
        answer = site.request(**{missing: None})
        check_page(answer, 500, "Internal Server Error")
        assert missing in site.log.text() and missing.encode() in answer.stderr

    def test_a_script_without_entry_point_is_500_that_names_it(self, site):
        site.configure(entrypoint="handle")
        site.write("index.lua", "function main() end")
        check_page(site.request(), 500, "Internal Server Error")
        assert "'handle'" in site.log.text() and "Entrypoint" in site.log.text()
        site.write("index.lua", "handle = 5")
        check_page(site.request(), 500, "Internal Server Error")
        site.write("index.lua", "handle = setmetatable({}, { __call = function() Send('called') end })")
        assert site.request().body == b"called"

    def test_a_syntax_error_is_500_and_recovers(self, site):
        site.write("index.lua", "function main() oops oops end")
        answer = site.request()
        check_page(answer, 500, "Internal Server Error")
        assert "/index.lua:1:" in site.log.text()
        site.write("index.lua", "function main() Send('fine') end")
        assert site.request().body == b"fine"

    def test_an_error_of_ours_is_500_too_and_in_the_log(self, site, monkeypatch):
        site.write("index.lua", "")
        monkeypatch.setattr(site.pool, "checkout", lambda *_: 1 / 0)
        check_page(site.request(), 500, "Internal Server Error")
        assert "ZeroDivisionError" in site.log.text()

    def test_visitors_see_neither_message_nor_path_nor_source(self, site):
        body = page_of(site).body.decode()
        for secret in ("it &", "fail.lua", site.folder, "password", "traceback"):
            assert secret not in body

    @pytest.mark.parametrize("name", ["missing.lua", "fail.lua"])
    def test_head_has_no_body_and_its_length(self, site, name):
        page_of(site)
        full, head = site.request(name), site.request(name, REQUEST_METHOD="HEAD")
        assert head.body == b"" and head.status == full.status
        assert head.header("Content-Length") == full.header("Content-Length")


class TestShowErrors:
    def test_the_page_shows_message_traceback_and_marked_source(self, site):
        answer = page_of(site, show_errors=True)
        text = answer.body.decode()
        assert answer.status == 500 and answer.header("Content-Type").startswith("text/html")
        assert int(answer.header("Content-Length")) == len(answer.body)
        assert "/fail.lua:3: &lt;b&gt;it &amp; that&lt;/b&gt;" in text and "stack traceback" in text
        assert "<mark>    3    error(&#x27;&lt;b&gt;it &amp; that&lt;/b&gt;&#x27;)</mark>" in text
        assert "local secret" in text and "<b>it" not in text

    def test_long_names_that_lua_cuts_are_shown_in_full(self, site):
        site.configure(show_errors=True)
        folder = "a-very-long-name/" * 8
        module = site.write(folder + "m.lua", "\nreturn function() error('deep') end -- the module")
        script = site.write(folder + "x.lua", "local fail = require 'm'\nfunction main() fail() end")
        answer = site.request(folder + "x.lua")
        for text in (answer.body.decode(), answer.stderr.decode(), site.log.text()):
            assert module + ":2: deep" in text and script + ":2:" in text
        assert b"the module" in answer.body
        site.write(folder + "x.lua", "function main( oops")
        assert (script + ":1:").encode() in site.request(folder + "x.lua").body

    def test_html_in_names_and_requests_is_escaped(self, site):
        site.configure(show_errors=True)
        answer = site.request("<script src=x>.lua", HTTP_X="<script src=y>")
        assert answer.status == 404
        assert b"&lt;script src=x&gt;.lua" in answer.body and b"<script src=" not in answer.body

    def test_env_is_shown_without_what_proves_who_somebody_is(self, site):
        site.configure(show_errors=True)
        answer = site.run("error('x')", HTTP_COOKIE="session=abcdef", HTTP_AUTHORIZATION="Basic c2VjcmV0",
                          HTTP_ACCEPT="a\xff&b", QUERY_STRING="q" * 5000)
        text = answer.body.decode()
        assert "<tr><th>HTTP_COOKIE</th><td>session=***</td></tr>" in text
        assert "<tr><th>HTTP_AUTHORIZATION</th><td>Basic ***</td></tr>" in text
        assert "&amp;b</td>" in text and "q" * 2000 + "..." in text and "q" * 2001 not in text
        assert "abcdef" not in text and "c2VjcmV0" not in text

    def test_source_that_is_not_utf8_is_shown(self, site):
        site.configure(show_errors=True)
        site.write("index.lua", b"function main()\n  -- \xff\xfe\n  error('x')\nend")
        assert b"\\xff\\xfe" in site.request().body

    def test_error_messages_that_are_not_utf8_are_shown(self, site):
        site.configure(show_errors=True)
        answer = site.run("error('\\255\\254')")
        assert answer.status == 500 and b"\\xff\\xfe" in answer.body and b"\\xff\\xfe" in answer.stderr

    def test_a_source_that_is_gone_or_short_does_not_matter(self, site):
        site.configure(show_errors=True)
        short = site.write("short.lua", "")
        for message in ("/no/such/file.lua:12: lost", short + ":99: lost", "/:0: lost", "/a\\0b:1: l"):
            answer = site.run("error(%r, 0)" % message)
            assert answer.status == 500 and b"l" in answer.body

    def test_a_broken_edit_shows_instead_of_the_last_good_version(self, site):
        site.configure(show_errors=True)
        site.write("index.lua", "function main() Send('good') end")
        assert site.request().body == b"good"
        site.write("index.lua", "function main( oops end")
        answer = site.request()
        assert answer.status == 500 and b"index.lua:1:" in answer.body


class TestAnswers:
    def test_elapsed_time_is_the_third_line(self, site):
        lines = site.run("Header('X-Mine', '1') Send('x')").raw.split(b"\r\n")
        assert [line.partition(b":")[0] for line in lines[:3]] == [b"Status", b"Content-Type", b"X-ElapsedTime"]
        assert lines[2].partition(b": ")[2].isdigit()

    def test_elapsed_time_is_in_milliseconds(self, site):
        answer = site.run("local t = os.clock() while os.clock() - t < 0.02 do end")
        assert 20 <= int(answer.header("X-ElapsedTime")) < 20_000

    def test_elapsed_time_can_be_left_out(self, site):
        site.configure(elapsed_time_header=False)
        assert site.run("").all("X-ElapsedTime") == []

    def test_path_info_and_the_query_reach_the_script(self, site):
        answer = site.run("Send(Env.PATH_INFO .. '|' .. Env.QUERY_STRING)", PATH_INFO="/a/b", QUERY_STRING="c=d")
        assert answer.body == b"/a/b|c=d"

    def test_the_thread_and_the_state_are_in_info(self, site):
        assert site.run("Send(Info.Thread .. type(Info.State))", thread=3).body == b"3number"

    def test_default_headers_may_set_what_exists_once(self, site):
        site.configure(default_headers="content-type: text/x\r\nX-A: a\r\n")
        answer = site.run("Send('x')")
        assert answer.header("Content-Type") == "text/x" and answer.header("X-A") == "a"
        assert site.run("RespContentType('text/y')").header("Content-Type") == "text/y"

    def test_the_script_that_runs_is_known(self, site):
        site.run("")
        seat = Seat(0)
        site.responder.respond(site._params("run1.lua", {}), b"", 0, seat)
        assert seat.script == os.fsencode(site.folder) + b"/run1.lua"


@pytest.mark.parametrize("keep", [0, 60000], ids=["looked up each time", "known"])
class TestParams:
    @pytest.fixture(autouse=True)
    def kept(self, site, keep):
        """With 0 every request takes the long way to its script, else all but the first the short one."""
        site.configure(min_file_info_time=keep)

    def request(self, site, pairs):
        return Answer(raw(site, params.encode(pairs)))

    def test_a_header_cannot_choose_the_script(self, site):
        site.write("good.lua", "function main() Send('good') end")
        site.write("evil.lua", "function main() Send('evil') end")
        evil = params.encode({"SCRIPT_FILENAME": site.folder + "/evil.lua", "DOCUMENT_ROOT": site.folder})
        good = [("SCRIPT_FILENAME", site.folder + "/good.lua"), ("DOCUMENT_ROOT", site.folder)]
        # Both may be known by now.
        assert site.request("evil.lua").body == b"evil" and site.request("good.lua").body == b"good"
        for value in (evil, b"x" * 200 + evil, evil * 2, b"SCRIPT_FILENAME" + evil):
            for place in range(3):
                pairs = list(good)
                pairs.insert(place, ("HTTP_X", value))
                assert self.request(site, pairs).body == b"good"

    def test_a_header_cannot_stand_in_for_a_missing_name(self, site):
        site.write("evil.lua", "function main() Send('evil') end")
        evil = params.encode({"SCRIPT_FILENAME": site.folder + "/evil.lua"})
        site.request("evil.lua")
        answer = self.request(site, [("DOCUMENT_ROOT", site.folder), ("HTTP_X", evil)])
        assert answer.status == 500 and b"evil" not in answer.body

    def test_the_last_of_a_repeated_name_is_run_and_seen(self, site):
        site.write("a.lua", "function main() Send('a' .. Env.SCRIPT_FILENAME) end")
        site.write("b.lua", "function main() Send('b' .. Env.SCRIPT_FILENAME) end")
        site.request("a.lua")
        pairs = [("SCRIPT_FILENAME", site.folder + "/a.lua"), ("DOCUMENT_ROOT", site.folder),
                 ("SCRIPT_FILENAME", site.folder + "/b.lua")]
        assert self.request(site, pairs).body.decode() == "b%s/b.lua" % site.folder

    def test_params_that_are_cut_off_end_the_connection_and_run_nothing(self, site):
        site.write("index.lua", "function main() Log('ran') end")
        data = params.encode({"SCRIPT_FILENAME": site.folder + "/index.lua", "DOCUMENT_ROOT": site.folder, "X": "yyyy"})
        for missing in (1, 4, 5, 6):
            with pytest.raises(ProtocolError):
                raw(site, data[:-missing])
        assert "ran" not in site.log.text()

    def test_the_proxy_header_of_a_client_does_not_reach_the_script(self, site):
        assert site.run("Send(tostring(Env.HTTP_PROXY))", HTTP_PROXY="http://evil/").body == b"nil"


class TestKnownScripts:
    """MinFileInfoTime is over an hour: nothing but what is named here makes a request take the long way again."""

    @pytest.fixture(autouse=True)
    def known(self, site):
        site.configure(min_file_info_time=3600000)
        site.write("index.lua", "function main() Send('one') end")
        assert site.request().body == site.request().body == b"one"

    def test_a_change_is_seen_after_a_flush_only(self, site):
        site.write("index.lua", "function main() Send('two') end")
        assert site.request().body == b"one"
        site.board.flush()
        assert site.request().body == site.request().body == b"two"

    def test_nothing_runs_while_memory_is_short(self, site):
        site.board.header.shedding = 1
        assert site.request().status == 503
        site.board.header.shedding = 0
        assert site.request().body == b"one"

    def test_nothing_runs_in_quarantine(self, site):
        line = site.board.quarantine[0]
        line.path, line.until = script_key(os.fsencode(site.folder) + b"/index.lua"), 2 ** 62
        line.since = 2 ** 62
        site.board.header.quarantine_serial += 1
        assert site.request().status == 503
        line.path = b""
        site.board.header.quarantine_serial += 1
        assert site.request().body == site.request().body == b"one"

    def test_a_script_whose_states_were_given_up_runs_again(self, site):
        site.pool.evict()
        site.pool.evict()
        site.pool.close()
        assert site.pool.total == 0
        assert site.request().body == site.request().body == b"one"
        assert site.pool.total == 1

    def test_a_script_that_cannot_be_loaded_any_more_answers_so(self, site):
        site.configure(min_file_info_time=3600000, on_reload_error="error")
        site.request()
        site.write("index.lua", "function main() oops oops end")
        site.board.flush()
        assert site.request().status == site.request().status == 500
