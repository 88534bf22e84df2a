"""The global `Session` as scripts see it, in every Lua version, down to the SQLite file."""
import os
import re

import pytest
from lua_site import VERSIONS, check, equal, promises

COOKIE = re.compile(r"XLuaSession=([A-Za-z0-9_]{24}); Expires=[^;]+ GMT; HttpOnly; Secure; Path=/")


def key_of(answer):
    """The session key in the answer's one cookie."""
    return COOKIE.fullmatch(answer.header("Set-Cookie")).group(1)


def jar(key):
    return {"HTTP_COOKIE": "a=b; XLuaSession=%s; c=d" % key}


def keep(where, value):
    """Stores the Lua expression `value`; the key of its session."""
    found = where.run("assert(Session.SetVar('r', 'k', %s) == true)" % value)
    equal(found.status, 200)
    return key_of(found)


def refused(where, code, *words):
    """The script fails, and the log says why."""
    equal(where.run(code).status, 500)
    for word in words:
        assert word in where.log.text(), where.log.text()


# Values

def values_survive_as_they_are(site):
    for value in ("'text'", "''", "true", "false", "5", "-7", "5.0", "0.1", "-0.5e-300", "2^53", "1/0", "-1/0"):
        key = keep(site, value)
        equal(site.value("type(Session.GetVar('r', 'k')) .. tostring(Session.GetVar('r', 'k'))", **jar(key)),
              site.value("type(%s) .. tostring(%s)" % (value, value)))


def values_are_equal_to_what_was_stored(site):
    for value in ("0.1", "1/3", "2^53", "2^53 - 1", "-2^60", "1e308", "5e-324", "123456789012345", "3.25"):
        key = keep(site, value)
        equal(site.value("Session.GetVar('r', 'k') == %s" % value, **jar(key)), "true")
    key = keep(site, "-0.0")
    equal(site.value("1 / Session.GetVar('r', 'k') < 0", **jar(key)), "true")
    key = keep(site, "0/0")
    equal(site.value("Session.GetVar('r', 'k') ~= Session.GetVar('r', 'k')", **jar(key)), "true")


def all_integers_survive_where_lua_has_them(site):
    if site.value("tostring(math.type)") == "nil":
        return
    for value in ("math.maxinteger", "math.mininteger", "0", "-1"):
        key = keep(site, value)
        equal(site.value("Session.GetVar('r', 'k') == %s and math.type(Session.GetVar('r', 'k'))" % value,
                         **jar(key)), "integer")
    key = keep(site, "2^53")
    equal(site.value("math.type(Session.GetVar('r', 'k'))", **jar(key)), "float")


def any_byte_survives_in_realm_key_and_value(site):
    every = "(function() local t = {} for i = 0, 255 do t[#t + 1] = string.char(i) end return table.concat(t) end)()"
    key = key_of(site.run("local s = %s Session.SetVar(s, s, s)" % every))
    equal(site.value("Session.GetVar(%s, %s) == %s" % (every, every, every), **jar(key)), "true")
    equal(site.value("Session.GetAll(%s)[%s] == %s" % (every, every, every), **jar(key)), "true")


def tables_survive_with_their_nesting(site):
    key = keep(site, "{ 1, 'two', { deep = { true, [false] = 'f', [1.5] = {} } }, [''] = '', n = -1 }")
    found = site.value(
        "(function() local t = Session.GetVar('r', 'k') local d = t[3].deep "
        "return table.concat({ #t, t[1], t[2], tostring(d[1]), d[false], type(d[1.5]), "
        "tostring(next(d[1.5])), t[''], t.n }, ',') end)()", **jar(key))
    equal(found, "3,1,two,true,f,table,nil,,-1")


def a_table_twice_in_a_value_becomes_two(site):
    key = key_of(site.run("local t = { 1 } Session.SetVar('r', 'k', { a = t, b = t })"))
    equal(site.value("(function() local t = Session.GetVar('r', 'k') return t.a[1] + t.b[1] end)()", **jar(key)), "2")
    equal(site.value("(function() local t = Session.GetVar('r', 'k') return t.a ~= t.b end)()", **jar(key)), "true")


def what_was_read_is_a_copy(site):
    key = keep(site, "{ 1 }")
    equal(site.value("(function() Session.GetVar('r', 'k')[1] = 2 return Session.GetVar('r', 'k')[1] end)()",
                     **jar(key)), "1")


def stored_text_is_never_run(site):
    key = keep(site, "'}; error(1) --'")
    equal(site.value("Session.GetVar('r', 'k')", **jar(key)), "}; error(1) --")


def metatables_are_not_asked(site):
    key = keep(site, "setmetatable({ 1 }, { __index = error, __pairs = error, __len = error, __newindex = error })")
    equal(site.value("Session.GetVar('r', 'k')[1]", **jar(key)), "1")


def what_cannot_be_stored_is_refused_with_false_and_erases_nothing(site):
    key = keep(site, "'old'")
    for value in ("print", "function() end", "coroutine.create(print)", "io.stdout", "{ f = print }",
                  "{ { { print } } }", "{ [{}] = 1 }", "{ [print] = 1 }"):
        found = site.run("local ok, why = Session.SetVar('r', 'k', %s) "
                         "Send(tostring(ok) .. ' ' .. why .. ' ' .. Session.GetVar('r', 'k'))" % value, **jar(key))
        assert re.fullmatch(rb"false .*cannot be stored old", found.body), found.body
    found = site.run("Send(select(2, Session.SetVar('r', 'k', { cart = { print } })))")
    equal(found.body, b"cart: 1: a function cannot be stored")
    equal(found.all("Set-Cookie"), [])


def a_cycle_is_an_error_at_the_scripts_line(site):
    refused(site, "local t = {} t.me = { t }\nSession.SetVar('r', 'k', t)",
            ".lua:3: ", "r/k", "me: 1: a table that contains itself")


def nesting_without_end_is_an_error(site):
    refused(site, "local t = {} for i = 1, 200 do t = { t } end Session.SetVar('r', 'k', t)", "nested over 100")
    equal(site.run("local t = {} for i = 1, 99 do t = { t } end Session.SetVar('r', 'k', t) "
                   "assert(Session.GetVar('r', 'k'))").status, 200)


def a_table_that_grows_without_end_when_written_out_is_an_error(site):
    refused(site, "local t = { 1 } for i = 1, 60 do t = { t, t } end Session.SetVar('r', 'k', t)", "as large as this")


# The ancestor's six

def a_miss_is_nil(site):
    equal(site.run("Send(select('#', Session.GetVar('r', 'k')))").body, b"1")
    equal(site.value("Session.GetVar('r', 'k')"), "nil")
    equal(site.run("Session.GetVar('r', 'k')").all("Set-Cookie"), [])


def start_alone_makes_a_session(site):
    key = key_of(site.run("Session.Start()"))
    equal(site.value("Session.Id()", **jar(key)), key)


def nil_erases_and_the_realm_stays(site):
    key = keep(site, "1")
    equal(site.value("Session.SetVar('r', 'k', nil)", **jar(key)), "true")
    equal(site.value("tostring(Session.GetVar('r', 'k')) .. tostring(Session.HasRealm('r'))", **jar(key)), "niltrue")


def clear_and_has_realm_work_over_requests(site):
    key = key_of(site.run("Session.SetVar('a', 'k', 1) Session.SetVar('b', 'k', 2)"))
    equal(site.run("Session.Clear('a')", **jar(key)).status, 200)
    equal(site.value("tostring(Session.HasRealm('a')) .. tostring(Session.GetVar('a', 'k')) .. "
                     "Session.GetVar('*', 'k')", **jar(key)), "truenil2")
    site.run("Session.Clear('*')", **jar(key))
    equal(site.value("Session.HasRealm('b')", **jar(key)), "false")


def delete_sends_the_deletion_cookie(site):
    key = keep(site, "1")
    equal(site.run("Session.Delete()", **jar(key)).header("Set-Cookie"),
          "XLuaSession=_; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Secure; Path=/")
    equal(site.value("Session.GetVar('r', 'k')", **jar(key)), "nil")


def realm_and_key_may_be_numbers_and_nothing_else(site):
    key = key_of(site.run("Session.SetVar(1, 2, 'x')"))
    equal(site.value("Session.GetVar('1', '2')", **jar(key)), "x")
    refused(site, "Session.GetVar(nil, 'k')", "bad argument #1 to 'Session.GetVar' (string expected, got nil)")
    refused(site, "Session.SetVar('r', {}, 1)", "bad argument #2 to 'Session.SetVar' (string expected, got table)")
    refused(site, "\n\nSession.HasRealm()", ".lua:4: bad argument #1 to 'Session.HasRealm'")
    refused(site, "Session.Clear(true)", "bad argument #1 to 'Session.Clear'")
    refused(site, "Session.GetAll()", "bad argument #1 to 'Session.GetAll'")


# Beyond the ancestors

def id_is_nil_without_a_session(site):
    equal(site.value("Session.Id()"), "nil")


def regenerate_gives_a_new_key_and_the_old_one_is_dead(site):
    old = keep(site, "'mine'")
    found = site.run("Send(Session.Regenerate())", **jar(old))
    new = found.body.decode()
    assert new != old
    equal(key_of(found), new)
    equal(site.value("Session.GetVar('r', 'k')", **jar(new)), "mine")
    equal(site.value("Session.GetVar('r', 'k')", **jar(old)), "nil")
    equal(site.value("Session.Regenerate()"), "nil")


def get_all_gives_a_table_always(site):
    key = key_of(site.run("Session.SetVar('a', 'x', { 1 }) Session.SetVar('a', 'y', 2) Session.SetVar('b', 'z', 's')"))
    equal(site.value("Session.GetAll('a').x[1] + Session.GetAll('a').y", **jar(key)), "3")
    equal(site.value("Session.GetAll('*').b.z .. Session.GetAll('*').a.y", **jar(key)), "s2")
    equal(site.value("next(Session.GetAll('none'))", **jar(key)), "nil")
    equal(site.value("next(Session.GetAll('a'))"), "nil")


# Requests

def the_next_request_on_a_state_has_its_own_session(site):
    site.write("count.lua", "function main() local n = (Session.GetVar('r', 'n') or 0) + 1 "
               "Session.SetVar('r', 'n', n) Send(n) end")
    first, second = site.request("count.lua"), site.request("count.lua")
    assert key_of(first) != key_of(second)
    equal([site.request("count.lua", **jar(key_of(first))).body for _ in range(3)], [b"2", b"3", b"4"])
    equal(site.request("count.lua", **jar(key_of(second))).body, b"2")
    equal(site.request("count.lua").body, b"1")


def a_script_that_fails_stores_nothing(site):
    key = keep(site, "'old'")
    equal(site.run("Session.SetVar('r', 'k', 'new') error('no')", **jar(key)).status, 500)
    equal(site.value("Session.GetVar('r', 'k')", **jar(key)), "old")


def os_exit_stores_what_was_set(site):
    key = keep(site, "'old'")
    equal(site.run("Session.SetVar('r', 'k', 'new') os.exit()", **jar(key)).status, 200)
    equal(site.value("Session.GetVar('r', 'k')", **jar(key)), "new")


def a_stolen_cookie_does_not_pass(site):
    key = keep(site, "'mine'")
    other = dict(jar(key), REMOTE_ADDR="198.51.100.1", HTTP_USER_AGENT="Robot", HTTP_ACCEPT_LANGUAGE="en")
    found = site.run("Send(tostring(Session.GetVar('r', 'k')))", **other)
    equal(found.body, b"nil")
    assert found.header("Set-Cookie").startswith("XLuaSession=_;")
    equal(site.value("Session.GetVar('r', 'k')", **jar(key)), "mine")


def a_request_that_does_not_touch_session_sets_no_cookie_and_opens_no_store(site):
    equal(site.run("Send('x')", **jar("x" * 24)).all("Set-Cookie"), [])
    assert not os.path.exists(os.path.join(site.folder, "state.db"))


def an_unusable_store_fails_those_who_use_it_and_no_others(site):
    site.write("file", "in the way")
    site.configure(session_store="sqlite://%s/file/state.db" % site.folder)
    equal(site.run("Send('x')").status, 200)
    refused(site, "Session.SetVar('r', 'k', 1)", "file/state.db")
    equal(site.run("Session.GetVar('r', 'k')", **jar("x" * 24)).status, 500)


def top_level_code_has_no_session(site):
    site.write("top.lua", "Session.Start()\nfunction main() end")
    equal(site.request("top.lua").status, 500)
    assert "top.lua:1: Session.Start: there is no request" in site.log.text()


def a_changed_library_or_session_table_does_not_break_session(site):
    site.write("odd.lua", "string.format, tostring, next, type, error, pairs = nil\nSession.Start = nil\n"
               "function main() Session.SetVar('r', 'k', { a = 1.5 }) Send(Session.GetVar('r', 'k').a) end")
    equal(site.request("odd.lua").body, b"1.5")
    equal(site.run("Session.Start()").status, 200)


# The module alone

HARNESS = b"""
local codes, loaded, host, calls = {}, {}, { settings = { session_name = "sid" }, now = {} }, {}
local load = loadstring or load
local function import(name)
  loaded[name] = loaded[name] or load(codes[name])(import, host)
  return loaded[name]
end
local answers = { session_get = "damaged" }
local names = { "open", "start", "has_realm", "delete", "clear", "set", "get", "get_all", "id", "regenerate", "commit" }
for _, name in ipairs(names) do
  host["session_" .. name] = function(...) calls[#calls + 1] = name return answers["session_" .. name] end
end
return function(values, session)
  codes.values, codes.session = values, session
  local globals, module = {}, import("session")
  module.install(globals)
  function module.begin(env, cookies) host.now.env, host.now.cookies = env, cookies end
  return globals, module, import("values"), calls
end
"""


def modules(where):
    """A bare runtime with (Session, the module, values.lua, the list of host calls)."""
    prelude = dict(where.engine.prelude())
    runtime = where.engine.new_runtime()
    return (runtime,) + runtime.execute(HARNESS)(prelude[b"values"], prelude[b"session"])


def an_untouched_request_calls_nothing(site):
    runtime, face, module, _, calls = modules(site)
    module[b"begin"](runtime.table(), runtime.table())
    equal(module[b"finish"](), None)
    equal(len(calls), 0)
    face[b"Start"]()
    equal(module[b"finish"](), None)
    equal(list(calls.values()), [b"open", b"start", b"commit"])
    module[b"begin"](runtime.table(), runtime.table())
    equal(module[b"finish"](), None)
    equal(len(calls), 3)


def damaged_values_are_an_error_and_never_a_crash(site):
    runtime, _, _, values, _ = modules(site)
    whole = values[b"encode"](runtime.eval(b"{ a = { 1, 2.5, true }, ['\\0'] = 'text' }"))
    decode = runtime.eval(b"function(decode, text) local ok, why = pcall(decode, text) return ok, why end")
    equal(decode(values[b"decode"], whole)[0], True)
    for broken in [whole[:size] for size in range(len(whole))] + [
            b"damaged", b"s9:abc", b"s:", b"s-1:", b"i;", b"ix;", b"d", b"{", b"}", b"{i1;", b"{i1;}", b"tt", b"?",
            b"{dnan;t}", b"{" * 50, b"s99999999999999999999:x", whole + b"t"]:
        ok, why = decode(values[b"decode"], broken)
        assert not ok and isinstance(why, bytes), broken


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", promises(globals()))
def test_session_promise(name, version):
    check(__file__, version, name)
