"""Authorizers, in every Lua version: what `authorize` says, in FastCGI's Authorizer role and asked by a subrequest."""
import os

import pytest
from lua_site import VERSIONS, check, equal, promises

from luafcgid2 import params

# Both ways to ask, and what stands in front of a variable's name in the answer.
ROLES = (("authorize", "Variable-"), ("request", ""))


def answers(web, body, **environment):
    """(answer, prefix) of a script whose `authorize` has this body, asked in both ways."""
    web.write("auth.lua", "function authorize(env, con)\n%s\nend" % body)
    return [(getattr(web, ask)("auth.lua", **environment), prefix) for ask, prefix in ROLES]


def statuses(web, body, **environment):
    return [found.status for found, _ in answers(web, body, **environment)]


def true_allows_and_false_denies(site):
    equal(statuses(site, "return true"), [200, 200])
    equal(statuses(site, "return 200"), [200, 200])
    equal(statuses(site, "return false"), [403, 403])


def nothing_that_a_script_forgets_allows(site):
    equal(statuses(site, ""), [403, 403])
    equal(statuses(site, "return nil"), [403, 403])
    equal(statuses(site, "Send('welcome')"), [403, 403])
    equal(statuses(site, "os.exit()"), [403, 403])
    equal(statuses(site, "os.exit(true)"), [403, 403])
    equal(statuses(site, "Reset()"), [403, 403])


def variables_of_who_is_allowed_are_headers(site):
    for found, prefix in answers(site, "return true, { REMOTE_USER = 'bob', LEVEL = 3, ADMIN = false }"):
        equal(found.status, 200)
        equal([found.header(prefix + name) for name in ("REMOTE_USER", "LEVEL", "ADMIN")], ["bob", "3", "false"])


def who_is_denied_does_not_see_variables(site):
    for result in ("false", "nil"):
        for found, _ in answers(site, "return %s, { SECRET = 'x' }, 'secret'" % result):
            equal((found.status, b"secret" in found.raw.lower()), (403, False))


def an_allowed_request_has_no_body(site):
    for found, _ in answers(site, "Send('welcome') return true"):
        equal((found.status, found.body, found.header("Content-Length")), (200, b"", "0"))


def a_status_may_have_headers_and_a_body(site):
    body = "return 401, { ['WWW-Authenticate'] = 'Basic realm=\"x\"' }, 'who are you?'"
    for found, _ in answers(site, body):
        equal((found.status, found.header("WWW-Authenticate"), found.body), (401, 'Basic realm="x"', b"who are you?"))
    for found, _ in answers(site, "return 404, 'none'"):
        equal((found.status, found.body), (404, b"none"))
    for found, _ in answers(site, "Send('sent') return 302, { Location = '/login.lua' }"):
        equal((found.status, found.header("Location"), found.body), (302, "/login.lua", b"sent"))
    found = answers(site, "return false")[0][0]
    equal((found.body, found.header("Content-Type")), (b"Status 403\n", "text/plain"))


def respstatus_and_header_say_it_too(site):
    body = "RespStatus(401) Header('WWW-Authenticate', 'Basic') Send('no')"
    for found, _ in answers(site, body) + answers(site, body + " return false") + answers(site, body + " os.exit()"):
        equal((found.status, found.header("WWW-Authenticate"), found.body), (401, "Basic", b"no"))
    equal(statuses(site, "RespStatus(200)"), [200, 200])
    equal(statuses(site, "lf.redirect('/login.lua')"), [302, 302])
    equal(statuses(site, "RespStatus(200) return false"), [403, 403])


def what_is_neither_is_an_error(site):
    for said, told in (("return 204", "204"), ("return 201, {}", "201"), ("return 100", "100"), ("return 600", "600"),
                       ("return 0/0", "none that allows"), ("return 403.5", "403.5"), ("RespStatus(206)", "206"),
                       ("return 'yes'", "a string"), ("return { USER = 'x' }", "a table"),
                       ("return true, 'bob'", "a table, not a string"), ("return 401, true", "a table, not a boolean"),
                       ("return true, { ['A B'] = '1' }", "A B"), ("return true, { 'x' }", "called 1"),
                       ("return true, { Status = '1' }", "Status"), ("return true, { location = '/' }", "location"),
                       ("return true, { A = {} }", "got table"), ("return true, { A = 'x\\r\\nB: c' }", "break"),
                       ("error('oops')", "oops"), ("error()", "nil"), ("local x = nil + 1", "arithmetic")):
        equal(statuses(site, said), [500, 500])
        assert told in site.log.lines[-1] and told in site.log.lines[-2], (said, site.log.lines[-2:])


def env_tells_the_role(site):
    roles = [found.body for found, _ in answers(site, "return 403, env.FCGI_ROLE .. tostring(env == Env)")]
    equal(roles, [b"AUTHORIZERtrue", b"RESPONDERtrue"])


def a_script_may_be_a_page_and_an_authorizer(site):
    site.write("both.lua", "function main() Send(Env.FCGI_ROLE) end\n"
                           "function authorize() return 403, 'no ' .. Env.FCGI_ROLE end")
    for _ in range(2):
        equal(site.request("both.lua").body, b"RESPONDER")
        equal(site.authorize("both.lua").body, b"no AUTHORIZER")


def a_page_allows_nothing(site):
    site.write("page.lua", "function main() Send('hello') end")
    site.write("app.lua", "return function() return 200, {}, nil end")
    for name in ("page.lua", "app.lua"):
        equal(site.request(name).status, 200)
        equal(site.authorize(name).status, 500)
        assert "defines no function 'authorize'" in site.log.lines[-1]


def an_application_may_have_a_function_of_that_name(site):
    site.write("app.lua", "function authorize() return true end\n"
                          "return function() return 200, {}, coroutine.wrap(function() coroutine.yield('app') end) end")
    equal(site.request("app.lua").body, b"app")
    site.write("named.lua", "function run() return 200, {} end function authorize() return false end")
    equal(site.request("named.lua").status, 403)


def a_main_that_comes_later_allows_nothing(site):
    site.write("late.lua", "function authorize() function main() Send('main') end return false end")
    for _ in range(3):
        equal(site.request("late.lua").status, 403)


def an_entrypoint_of_that_name_is_an_authorizer(site):
    site.configure(entrypoint="authorize")
    equal(statuses(site, "return false"), [403, 403])
    equal(statuses(site, ""), [403, 403])


def one_answer_leaves_nothing_to_the_next(site):
    site.write("turns.lua", "turn = 0 function authorize() turn = turn + 1 if turn % 2 == 1 then\n"
                            "return true, { A = turn } end Header('X-B', '1') Send('b') return 401 end")
    for turn in range(1, 7):
        found = site.authorize("turns.lua")
        if turn % 2:
            equal((found.status, found.all("Variable-A"), found.all("X-B")), (200, [str(turn)], []))
        else:
            equal((found.status, found.all("Variable-A"), found.all("X-B")), (401, [], ["1"]))


def nothing_leaves_before_it_is_known(site):
    equal(statuses(site, "RespStatus(200) Flush() con:flush() error('late')"), [500, 500])
    site.configure(max_buffer_size=1000)
    equal(statuses(site, "RespStatus(200) Send(('x'):rep(5000)) error('late')"), [500, 500])


def a_script_that_is_missing_or_does_not_load_denies(site):
    equal(site.authorize("none.lua").status, 500)
    equal(site.authorize("picture.png").status, 500)
    assert "no authorizer" in site.log.lines[-1] and "AuthorizerScript is not set" in site.log.lines[-1]
    site.write("broken.lua", "function authorize(")
    equal((site.authorize("broken.lua").status, site.request("broken.lua").status), (500, 500))
    equal(site.authorize("none.lua", SCRIPT_FILENAME=None, DOCUMENT_ROOT=None).status, 500)


def one_script_authorizes_whatever_is_asked_for(site):
    script = site.write("private/auth.lua", "function authorize(env) return 401, {}, env.SCRIPT_FILENAME end")
    site.configure(authorizer_script=script)
    site.write("a.lua", "function authorize() return true end")
    for name in ("a.lua", "picture.png", "none/", "private/auth.lua", "a.lua"):
        found = site.authorize(name)
        equal((found.status, found.body.decode()), (401, os.path.join(site.folder, name)))
    equal(site.request("a.lua").status, 200)
    os.remove(script)
    equal(site.authorize("a.lua").status, 500)
    assert script in site.log.lines[-1]
    equal(site.log.scripts[-1], script)


def a_header_that_looks_like_a_script_changes_nothing(site):
    site.write("no.lua", "function authorize(env) return 403, env.SCRIPT_FILENAME end")
    other = site.write("yes.lua", "function authorize() return true end")
    forged = params.encode({"SCRIPT_FILENAME": other, "DOCUMENT_ROOT": site.folder})
    for _ in range(3):
        equal(site.authorize("yes.lua").status, 200)
        # In front of the pairs of the web server.
        found = site.authorize("no.lua", first={"HTTP_X": forged})
        equal((found.status, found.body), (403, os.path.join(site.folder, "no.lua").encode()))


def hooks_do_not_allow_by_ending_a_request(site):
    startup = site.write("startup.lua", "function BeforeRequest(env)\n"
                                        "if env.QUERY_STRING == 'end' then return true end\n"
                                        "if env.QUERY_STRING == 'exit' then os.exit() end end")
    site.configure(startup_script=startup)
    equal(statuses(site, "return true"), [200, 200])
    equal(statuses(site, "return true", QUERY_STRING="end"), [403, 403])
    equal(statuses(site, "return true", QUERY_STRING="exit"), [403, 403])


def no_default_status_allows(site):
    for status in ("200 OK", "204 No Content", "404 Not Found"):
        site.configure(default_http_status=status)
        equal(statuses(site, ""), [403, 403])
        equal(statuses(site, "return true"), [200, 200])


def an_error_page_does_not_allow(site):
    script = site.write("error.lua", "function main(env) RespStatus(204) end")
    site.configure(error_script=script)
    equal(statuses(site, "error('x')"), [500, 500])
    equal(site.authorize("none.lua").status, 500)


def a_request_that_was_refused_is_not_allowed(site):
    site.write("yes.lua", "function authorize() return true end")
    equal(site.authorize("yes.lua", problem=431).status, 431)


def an_authorizer_knows_the_session_of_who_asks(site):
    site.write("login.lua", "function main() Session.SetVar('login', 'user', 'bob') end")
    site.write("auth.lua", "function authorize() local user = Session.GetVar('login', 'user')\n"
                           "return user ~= nil, { USER = user } end")
    cookie = site.request("login.lua").header("Set-Cookie").partition(";")[0]
    equal(site.authorize("auth.lua", HTTP_COOKIE=cookie).header("Variable-USER"), "bob")
    equal(site.authorize("auth.lua").status, 403)


def memory_that_runs_out_denies(site):
    if site.engine.version == "jit":
        return
    site.configure(script_max_memory=2 << 20)
    body = "local t = {} for i = 1, 1e7 do t[i] = { i } end return true"
    equal(statuses(site, body), [500, 500])
    equal(statuses(site, "return true"), [200, 200])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", promises(globals()))
def test_authorizer(version, name):
    check(__file__, version, name)
