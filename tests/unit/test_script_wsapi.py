"""WSAPI 1.x applications, and the hooks of a StartupScript, in every Lua version."""
import io

import pytest
from lua_site import VERSIONS, check, equal, promises

HELLO = """
local function run(env)
  local function hello() coroutine.yield("Hello ") coroutine.yield(env.SCRIPT_NAME) end
  return 200, { ["Content-Type"] = "text/plain" }, coroutine.wrap(hello)
end
"""


def body_of(web, source, name="app.lua", **request):
    """What the application `source` gives as its body."""
    web.write(name, source)
    found = web.request(name, **request)
    assert found.status == 200, web.log.text()
    return found.body


def application(body, result="200, {}, nil"):
    """An application that runs `body`, and returns `result`."""
    return "return function(env)\n%s\nreturn %s\nend" % (body, result)


def said(expression):
    """An application whose body is `tostring(expression)`."""
    return application("local value, done = tostring((%s)), false" % expression,
                       "200, {}, function() if not done then done = true return value end end")


def a_function_a_table_with_run_and_a_global_run_are_applications(site):
    for end in ("return run", "return { run = run }", "_G.run = run",
                "return setmetatable({}, { __call = function(_, env) return run(env) end })",
                "return setmetatable({}, { __index = { run = run } })"):
        equal(body_of(site, HELLO + end), b"Hello /app.lua")


def a_launcher_returns_what_it_requires(site):
    site.configure(script_extensions=(".lua", ".ws"))
    site.write("hello.lua", HELLO + "return { run = run }")
    equal(body_of(site, "#!/usr/bin/env wsapi.cgi\n\nreturn require 'hello'", "hello.ws"), b"Hello /hello.ws")


def a_module_of_lua_5_1_is_an_application(site):
    if site.engine.version not in ("5.1", "jit"):
        return
    for call in ("module(..., package.seeall)", "module('another', package.seeall)"):
        equal(body_of(site, call + HELLO.replace("local ", "", 1)), b"Hello /app.lua")
    equal(site.value("pcall(module)"), "false")


def a_script_with_an_entry_point_stays_what_it_is(site):
    equal(body_of(site, "function main() Send('main') end\nfunction run() error('ran') end\nreturn run"), b"main")
    site.configure(entrypoint="handle")
    equal(body_of(site, "function handle() Send('handle') end\nreturn function() error('ran') end"), b"handle")


def what_is_neither_is_an_error_that_says_so(site):
    for source in ("", "return 5", "run = 5", "return { run = 5 }", "return 'text'", "os.exit()"):
        site.write("app.lua", source)
        equal(site.request("app.lua").status, 500)
        assert "WSAPI" in site.log.lines[-1] and "'main'" in site.log.lines[-1], site.log.lines[-1]


def variables_that_are_absent_are_empty_strings(site):
    equal(body_of(site, said("env.NO_SUCH .. '|' .. env.REQUEST_METHOD .. '|' .. env.HTTP_X"), HTTP_X="x"), b"|GET|x")


def path_info_is_a_slash_when_empty_and_never_begins_with_the_scripts_name(site):
    for given, expected in ((None, b"/"), ("", b"/"), ("/a/b", b"/a/b"), ("/app.lua/a", b"/a"), ("/app.lua", b"/")):
        equal(body_of(site, said("env.PATH_INFO"), PATH_INFO=given), expected)


def the_application_is_told_where_it_is(site):
    equal(body_of(site, said("env.APP_PATH .. '|' .. env.PATH_TRANSLATED"), "sub/app.lua").decode(),
          "%s/sub|%s/sub/app.lua" % (site.folder, site.folder))
    equal(body_of(site, "local wsapi = require 'wsapi'\n" + said("wsapi.app_path"), "sub/b.lua").decode(),
          site.folder + "/sub")


def the_input_is_read_in_pieces_and_ends_with_nil(site):
    read = "(env.input:read(2) .. '|' .. env.input:read(3) .. '|' .. env.input:read() .. '|' .. " \
           "tostring(env.input:read(1)) .. '|' .. env.input.length)"
    for body in (b"abcdefgh", io.BytesIO(b"abcdefgh")):
        equal(body_of(site, said(read), body=body, CONTENT_LENGTH="8", REQUEST_METHOD="POST"), b"ab|cde|fgh|nil|8")
    equal(body_of(site, said("env.input:read(10)")), b"nil")
    equal(body_of(site, said("env.input:read()")), b"nil")


def what_goes_to_error_is_logged_by_lines(site):
    body_of(site, application("env.error:write('one ', 2) env.error:write(' three\\n') env.error:write('rest')"))
    equal(site.log.lines, ["one 2 three", "rest"])


def the_status_is_a_number_a_code_or_a_line(site):
    for given, status, reason in (("404", 404, "Not Found"), ("'404'", 404, "Not Found"), ("'299 Mine'", 299, "Mine"),
                                  ("200.0", 200, "OK"), ("'200 Ok'", 200, "Ok"), ("nil", 500, "Internal Server Error")):
        site.write("app.lua", application("", given + ", {}, nil"))
        found = site.request("app.lua")
        equal((found.status, found.reason), (status, reason))


def a_header_may_have_several_values(site):
    site.write("app.lua", application("", "200, { ['Set-Cookie'] = { 'a=1', 'b=2' }, ['X-N'] = 5, "
                                          "['Content-Type'] = 'text/x' }, nil"))
    found = site.request("app.lua")
    equal(found.all("Set-Cookie"), ["a=1", "b=2"])
    equal((found.header("X-N"), found.header("Content-Type")), ("5", "text/x"))


def a_header_with_a_line_break_is_refused(site):
    site.write("app.lua", application("", "200, { ['X-A'] = 'a\\r\\nX-B: b' }, nil"))
    equal(site.request("app.lua").status, 500)


def a_redirect_needs_no_body(site):
    site.write("app.lua", application("", "302, { Location = '/there', ['Content-Length'] = 0 }"))
    found = site.request("app.lua")
    equal((found.status, found.header("Location"), found.header("Content-Length"), found.body),
          (302, "/there", "0", b""))


def errors_of_the_application_and_of_its_iterator_are_500_with_the_traceback(site):
    for source in (application("error('broken')"), application("", "200, {}, function() error('broken') end"),
                   application("", "200, {}, 'broken'"), application("", "'broken', {}, nil")):
        site.write("app.lua", source)
        found = site.request("app.lua")
        equal(found.status, 500)
        assert b"broken" in found.stderr or b"string where its iterator" in found.stderr, found.stderr
    assert b"luafcgid2" not in found.stderr


def head_has_the_length_and_no_body(site):
    site.write("app.lua", HELLO + "return run")
    found = site.request("app.lua", REQUEST_METHOD="HEAD")
    equal((found.header("Content-Length"), found.body), ("14", b""))


def sessions_and_os_exit_work_inside(site):
    site.configure(session_cookie_secure=False)
    site.write("app.lua", application("Session.Start() Session.SetVar('r', 'k', 5)"))
    equal(len(site.request("app.lua").all("Set-Cookie")), 1)
    site.write("app.lua", application("Send('left') os.exit()"))
    equal(site.request("app.lua").body, b"left")


def one_request_does_not_see_another(site):
    site.write("app.lua", application("seen = (seen or '') .. env.HTTP_A", "200, {}, nil"))
    site.write("app.lua", "local last\n" + said("(function() local before = last last = env "
                                                "return tostring(before == env) .. env.HTTP_A end)()"))
    equal(site.request("app.lua", HTTP_A="a").body, b"falsea")
    equal(site.request("app.lua").body, b"false")


def hooks(web, startup, script="function main() Send('page') end", **request):
    """The answer of `script` under a StartupScript."""
    web.configure(startup_script=web.write("startup.lua", startup))
    web.write("index.lua", script)
    return web.request(**request)


def before_request_runs_first_and_may_answer_itself(site):
    startup = "function BeforeRequest(env, con)\n" \
              "  if env.QUERY_STRING == 'no' then RespStatus(403) con:puts('refused') return true end\n" \
              "  Send('first ')\nend"
    equal(hooks(site, startup).body, b"first page")
    found = site.request(QUERY_STRING="no")
    equal((found.status, found.body), (403, b"refused"))


def os_exit_in_before_request_is_an_answer(site):
    equal(hooks(site, "function BeforeRequest() Send('all') os.exit() end").body, b"all")


def after_request_gets_the_status_also_of_failures(site):
    startup = "function AfterRequest(env, status) Log(env.SCRIPT_NAME .. ' ' .. status) end"
    equal(hooks(site, startup, "function main() RespStatus(404) end").status, 404)
    equal(site.log.lines[-1], "/index.lua 404")
    equal(hooks(site, startup, "function main() error('broken') end").status, 500)
    assert "/index.lua 500" in site.log.lines and "broken" in site.log.lines[-1], site.log.lines


def hooks_that_fail_are_500_with_their_traceback(site):
    for name in ("BeforeRequest", "AfterRequest"):
        found = hooks(site, "function %s()\n error('hook') end" % name)
        equal(found.status, 500)
        assert b"/startup.lua:2: hook" in found.stderr, found.stderr
    found = hooks(site, "function AfterRequest() error('hook') end", "function main() error('first') end")
    assert b"first" in found.stderr and "AfterRequest: " in site.log.text() and "hook" in site.log.text()


def hooks_serve_wsapi_applications_too(site):
    found = hooks(site, "function BeforeRequest() Header('X-Before', 'yes') end\n"
                        "function AfterRequest(_, status) Header('X-After', status) end",
                  application("", "404, {}, nil"))
    equal((found.status, found.header("X-Before"), found.header("X-After")), (404, "yes", "404"))


def a_script_cannot_define_hooks(site):
    equal(hooks(site, "", "function BeforeRequest() Send('no') end function main() Send('page') end").body, b"page")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("promise", list(promises(globals())))
def test_script_wsapi(promise, version):
    check(__file__, version, promise)
