"""What a script's response looks like on the wire, in every Lua version (ancestors' faults mended)."""
import pytest
from lua_site import VERSIONS, check, equal, promises

ELAPSED = "X-ElapsedTime"


def headers_come_in_the_order_of_the_ancestor(site):
    site.configure(default_headers="X-Powered-By: luafcgid2\r\n")
    found = site.run("Header('X-A', 'a') Header('X-B', 'b') RespContentType('text/plain') "
                     "RespStatus(Response[201]) Send('body')")
    equal(found.raw[:19], b"Status: 201 Created")
    equal([name for name, _ in found.headers],
          ["Content-Type", ELAPSED, "X-Powered-By", "X-A", "X-B", "Content-Length"])
    equal(found.header("Content-Length"), "4")
    assert found.header(ELAPSED).isdigit()


def the_elapsed_time_can_be_switched_off(site):
    site.configure(elapsed_time_header=False)
    equal(site.run("").all(ELAPSED), [])


def default_headers_never_fuse_with_the_next_line(site):
    for given in ("X-One: 1", "X-One: 1\r\n", "X-One: 1\r\nX-Two: 2", "X-One: 1\nX-Two: 2\n"):
        site.configure(default_headers=given)
        found = site.run("Header('X-Mine', 'm')")
        equal(found.header("X-One"), "1")
        equal(found.header("X-Mine"), "m")


def a_script_replaces_default_headers_type_status_and_length(site):
    site.configure(default_headers="X-Powered-By: luafcgid2\r\nX-Other: o\r\n")
    found = site.run("Header('x-powered-by', 'me') Header('content-type', 'text/css') "
                     "Header('STATUS', '404') Header('Content-Length', 99) Send('abc')")
    equal((found.status, found.reason), (404, "Not Found"))
    equal(found.header("X-Powered-By"), "me")
    equal(found.header("X-Other"), "o")
    equal(found.header("Content-Type"), "text/css")
    equal(found.header("Content-Length"), "3")


def a_location_without_a_status_is_a_redirect(site):
    equal(site.run("Header('Location', '/there')").status, 302)
    equal(site.run("RespStatus(201) Header('Location', '/there')").status, 201)
    equal(site.run("Header('Location', '/there') RespStatus(Response[200])").status, 200)


def what_is_no_status_is_an_error_that_names_it(site):
    for value in ("Not Found", "", "20", "2000", "099 X", "abc"):
        found = site.run("RespStatus(%r)" % value)
        equal(found.status, 500)
        assert b"is not an HTTP status" in found.stderr and b"/" in found.stderr.partition(b":")[0], found.stderr
    equal(site.run("RespStatus(299)").status, 299)
    equal(site.run("RespStatus('404 Gone Fishing')").reason, "Gone Fishing")


def several_cookies_are_all_sent(site):
    found = site.run("Header('Set-Cookie', 'a=1') Header('Set-Cookie', 'b=2')")
    equal(found.all("Set-Cookie"), ["a=1", "b=2"])


def line_breaks_and_nul_in_headers_are_an_error(site):
    for call in ("Header('X-A', 'a\\r\\nX-B: b')", "Header('X-A', 'a\\nb')", "Header('X-A', 'a\\0b')",
                 "Header('X\\r\\n-A', 'a')", "Header('X-A: a\\nX-B: b')", "RespStatus('200 OK\\nX: y')",
                 "RespContentType('text/html\\r\\nX: y')", "con:header('X', 'a\\rb')"):
        found = site.run(call)
        equal(found.status, 500)
        assert b"header injection" in found.stderr, (call, found.stderr)
        equal(found.all("X-B"), [])
    equal(site.value("pcall(Header, 'X-A', 'a\\nb')"), "false")


def output_stays_in_the_order_of_its_calls(site):
    found = site.run("for i = 1, 4 do Send(string.rep(tostring(i), 1500)) end Send('tail')")
    equal(found.body, b"".join(b"%d" % i * 1500 for i in range(1, 5)) + b"tail")


def bytes_arrive_untouched(site):
    found = site.run("local t = {} for i = 0, 255 do t[#t + 1] = string.char(i) end Send(table.concat(t))")
    equal(found.body, bytes(range(256)))


def an_empty_and_a_large_body_have_their_length(site):
    equal(site.run("").header("Content-Length"), "0")
    found = site.run("for _ = 1, 300 do Send(('x'):rep(10000)) end")
    equal((found.header("Content-Length"), len(found.body)), ("3000000", 3000000))


def a_lua_error_is_a_500_with_the_output_dropped(site):
    found = site.run("Send('half') Header('X-Half', '1')\nlocal x = nil\nx.y = 1")
    equal(found.status, 500)
    assert b"half" not in found.body and b"run1.lua" not in found.body
    equal(found.all("X-Half"), [])
    for where in (found.stderr.decode(), site.log.text()):
        assert "/run1.lua:4: attempt to index" in where and "stack traceback" in where, where
        assert "[luafcgid2" not in where, where


def error_values_of_every_kind_are_described(site):
    for raised, shown in (("'text'", b"text"), ("nil", b"nil"), ("{}", b"table"), ("42", b"42"),
                          ("setmetatable({}, {__tostring = function() return 'named' end})", b"named"),
                          ("setmetatable({}, {__tostring = function() error('x') end})", b"table")):
        found = site.run("error(%s, 0)" % raised)
        equal(found.status, 500)
        assert shown in found.stderr, (raised, found.stderr)


def the_state_serves_on_after_an_error(site):
    site.write("index.lua", "n = 0 function main() n = n + 1 if n == 2 then error('once') end Send(n) end")
    equal([site.request().status for _ in range(3)], [200, 500, 200])
    equal(site.request().body, b"4")


def show_errors_shows_message_traceback_and_source(site):
    site.configure(show_errors=True)
    found = site.run("\n-- the line before\nerror('<oops>')\n-- the line after")
    equal(found.status, 500)
    for part in (b"&lt;oops&gt;", b"run1.lua:4", b"stack traceback", b"the line before", b"the line after"):
        assert part in found.body, (part, found.body)


def a_missing_script_is_a_404_that_tells_no_path(site):
    found = site.request("missing.lua")
    equal((found.status, found.header("Content-Type")), (404, "text/plain; charset=utf-8"))
    assert site.folder.encode() not in found.body
    assert int(found.header("Content-Length")) == len(found.body) > 0
    site.configure(show_errors=True)
    assert b"missing.lua" in site.request("missing.lua").body


def head_has_the_length_and_no_body(site):
    found = site.run("Send('12345')", REQUEST_METHOD="HEAD")
    equal((found.body, found.header("Content-Length")), (b"", "5"))
    found = site.run("Header('Content-Length', '77')", REQUEST_METHOD="HEAD")
    equal((found.body, found.header("Content-Length")), (b"", "77"))
    equal(site.request("missing.lua", REQUEST_METHOD="HEAD").body, b"")


def status_204_and_304_have_no_body(site):
    for status in (204, 304):
        found = site.run("RespStatus(Response[%d]) Send('never')" % status)
        equal((found.status, found.body, found.all("Content-Length")), (status, b"", []))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("promise", list(promises(globals())))
def test_script_response(promise, version):
    check(__file__, version, promise)
