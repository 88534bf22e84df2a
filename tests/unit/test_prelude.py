"""A Lua state starts with little of the prelude, and a script cannot tell: the rest is as if it were there."""
import os
import re

import pytest
from lua_site import ROOT, VERSIONS, check, equal, promises

from luafcgid2 import runtime

FOLDER = os.path.join(ROOT, "luafcgid2", "lua")
# Kilobytes of Lua heap that a state of a small page takes in all; a state of lupa's alone takes about 21, of 5.1 28, of
# LuaJIT 38.
MOST_KB = {"5.1": 80, "5.2": 52, "5.3": 46, "5.4": 44, "5.5": 44, "jit": 80}
# They run before any script, or as one, or have a state of their own.
EARLY = {"boot", "plain", "surroundings", "config_eval", "repl", "launch_op", "launch_lp", *runtime._START}
LIBRARY = re.compile(r"(?<![\w.:])(coroutine|debug|io|math|os|string|table)\.(\w+)")
BASE = re.compile(r"(?<![\w.:\"'])(assert|collectgarbage|dofile|error|getmetatable|ipairs|jit|load|loadfile|loadstring|"
                  r"newproxy|next|package|pairs|pcall|rawequal|rawget|rawlen|rawset|require|select|setmetatable|"
                  r"tonumber|tostring|type|unpack|xpcall|_G|_VERSION)\b(?!\s*=[^=])")


def source(name):
    """A file of the prelude without its comments and strings."""
    with open(os.path.join(FOLDER, name + ".lua")) as file:
        return re.sub(r"--[^\n]*|\"[^\"\n]*\"|'[^'\n]*'", "", file.read())


def modules():
    return sorted(name[:-4] for name in os.listdir(FOLDER) if name.endswith(".lua"))


def test_what_comes_late_finds_all_of_the_library_that_it_names():
    given = set(re.findall(r"[\w.]+", source("plain").partition("return {")[2]))
    for name in modules():
        if name not in EARLY:
            wanted = {".".join(found) for found in LIBRARY.findall(source(name))}
            wanted |= set(BASE.findall(source(name)))
            assert wanted <= given, (name, wanted - given)


def test_every_function_that_stands_for_another_has_a_place_with_work_in_it():
    with open(os.path.join(FOLDER, "places.lua")) as file:
        places = dict(re.findall(r"(\w+) = { (\"[^}]*\") }", file.read()))
    for name in modules():
        with open(os.path.join(FOLDER, name + ".lua")) as file:
            text = file.read()
        for wanted in re.findall(r"later\(\"(\w+)\"\)|faces\(\"(\w+)\"\)", text):
            assert "".join(wanted) in places, wanted
    for place in places.values():
        module, _, work = place.replace('"', "").partition(", ")
        assert re.search(r"\.%s\b" % (work or "install"), source(module)), place


@pytest.mark.parametrize("version", VERSIONS)
def test_the_surroundings_are_the_library_in_every_version(version):
    engine = runtime.Engine(version, c_modules=False)
    codes = dict(engine.prelude())
    # Of two names for one function the first is looked for, then the second.
    names = re.findall(r"[\w.]+", source("plain").partition("return {")[2].replace(" or unpack", ""))
    wrong = engine.new_runtime().execute(b"""
        local plain, surroundings, names = ...
        local load = loadstring or load
        local found, wrong = load(surroundings)(load(plain)()), {}
        for library, name in names:gmatch("(%a*)%.?([%w_]+)") do
          local mine, theirs = found, _G
          if library ~= "" then mine, theirs = found[library], _G[library] end
          local expected = theirs[name] or name == "unpack" and unpack or nil
          if not rawequal(mine[name], expected) then wrong[#wrong + 1] = library .. "." .. name end
        end
        return table.concat(wrong, " ")""", codes[b"plain"], codes[b"surroundings"],
        "\n".join(name if "." in name else "." + name for name in names).encode())
    equal(wrong, b"")


def a_state_of_a_small_page_is_small(site):
    site.write("index.lua", "function main() Send('x') end")
    equal(site.request().body, b"x")
    entry, = site.pool.entries
    assert 0 < entry.heap <= MOST_KB[site.engine.version], entry.heap


def functions_stay_the_same_ones_once_they_have_worked(site):
    found = site.run("""
        local before = { Header, Log, RespStatus, Receive, Reset, Dir, ThreadData, Flush, print, xpcall, os.exit,
          io.popen, io.close, coroutine.resume, coroutine.wrap, dofile, loadfile, os.tmpname }
        local get, urlencode, ok = Session.GetVar, lf.urlencode, Response[200]
        Header('X-A', 'a') Log('x') RespStatus(201) Receive() Dir() print('x') xpcall(print, print)
        io.popen('true'):close() coroutine.wrap(function() end)() os.remove(os.tmpname())
        local after = { Header, Log, RespStatus, Receive, Reset, Dir, ThreadData, Flush, print, xpcall, os.exit,
          io.popen, io.close, coroutine.resume, coroutine.wrap, dofile, loadfile, os.tmpname }
        for index = 1, 18 do
          if before[index] ~= after[index] or type(before[index]) ~= 'function' then Send(index) end
        end
        Send(tostring(get == Session.GetVar and urlencode == lf.urlencode and ok == Response[200]))""")
    equal((found.status, found.body), (201, b"true"))


def tables_show_all_that_is_in_them(site):
    if site.engine.version in ("5.1", "jit"):
        # No metamethod tells these versions: only Response is whole from the start.
        wanted = "Response"
    else:
        wanted = "Response Session Shared lf"
    for name, least in (("Response", 60), ("Session", 9), ("Shared", 7), ("lf", 5)):
        if name in wanted:
            found = site.run("local n = 0 for _ in pairs(%s) do n = n + 1 end Send(n)" % name)
            assert int(found.body) >= least, (name, found.body)
    equal(site.run("Response[404] = '404 Nothing here' RespStatus(404)").status, 404)
    equal(site.run("Session.mine = 1 Session.Start() Send(Session.mine)").body, b"1")


def a_script_that_ruins_the_library_finds_the_prelude_whole(site):
    site.write("index.lua", """
        local real, next_name = {}, next
        local open, wrap = io.popen, coroutine.wrap
        for name, value in pairs(_G) do real[name] = value end
        for _, name in ipairs({ 'string', 'table', 'math', 'os', 'io', 'debug' }) do
          for key in pairs(real[name]) do real[name][key] = nil end
        end
        for _, name in ipairs({ 'type', 'tostring', 'error', 'pairs', 'pcall', 'select', 'rawget', 'setmetatable',
          'string', 'table', 'math', 'os', 'io', 'debug', 'load', 'loadstring', 'coroutine' }) do _G[name] = nil end
        function main()
          Header('X-A', 'a')
          RespStatus(201)
          Send(lf.urlencode('a b') .. Response[404] .. Cookies.c .. lf.serialize({}))
          Session.SetVar('r', 'k', 1)
          Send(Session.GetVar('r', 'k') .. wrap(function() return ' in' end)())
          print('printed')
          Send(open('echo piped'):read('*l'))
          if Env.QUERY_STRING == 'fail' then Header('a b', 'c') end
        end""")
    found = site.request(HTTP_COOKIE="c=d")
    equal((found.status, found.body), (201, b"a+b404 Not Foundd{}1 inpiped"))
    found = site.request(QUERY_STRING="fail", HTTP_COOKIE="c=d")
    equal(found.status, 500)
    assert b"index.lua:18: Header:" in found.stderr, found.stderr


def errors_of_functions_that_stand_for_others_name_the_line_of_the_script(site):
    for call in ("Header('a b', 'c')", "RespStatus('x')", "RespContentType('a\\nb')", "Log({})", "Receive(-1)",
                 "SendFile({})", "Session.GetVar({})", "lf.cookie('a b')"):
        found = site.run("\n" + call)
        equal(found.status, 500)
        assert b"run" in found.stderr and b".lua:3: " in found.stderr.split(b"\n")[0], (call, found.stderr)
        assert b"luafcgid2 " not in found.stderr and b"tail call" not in found.stderr, (call, found.stderr)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("promise", list(promises(globals())))
def test_prelude(promise, version):
    check(__file__, version, promise)
