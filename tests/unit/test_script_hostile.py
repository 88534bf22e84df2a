"""What scripts do, by mistake or on purpose, ends their request at most: the very next one is answered, and sees
nothing of the one before.  In every Lua version."""
import os

import pytest
from lua_site import VERSIONS, check, equal, promises

from luafcgid2 import errors
from luafcgid2.script import Script, Version


def survives(place, code, status=500, text=b""):
    """The state on which `code` ran answers the next request; the answer to the first."""
    place.write("x.lua", "function main() if Env.X then %s end Send('on') end" % code)
    found = place.request("x.lua", X="1")
    equal((code, found.status), (code, status))
    assert text in (found.stderr or found.body), (code, found.raw, found.stderr)
    equal(place.request("x.lua").body, b"on")
    return found


def the_locale_cannot_be_changed(site):
    for wanted in ("de_DE.UTF-8", "C.UTF-8", "tr_TR", "nowhere", ""):
        for category in ("all", "numeric", "ctype", "time"):
            survives(site, "local set = os.setlocale('%s', '%s') Send(os.setlocale()) "
                           "Send(tostring(tonumber('1.5')) .. string.format('%%.1f', 1.5) .. ('I'):lower())"
                     % (wanted, category), 200, b"C1.51.5ion")


def standard_output_stays_open(site):
    for code in ("io.stdout:close()", "pcall(io.close)", "io.output():close()", "io.stderr:close()", "io.stdin:close()",
                 "io.stdout:setvbuf('no') io.stdout:close()", "io.output('/dev/null') io.close() io.output(io.stdout)"):
        survives(site, "pcall(function() %s end)" % code, 200, b"on")
        for descriptor in (0, 1, 2):
            os.fstat(descriptor)


def reading_from_standard_input_ends_at_once(site):
    for code in ("io.read('*a')", "io.read()", "io.stdin:read('*n')", "for line in io.lines() do end"):
        survives(site, "local a = %s" % code if not code.startswith("for") else code, 200, b"on")


def endless_recursion_of_every_kind_is_an_error(site):
    for code in ("local function f() return 1 + f() end f()",
                 "local function f() local ok, e = pcall(f) error(e, 0) end f()",
                 # In LuaJIT it takes the large C stack of a worker's threads: see test_hostile_scripts.py.
                 "if jit then error('x') end local function f(s) return (s:gsub('.', f)) end f('x')",
                 "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k .. 'x'] end "
                 "Send(t.a)",
                 "local t = {} setmetatable(t, { __tostring = function(t) return tostring(t) .. 'x' end }) "
                 "Send(tostring(t))",
                 "local function f() table.sort({ 3, 2, 1 }, function() f() end) end f()",
                 "local function f() return coroutine.wrap(f)() end f()",
                 "local function f() local ok, e = coroutine.resume(coroutine.create(f)) error(e, 0) end f()",
                 "local t = setmetatable({}, { __concat = function(a, b) return a .. b end }) Send(t .. t)"):
        survives(site, code)


def deep_source_and_patterns_are_an_error_at_most(site):
    for code in ("local f, e = (loadstring or load)('return ' .. ('('):rep(1e5) .. '1' .. (')'):rep(1e5)) error(e, 0)",
                 "local f, e = (loadstring or load)('return ' .. ('{'):rep(1e5) .. ('}'):rep(1e5)) error(e, 0)",
                 "local f, e = (loadstring or load)(('do '):rep(1e5) .. ('end '):rep(1e5)) error(e, 0)",
                 "local f, e = (loadstring or load)('local x = a' .. ('.b'):rep(10) .. ' .. \\'\\'' .. "
                 "(' .. 1'):rep(1e4)) error(e or 'fine', 0)",
                 "error(('x'):rep(1e6):find(('('):rep(100)))"):
        survives(site, code)


def a_script_with_deep_source_is_a_500(site):
    site.write("deep.lua", "x = " + "(" * 100_000 + "1" + ")" * 100_000 + "\nfunction main() end")
    equal(site.request("deep.lua").status, 500)
    equal(site.run("Send('on')").body, b"on")


def errors_in_finalizers_end_no_request(site):
    survives(site, "local function bomb() error({}) end if newproxy then getmetatable(newproxy(true)).__gc = bomb else "
                   "setmetatable({}, { __gc = bomb }) end pcall(collectgarbage) pcall(collectgarbage)", 200, b"on")


def a_script_of_fifty_megabytes_is_served(site):
    line = b"-- " + b"x" * 1021 + b"\n"
    site.write("big.lua", line * (50 << 10) + b"function main() Send('big') end")
    equal(site.request("big.lua").body, b"big")
    equal(site.run("Send('on')").body, b"on")


def precompiled_code_of_any_name_is_refused_everywhere(site):
    code = site.engine.compile(b"function main() Send('x') end", b"@x")
    for start in (b"", b"\xef\xbb\xbf"):
        site.write("b.lua", start + code)
        found = site.request("b.lua")
        equal(found.status, 500)
        assert b"b.lua: precompiled" in found.stderr
        equal(site.run("Send('on')").body, b"on")


def what_is_no_file_is_not_found_and_stops_nobody(site):
    os.mkdir(os.path.join(site.folder, "dir.lua"))
    os.mkfifo(os.path.join(site.folder, "fifo.lua"))
    os.symlink("/dev/zero", os.path.join(site.folder, "device.lua"))
    os.symlink("circle.lua", os.path.join(site.folder, "circle.lua"))
    os.symlink("nowhere.lua", os.path.join(site.folder, "dangling.lua"))
    for name in ("dir", "fifo", "device", "circle", "dangling"):
        equal((name, site.request(name + ".lua").status), (name, 404))
        equal(site.run("Send('on')").body, b"on")
        found = site.run("require '%s'" % name)
        equal((name, found.status), (name, 500))
        assert b"'%s'" % name.encode() in found.stderr, found.stderr
        equal(site.run("Send('on')").body, b"on")


def a_file_that_becomes_a_pipe_stops_nobody(site):
    module = site.write("m.lua", "return 'module'")
    site.write("x.lua", "local m = require('m') function main() Send(m) end")
    equal(site.request("x.lua").body, b"module")
    os.unlink(module)
    os.mkfifo(module)
    # The last good version serves.
    equal(site.request("x.lua").body, b"module")
    equal(site.run("Send('on')").body, b"on")
    path = os.path.join(site.folder, "x.lua").encode()
    os.unlink(path)
    os.mkfifo(path)
    equal(site.request("x.lua").status, 404)
    try:
        Version(site.engine, Script(path, path, site.folder.encode())).code()
    except errors.ScriptNotFound as error:
        assert "not a regular file" in str(error)
    else:
        raise AssertionError("a pipe was read")


def names_of_any_bytes_are_served_and_break_no_line_of_the_log(site):
    for name in ("with space.lua", "gr\u00fc\u00df.lua", "\u65e5\u672c.lua", "new\nline.lua", "quote'\".lua",
                 "100%s%d.lua", "semi;colon.lua", "back\\slash.lua", "a?b=c&d.lua", os.fsdecode(b"latin\xe4.lua"),
                 "tab\t.lua"):
        site.write(name, "function main() if Env.X then error('here') end Send(Dir()) end")
        equal(site.request(os.fsencode(name).decode("utf-8", "surrogateescape")).body, site.folder.encode())
        equal((name, site.request(name, X="1").status), (name, 500))
        equal(site.request(name).body, site.folder.encode())
    for name in ("nul\0.lua", "index.lua\0.lua", "\0"):
        assert site.request(name).status in (403, 404)
        equal(site.run("Send('on')").body, b"on")


def a_coroutine_of_an_earlier_request_sees_nothing_of_the_next(site):
    site.write("x.lua", """
        function main(env, con)
          if not keep then
            local env, cookies, info = Env, Cookies, Info
            keep = coroutine.wrap(function()
              Send('first ') Header('X-First', env.X)
              coroutine.yield()
              while true do
                local same = { rawequal(env, Env), rawequal(cookies, Cookies), rawequal(info, Info) }
                for i = 1, 3 do same[i] = tostring(same[i]) end
                coroutine.yield(env.X .. ',' .. tostring(cookies.c) .. ',' .. table.concat(same, ',') .. ','
                  .. tostring(env.Y))
              end
            end)
            keep()
          else
            Send(keep())
          end
        end""")
    first = site.request("x.lua", X="one", HTTP_COOKIE="c=secret")
    equal((first.body, first.header("X-First")), (b"first ", "one"))
    second = site.request("x.lua", X="two", Y="new", HTTP_COOKIE="c=other")
    # What it had kept is as it was; it is not filled anew, and nothing of the response is left.
    equal((second.body, second.all("X-First")), (b"one,secret,false,false,false,nil", []))


def functions_kept_by_a_coroutine_act_on_the_request_that_runs(site):
    site.write("x.lua", """
        function main()
          if not keep then
            local send, header, status, receive = Send, Header, RespStatus, Receive
            keep = coroutine.create(function()
              send('old') header('X-Old', '1') status(404) coroutine.yield()
              send('[' .. receive() .. ']') header('X-New', '1')
            end)
          end
          coroutine.resume(keep)
        end""")
    first = site.request("x.lua", body=b"first body")
    equal((first.status, first.body), (404, b"old"))
    second = site.request("x.lua", body=b"second")
    equal((second.status, second.body, second.all("X-Old"), second.header("X-New")), (200, b"[second]", [], "1"))


def a_session_kept_by_a_coroutine_is_that_of_the_visitor_who_asks(site):
    site.configure(session_cookie_secure=False)
    site.write("x.lua", """
        function main()
          local session = Session
          if Env.X == 'keep' then
            session.SetVar('r', 'name', 'ann')
            keep = coroutine.wrap(function()
              while true do coroutine.yield(tostring(session.GetVar('r', 'name')), session.Id()) end
            end)
            Send((keep()))
          elseif Env.X == 'fail' then
            session.SetVar('r', 'name', 'never stored') error('failed')
          else
            local name, id = keep()
            Send(name .. ',' .. tostring(id == Session.Id()))
          end
        end""")
    first = site.request("x.lua", X="keep")
    equal(first.body, b"ann")
    cookie = first.header("Set-Cookie").split(";")[0]
    found = site.request("x.lua")
    equal(found.body, b"nil,true")
    equal(site.request("x.lua", HTTP_COOKIE=cookie).body, b"ann,true")
    # What a failed request has set is neither stored nor found by the next on that state.
    equal(site.request("x.lua", X="fail", HTTP_COOKIE=cookie).status, 500)
    equal(site.request("x.lua").body, b"nil,true")
    equal(site.request("x.lua", HTTP_COOKIE=cookie).body, b"ann,true")


def nothing_that_a_failed_request_has_set_is_in_the_next(site):
    for end in ("error('x')", "error()", "os.exit()", "error({})", "Header('X', 'a\\nb')",
                "local function f() f() end f()",
                "coroutine.wrap(error)('x')"):
        site.write("x.lua", "function main() if Env.X then Header('X-Secret', 's') Send('secret') RespStatus(418) "
                            "RespContentType('secret/secret') %s end Send(tostring(Cookies.c) .. tostring(Env.SECRET) "
                            ".. Receive()) end" % end)
        site.request("x.lua", X="1", SECRET="s", HTTP_COOKIE="c=secret", body=b"secret")
        found = site.request("x.lua")
        equal((found.status, found.body, found.all("X-Secret")), (200, b"nilnil", []))
        assert b"secret" not in found.raw and b"418" not in found.raw, found.raw


ESCAPES = """
local opened = {}
local function try(what, f, ...)
  local ok, value = pcall(f, ...)
  if ok and value ~= nil then opened[#opened + 1] = what end
end
local functions = {}
local seen = {}
local function look(value)
  if seen[value] or (type(value) ~= 'table' and type(value) ~= 'function' and type(value) ~= 'userdata') then return end
  seen[value] = true
  if type(value) == 'userdata' and io.type(value) == nil then functions[#functions + 1] = value end
  if type(value) == 'table' then for k, v in next, value do look(k) look(v) end end
  if type(value) == 'function' then
    for i = 1, 255 do
      local name, v = debug.getupvalue(value, i)
      if not name then break end
      look(v)
    end
  end
end
look(Log) look(Receive) look(debug.getregistry())
for _, f in ipairs(functions) do
  -- (a) the globals of a function
  try('globals', function() return f.__globals__ end)
  try('code', function() return f.__code__ end)
  try('closure', function() return f.__closure__ end)
  -- (c) a caught exception and its frames
  local results = { pcall(f, setmetatable({}, { __index = function() error('x') end }), print, {}) }
  for i = 2, #results do
    if type(results[i]) == 'userdata' then
      try('traceback', function() return results[i].__traceback__.tb_frame end)
      try('class', function() return results[i].__class__ end)
    end
  end
end
-- (b) the table `python`
try('none', function() return python.none.__class__.__base__.__subclasses__() end)
try('builtins', function() return python.builtins end)
try('eval', function() return python.eval end)
try('require', function() return require('python') end)
Send(#functions .. ':' .. table.concat(opened, ' '))
"""


def the_known_ways_into_python_are_closed(site):
    found = site.run(ESCAPES)
    count, _, opened = found.body.decode("utf-8", "replace").partition(":")
    assert int(count) > 0, "no Python function was found: the test looks in the wrong place"
    equal(opened, "")
    equal(site.run("Send('on')").body, b"on")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("promise", list(promises(globals())))
def test_script_hostile(promise, version):
    check(__file__, version, promise)
