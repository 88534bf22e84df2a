"""Bodies of more than 256 KB, which leave the Lua state in parts, in every Lua version."""
import pytest
from lua_site import VERSIONS, check, equal, promises

from luafcgid2.replies import Reply
from luafcgid2.seat import Seat

# What the pieces of a script are: many small ones, some large ones, and both in turns.
PIECES = {
    "small": ("for n = 1, 30000 do Send(string.format('%010d', n)) end",
              b"".join(b"%010d" % n for n in range(1, 30001))),
    "large": ("for n = 1, 5 do Send(string.rep(tostring(n), 65536)) end",
              b"".join(b"%d" % n * 65536 for n in range(1, 6))),
    "both": ("for n = 1, 9 do Send('<') Send(string.rep(tostring(n), 70000)) Send(n) Send('>') end",
             b"".join(b"<" + b"%d" % n * 70000 + b"%d>" % n for n in range(1, 10))),
    "one": ("Send(string.rep('x', 600000)) Send('y')", b"x" * 600000 + b"y"),
    "exact": ("for n = 1, 8 do Send(string.rep('z', 32768)) end", b"z" * 262144),
}
BIG = "for n = 1, 40 do Send(string.rep('x', 10000)) end "


def the_body_is_whole_and_its_length_is_told(site):
    for name, (code, expected) in PIECES.items():
        found = site.run(code)
        equal((name, found.status, found.body == expected), (name, 200, True))
        equal(found.header("Content-Length"), str(len(expected)))


def it_leaves_in_parts(site):
    site.write("x.lua", "function main() %s end" % BIG)
    reply = site.responder.respond(site._params("x.lua", {}), b"", 0, Seat(0))
    assert isinstance(reply, Reply) and isinstance(reply.rest, tuple) and len(reply.rest) > 1
    equal((b"".join(reply.rest), reply.size), (b"x" * 400000, len(reply.head) + 400000))


def headers_and_status_are_the_scripts(site):
    found = site.run("RespStatus('404') Header('X-A', 'b') " + BIG + "RespContentType('text/plain')")
    equal((found.status, found.header("X-A"), found.header("Content-Type"), len(found.body)),
          (404, "b", "text/plain", 400000))


def the_next_request_begins_empty(site):
    site.write("x.lua", "function main() if Env.QUERY_STRING ~= '' then %s end Send('end') end" % BIG)
    for _ in range(3):
        equal(len(site.request("x.lua", QUERY_STRING="big").body), 400003)
        equal(site.request("x.lua").body, b"end")


def an_error_leaves_nothing_of_it(site):
    site.write("x.lua", "function main() if Env.QUERY_STRING ~= '' then %s error('no') end Send('end') end" % BIG)
    for _ in range(3):
        found = site.request("x.lua", QUERY_STRING="big")
        equal((found.status, b"xxx" in found.body), (500, False))
        equal((site.request("x.lua").body, site.request("x.lua").header("Content-Length")), (b"end", "3"))


def what_is_taken_back_is_gone(site):
    found = site.run(BIG + "con:reset() Send('new')")
    equal((found.body, found.header("Content-Length")), (b"new", "3"))
    found = site.run(BIG + "lf.redirect('/there')")
    equal((found.status, found.body), (302, b""))


def head_and_statuses_without_a_body_have_none(site):
    found = site.run(BIG, REQUEST_METHOD="HEAD")
    equal((found.status, found.body, found.header("Content-Length")), (200, b"", "400000"))
    for status in (204, 304):
        found = site.run(BIG + "RespStatus(Response[%d])" % status)
        equal((found.status, found.body, found.all("Content-Length")), (status, b"", []))


def sessions_set_their_cookie(site):
    found = site.run("Session.Start() " + BIG)
    equal((len(found.body), len(found.all("Set-Cookie"))), (400000, 1))


def where_nothing_can_be_streamed_it_is_whole_all_the_same(site):
    site.configure(max_buffer_size=100000)
    found = site.run(BIG)
    equal((found.body == b"x" * 400000, found.header("Content-Length")), (True, "400000"))


def an_authorizer_that_denies_with_much_says_all_of_it(site):
    site.write("x.lua", "function authorize() %s return 403 end" % BIG)
    found = site.authorize("x.lua")
    equal((found.status, len(found.body)), (403, 400000))


def a_limited_state_can_do_it_too(site):
    site.configure(script_max_memory=16 << 20)
    site.write("x.lua", "function main() %s end" % BIG)
    for _ in range(20):
        equal(len(site.request("x.lua").body), 400000)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("promise", list(promises(globals())))
def test_large_bodies(promise, version):
    check(__file__, version, promise)
