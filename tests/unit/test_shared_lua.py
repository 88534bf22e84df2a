"""The global `Shared` as scripts see it, in every Lua version, down to the SQLite file."""
import os
import time

import pytest
from lua_site import VERSIONS, check, equal, promises

EVERY = "(function() local t = {} for i = 0, 255 do t[#t + 1] = string.char(i) end return table.concat(t) end)()"


def fails(where, code, *words):
    """The script fails, and the log says why, at the script's line (the second)."""
    found = where.run(code)
    equal(found.status, 500)
    lines = [line for line in where.log.lines if all(word in line for word in words)]
    assert lines and ".lua:2: " in lines[-1], where.log.text()


def entries(where, expression="Shared.Keys('')"):
    """The keys as sorted text."""
    return where.value("(function() local k = %s table.sort(k) return table.concat(k, ' ') end)()" % expression)


# Values

def values_come_back_as_they_were(site):
    for value in ("'text'", "''", "true", "false", "5", "-7", "5.0", "0.0", "0.1", "-0.5e-300", "2^53", "2^62", "2^70",
                  "1/0", "-1/0", "1e308", "5e-324", EVERY):
        equal(site.value("Shared.Set('k', %s)" % value), "true")
        equal(site.value("type(Shared.Get('k')) .. tostring(Shared.Get('k'))"),
              site.value("type(%s) .. tostring(%s)" % (value, value)))
        equal(site.value("Shared.Get('k') == %s" % value), "true")
    equal(site.value("Shared.Set('k', 0/0) and Shared.Get('k') ~= Shared.Get('k')"), "true")


def all_integers_come_back_where_lua_has_them(site):
    if site.value("tostring(math.type)") == "nil":
        return
    for value in ("math.maxinteger", "math.mininteger", "0", "2^53 // 1 | 0"):
        equal(site.value("Shared.Set('k', %s) and math.type(Shared.Get('k')) .. tostring(Shared.Get('k') == %s)"
                         % (value, value)), "integertrue")
    equal(site.value("Shared.Set('k', 2^53) and math.type(Shared.Get('k'))"), "float")


def tables_come_back_with_their_nesting(site):
    equal(site.value("Shared.Set('k', { 1, 'two', { deep = { true, [1.5] = {} } }, n = -1 })"), "true")
    equal(site.value("(function() local t = Shared.Get('k') return table.concat({ #t, t[1], t[2], "
                     "tostring(t[3].deep[1]), type(t[3].deep[1.5]), t.n }, ',') end)()"), "3,1,two,true,table,-1")


def a_key_may_be_any_string_or_a_number(site):
    equal(site.value("Shared.Set(%s, 'x') and Shared.Get(%s)" % (EVERY, EVERY)), "x")
    equal(site.value("Shared.Set(7, 'seven') and Shared.Get('7')"), "seven")
    equal(site.value("Shared.Set('', 'empty') and Shared.Get('')"), "empty")


def a_miss_is_nil_and_false_is_not_a_miss(site):
    equal(site.value("select('#', Shared.Get('nothing')) .. tostring(Shared.Get('nothing'))"), "1nil")
    equal(site.value("Shared.Set('no', false) and Shared.Get('no')"), "false")


def storing_nil_deletes(site):
    equal(site.value("Shared.Set('k', 1) and Shared.Set('k', nil)"), "true")
    equal(site.value("Shared.Get('k')"), "nil")
    equal(site.value("Shared.Set('k')"), "true")


def add_stores_only_where_nothing_is(site):
    equal(site.value("Shared.Add('k', 1)"), "true")
    equal(site.run("local ok, why = Shared.Add('k', 2) Send(tostring(ok) .. why)").body, b"falseexists")
    equal(site.value("Shared.Get('k')"), "1")


def delete_says_whether_there_was_one(site):
    equal(site.value("Shared.Set('k', 1) and tostring(Shared.Delete('k')) .. tostring(Shared.Delete('k'))"),
          "truefalse")


# Counting

def incr_counts_by_one_or_as_told(site):
    equal(site.value("table.concat({ Shared.Incr('n', 1, 0), Shared.Incr('n'), Shared.Incr('n', -5), "
                     "Shared.Incr('n', 3, 100) }, ' ')"), "1 2 -3 0")
    equal(site.value("Shared.Get('n')"), "0")
    equal(site.value("Shared.Incr('half', 0.5, 10)"), "10.5")
    equal(site.value("Shared.Set('set', 41) and Shared.Incr('set')"), "42")


def incr_of_nothing_without_init_is_nil(site):
    equal(site.run("local sum, why = Shared.Incr('n', 1) Send(tostring(sum) .. why)").body, b"nilnot found")
    equal(site.value("Shared.Get('n')"), "nil")


def integers_stay_integers_and_floats_floats(site):
    if site.value("tostring(math.type)") == "nil":
        return
    equal(site.value("math.type(Shared.Incr('n', 1, 0))"), "integer")
    equal(site.value("math.type(Shared.Incr('n', 1.0))"), "float")
    equal(site.value("Shared.Set('max', math.maxinteger - 1) and Shared.Incr('max') == math.maxinteger"), "true")


def incr_of_what_is_no_number_is_an_error_that_names_the_key(site):
    for value in ("'5'", "true", "{ 1 }", "1/0"):
        equal(site.value("Shared.Set('a key', %s)" % value), "true")
        fails(site, "Shared.Incr('a key', 1, 0)", 'Shared.Incr: the value of "a key" is not a number')
    if site.value("tostring(math.type)") != "nil":
        equal(site.value("Shared.Set('max', math.maxinteger)"), "true")
        fails(site, "Shared.Incr('max')", 'Shared.Incr: the number of "max" would become too large')


# Time

def an_entry_goes_when_its_time_is_over(site):
    equal(site.value("Shared.Set('set', 1, 0.1) and Shared.Add('add', 1, 0.1) and Shared.Incr('incr', 1, 0, 0.1)"), "1")
    equal(site.value("Shared.Set('stays', 1)"), "true")
    end = time.monotonic() + 10
    while entries(site) != "stays" and time.monotonic() < end:
        time.sleep(0.01)
    equal(entries(site), "stays")
    equal(site.value("Shared.Get('set')"), "nil")


def ttl_is_what_is_left_or_0_for_ever_or_nil(site):
    equal(site.value("Shared.Set('k', 1, 100) and Shared.Ttl('k') > 90 and Shared.Ttl('k') <= 100"), "true")
    for ttl in ("nil", "0", "0.0", "1e300", "1/0"):
        equal(site.value("Shared.Set('k', 1, %s) and Shared.Ttl('k') == 0" % ttl), "true")
    equal(site.value("Shared.Set('k', 1, 1e-9) and (Shared.Ttl('k') or 0) <= 0.001"), "true")
    equal(site.run("local left, why = Shared.Ttl('nothing') Send(tostring(left) .. why)").body, b"nilnot found")


# Keys

def keys_lists_by_prefix_and_number(site):
    equal(site.run("for i = 1, 1100 do Shared.Set('k' .. i, i) end Shared.Set('other', 1)").status, 200)
    equal(entries(site, "Shared.Keys('k109')"), "k109 k1090 k1091 k1092 k1093 k1094 k1095 k1096 k1097 k1098 k1099")
    equal(entries(site, "Shared.Keys('other')"), "other")
    for call, count in (("", 1024), ("nil", 1024), ("''", 1024), ("'k', 5", 5), ("'k', 0", 1100), ("nil, 0", 1101),
                        ("nil, 1/0", 1101), ("'z'", 0)):
        equal(site.value("#Shared.Keys(%s)" % call), str(count))


# Errors

def wrong_types_are_errors_at_the_scripts_line(site):
    for code, words in (
            ("Shared.Get()", "bad argument #1 to 'Shared.Get' (string expected, got nil)"),
            ("Shared.Get({})", "bad argument #1 to 'Shared.Get' (string expected, got table)"),
            ("Shared.Set(true, 1)", "bad argument #1 to 'Shared.Set' (string expected, got boolean)"),
            ("Shared.Set('k', 1, -1)", "bad argument #3 to 'Shared.Set' (number of 0 or more expected, got -1"),
            ("Shared.Set('k', 1, 0/0)", "bad argument #3 to 'Shared.Set' (number of 0 or more expected, got "),
            ("Shared.Set('k', 1, '5')", "bad argument #3 to 'Shared.Set' (number of 0 or more expected, got string)"),
            ("Shared.Add('k', 1, {})", "bad argument #3 to 'Shared.Add' (number of 0 or more expected, got table)"),
            ("Shared.Incr('k', '1')", "bad argument #2 to 'Shared.Incr' (finite number expected, got string)"),
            ("Shared.Incr('k', 1/0)", "bad argument #2 to 'Shared.Incr' (finite number expected, got inf)"),
            ("Shared.Incr('k', 1, true)", "bad argument #3 to 'Shared.Incr' (finite number expected, got boolean)"),
            ("Shared.Incr('k', 1, 0, -1)", "bad argument #4 to 'Shared.Incr' (number of 0 or more expected, got -1"),
            ("Shared.Delete()", "bad argument #1 to 'Shared.Delete' (string expected, got nil)"),
            ("Shared.Keys({})", "bad argument #1 to 'Shared.Keys' (string expected, got table)"),
            ("Shared.Keys('', 'x')", "bad argument #2 to 'Shared.Keys' (number of 0 or more expected, got string)"),
            ("Shared.Ttl(print)", "bad argument #1 to 'Shared.Ttl' (string expected, got function)"),
            ("Shared.Set('k', print)", "Shared.Set: k: a function cannot be stored"),
            ("Shared.Add('k', nil)", "Shared.Add: k: a nil cannot be stored"),
            ("Shared.Set('k', { a = { b = print } })", "Shared.Set: k: a: b: a function cannot be stored"),
            ("local t = {} t.t = t Shared.Set('k', t)", "Shared.Set: k: t: a table that contains itself")):
        fails(site, code, words)
    equal(entries(site), "")


def what_is_larger_than_the_bound_is_an_error(site):
    site.configure(shared_max_bytes=65536)
    fails(site, "Shared.Set('big', ('x'):rep(70000))", 'Shared.Set: "big" needs 700', "SharedMaxBytes is 65536")
    fails(site, "Shared.Incr(('k'):rep(70000), 1, 0)", "Shared.Incr", "SharedMaxBytes is 65536")
    equal(site.run("for i = 1, 100 do Shared.Set(i, ('x'):rep(5000)) end").status, 200)
    equal(site.value("Shared.Get(100) == ('x'):rep(5000) and #Shared.Keys() > 5 and #Shared.Keys() < 14"), "true")


def a_store_that_fails_is_an_error_that_names_store_and_reason(site):
    path = os.path.join(site.folder, "state.db")
    with open(path, "wb") as file:
        file.write(b"this is no database" * 1000)
    for code in ("Shared.Get('k')", "Shared.Set('k', 1)", "Shared.Incr('k', 1, 0)", "Shared.Keys()"):
        fails(site, code, code[:code.index("(")] + ": session store " + path, "not a database")
    found = site.run("local ok, why = pcall(Shared.Get, 'k') Send(tostring(ok) .. why)")
    assert found.body.startswith(b"false") and b"not a database" in found.body, found.body
    equal(site.run("Send('alive')").body, b"alive")


# Life

def writes_count_at_once_even_if_the_script_fails(site):
    equal(site.run("Shared.Incr('n', 1, 0) error('later')").status, 500)
    equal(site.run("Shared.Incr('n', 1) os.exit()").status, 200)
    equal(site.value("Shared.Get('n')"), "2")


def other_scripts_states_and_restarts_see_the_entries(site):
    equal(site.value("Shared.Set('k', { 'x' })"), "true")
    equal(site.value("Shared.Get('k')[1]"), "x")
    site.configure()
    equal(site.value("Shared.Get('k')[1]"), "x")


def top_level_code_may_use_it(site):
    site.write("top.lua", "local started = Shared.Incr('started', 1, 0)\nfunction main() Send(started) end")
    equal(site.request("top.lua").body, b"1")
    equal(site.request("top.lua").body, b"1")
    equal(site.value("Shared.Get('started')"), "1")


def it_is_loaded_by_the_first_use_whatever_that_is(site):
    for name in ("Set", "Get", "Add", "Incr", "Delete", "Keys", "Ttl"):
        equal(site.value("type(Shared.%s)" % name), "function")
    equal(site.value("Shared.Nothing"), "nil")
    equal(site.value("(function() local n = 0 local _ = Shared.Get for _ in pairs(Shared) do n = n + 1 end "
                     "return n end)()"), "7")
    equal(site.value("getmetatable(Shared) == nil or Shared.Get and getmetatable(Shared) == nil"), "true")


def a_script_that_guards_its_globals_can_load_it(site):
    equal(site.run("assert = nil setmetatable = nil load = nil loadstring = nil "
                   "Shared.Set('k', 1) Send(Shared.Get('k'))").body, b"1")
    equal(site.run("setmetatable(_G, { __index = function(_, name) error('no ' .. name) end, "
                   "__newindex = function(_, name) error('new ' .. name) end }) "
                   "Shared.Set('k', 2) Send(Shared.Get('k'))").body, b"2")


def a_script_that_changes_it_harms_itself_only(site):
    equal(site.run("Shared.Get = nil Shared = nil Send('x')").body, b"x")
    equal(site.value("Shared.Get('k')"), "nil")


def an_untouched_request_opens_no_store(site):
    site.configure(session_store="sqlite://%s/made/state.db" % site.folder)
    site.write("plain.lua", "function main() if Shared then Send('there') end end")
    for _ in range(3):
        equal(site.request("plain.lua").body, b"there")
    equal(os.path.exists(os.path.join(site.folder, "made")), False)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", promises(globals()))
def test_shared_promise(name, version):
    check(__file__, version, name)
