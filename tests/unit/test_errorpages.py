"""ErrorScript: a script of the user's makes the error pages, and the built-in ones stand in where it cannot."""
from __future__ import annotations

import os

import pytest
from lua_site import Answer, Site

from luafcgid2 import params
from luafcgid2.errors import ScriptTimeout
from luafcgid2.runtime import Engine
from luafcgid2.seat import Seat

SHOW = """
function main(env)
  Header("X-Made", "here")
  for _, name in ipairs({ "STATUS", "MESSAGE", "TRACEBACK", "SCRIPT" }) do
    Send(name .. "=" .. tostring(env["ERROR_" .. name]) .. "\\n")
  end
  Send(tostring(env.SCRIPT_NAME) .. " " .. tostring(env.CONTENT_LENGTH) .. " " .. Receive())
end
"""


@pytest.fixture(scope="module")
def engine():
    return Engine("5.3", c_modules=False)


@pytest.fixture
def site(engine, tmp_path):
    """A site whose error pages are made by a script outside of it, which a test writes."""
    root = tmp_path / "root"
    root.mkdir()
    made = Site(engine, os.path.realpath(str(root)))
    made.options = {"error_script": os.path.realpath(str(tmp_path)) + "/error.lua"}
    made.configure(**made.options)
    made.write("fail.lua", "function main() error('it fails') end")
    return made


def test_it_renders_404_and_500_with_their_status(site):
    site.write("../error.lua", SHOW)
    for name, status in (("missing.lua", 404), ("fail.lua", 500), ("other.txt", 403)):
        answer = site.request(name)
        assert (answer.status, answer.header("X-Made")) == (status, "here")
        assert b"STATUS=%d\n" % status in answer.body and b"SCRIPT=%s/" % site.folder.encode() in answer.body
        assert ("/" + name).encode() in answer.body
        assert int(answer.header("Content-Length")) == len(answer.body)


def test_message_and_traceback_are_given_only_with_show_errors(site):
    site.write("../error.lua", SHOW)
    hidden = site.request("fail.lua")
    assert b"MESSAGE=nil\nTRACEBACK=nil" in hidden.body and b"it fails" not in hidden.body
    site.configure(show_errors=True, **site.options)
    shown = site.request("fail.lua")
    assert b"fail.lua:1: it fails" in shown.body and b"stack traceback" in shown.body


def test_the_web_server_cannot_name_a_message_and_a_body_is_not_read_again(site):
    site.write("../error.lua", SHOW)
    answer = site.request("fail.lua", body=b"posted", CONTENT_LENGTH="6", ERROR_MESSAGE="forged")
    assert b"forged" not in answer.body and answer.body.endswith(b"/fail.lua nil ")


def test_log_and_web_server_are_told_as_without_it(site):
    site.write("../error.lua", SHOW)
    answer = site.request("fail.lua")
    assert b"it fails" in answer.stderr and "it fails" in site.log.text() and len(site.log.lines) == 1
    assert site.request("missing.lua").stderr == b""


def test_it_may_set_another_status(site):
    site.write("../error.lua", "function main() RespStatus(302) Header('Location', '/') end")
    assert site.request("missing.lua").status == 302


@pytest.mark.parametrize("source", ["function main() error('page fails') end", "function main( oops", "", None])
def test_the_built_in_page_stands_in_for_one_that_fails(site, source):
    if source is not None:
        site.write("../error.lua", source)
    for name, status in (("missing.lua", 404), ("fail.lua", 500)):
        answer = site.request(name)
        assert answer.status == status and answer.header("Content-Type") == "text/plain; charset=utf-8"
    assert "ErrorScript %s: " % site.options["error_script"] in site.log.text()


def test_an_error_page_that_is_itself_asked_for_and_fails_makes_no_loop(site):
    site.options = {"error_script": site.write("error.lua", "count = (count or 0) + 1\n"
                                               "function main() Log('run') error('page fails') end")}
    site.configure(**site.options)
    assert site.request("error.lua").status == 500
    assert site.log.lines.count("run") == 2


def test_a_wsapi_application_can_be_the_page(site):
    site.write("../error.lua", "return function(env) local text = 'page ' .. env.ERROR_STATUS\n"
                               "return 200, {}, function() local last = text text = nil return last end end")
    answer = site.request("missing.lua")
    assert (answer.status, answer.body) == (404, b"page 404")


def test_a_request_whose_time_is_over_gets_the_built_in_page(site, monkeypatch):
    site.write("../error.lua", SHOW)

    def late(*_):
        raise ScriptTimeout("too late")
    monkeypatch.setattr(site.pool, "checkout", late)
    answer = site.request("fail.lua")
    assert answer.status == 504 and answer.all("X-Made") == []


def test_refused_bodies_and_params_have_a_page_too(site):
    site.write("../error.lua", SHOW)
    data = params.encode({"SCRIPT_FILENAME": site.folder + "/fail.lua", "DOCUMENT_ROOT": site.folder})
    for given, problem in ((data, 413), (data, 507), (b"", 431)):
        # What is left of params that were refused names no script.
        data = params.encode({"SCRIPT_NAME": "/x"}) if given == b"" else given
        answer = Answer(site.responder.respond(data, b"", problem, Seat(0)))
        assert (answer.status, answer.header("X-Made")) == (problem, "here")


def test_the_request_is_counted_to_its_own_script(site):
    site.write("../error.lua", SHOW)
    seat = Seat(0)
    data = params.encode({"SCRIPT_FILENAME": site.folder + "/fail.lua", "DOCUMENT_ROOT": site.folder})
    site.responder.respond(data, b"", 0, seat)
    assert seat.params == data and seat.entry.script.path.endswith(b"/fail.lua") and seat.errors == 1


def test_a_head_request_has_no_body(site):
    site.write("../error.lua", SHOW)
    answer = site.request("missing.lua", REQUEST_METHOD="HEAD")
    assert (answer.status, answer.body) == (404, b"")
