"""The standard library inside scripts, in every Lua version: what a normal Lua has, made fit for a server."""
import os

import pytest
from lua_site import VERSIONS, check, equal, promises


def os_exit_ends_the_request_with_what_was_sent_so_far(site):
    found = site.run("RespStatus('404') Header('X-A', 'a') Send('before') os.exit(1) Send('after')")
    equal((found.status, found.body, found.header("X-A"), found.stderr), (404, b"before", "a", b""))
    equal(site.log.text(), "")


def os_exit_works_at_any_depth(site):
    for inner in ("pcall(os.exit)", "xpcall(os.exit, function() Send('handler') end)",
                  "xpcall(function() error('x') end, function() os.exit() end)",
                  "coroutine.wrap(os.exit)()", "coroutine.resume(coroutine.create(os.exit))",
                  "pcall(pcall, function() coroutine.wrap(function() pcall(os.exit) end)() end)",
                  "pcall(string.gsub, 'a', 'a', function() os.exit() end)"):
        found = site.run("Send('before') %s Send('after')" % inner)
        equal((found.status, found.body), (200, b"before"))


def the_state_lives_on_after_os_exit(site):
    site.write("index.lua", "hits = 0 function main() hits = hits + 1 Send(hits) pcall(os.exit, 3) "
               "Send('never') end")
    equal([site.request().body for _ in range(3)], [b"1", b"2", b"3"])


def a_coroutine_that_left_by_os_exit_harms_no_later_request(site):
    site.write("index.lua", "co = coroutine.create(function() os.exit() end) function main() Send('a') "
               "coroutine.resume(co) Send(tostring(coroutine.resume(co))) end")
    equal([site.request().body for _ in range(2)], [b"a", b"afalse"])


def os_exit_while_the_script_loads_ends_loading(site):
    site.write("index.lua", "function main() Send('early') end if os.exit then os.exit() end "
               "function main() end")
    found = site.request()
    equal((found.status, found.body), (200, b"early"))


def errors_are_caught_as_ever(site):
    equal(site.value("select('#', pcall(error, nil)) .. tostring((pcall(error, 'x')))"), "2false")
    found = site.run("local ok, e = pcall(function() local x = nil return x.y end) Send(e)")
    assert b"/run2.lua:2: attempt to index" in found.body, found.body


def print_goes_to_the_log(site):
    found = site.run("print('to the log', nil, 5)")
    equal(found.body, b"")
    assert "to the log\tnil\t5" in site.log.text(), site.log.text()
    assert site.log.scripts[0].endswith("/run1.lua")


def log_writes_what_it_gets(site):
    site.run("Log('from Log') Log(7)")
    equal(site.log.lines, ["from Log", "7"])
    assert all(script.endswith("/run1.lua") for script in site.log.scripts)


def io_popen_reads_writes_and_tells_the_end(site):
    old = site.engine.version in ("5.1", "jit")
    script = "local p = io.popen(%s) local t = p:read('*a') Send(t .. '|') " \
             "local a, b, c = p:close() Send(tostring(a) .. ',' .. tostring(b) .. ',' .. tostring(c))"
    equal(site.run(script % "'echo out; exit 3'").body, b"out\n|true,nil,nil" if old else b"out\n|nil,exit,3")
    equal(site.run(script % "'printf %s 1 2'").body, b"12|true,nil,nil" if old else b"12|true,exit,0")
    lines = "for line in io.popen('echo a; echo b'):lines() do Send('<' .. line .. '>') end"
    equal(site.run(lines).body, b"<a><b>")
    path = os.path.join(site.folder, "written")
    site.run("local p = io.popen('cat > %s', 'w') p:write('in', 'put') p:close()" % path)
    with open(path) as file:
        equal(file.read(), "input")


def a_popen_handle_can_be_used_by_the_next_request(site):
    site.write("index.lua", "function main() p = p or io.popen('echo 1; echo 2') Send(p:read('*l')) end")
    equal([site.request().body, site.request().body], [b"1", b"2"])


def os_execute_tells_how_the_command_ended(site):
    script = "local a, b, c = os.execute(%s) Send(tostring(a) .. ',' .. tostring(b) .. ',' .. tostring(c))"
    if site.engine.version in ("5.1", "jit"):
        equal(site.run(script % "'exit 3'").body, b"768,nil,nil")
    else:
        equal(site.run(script % "'exit 3'").body, b"nil,exit,3")
        equal(site.run(script % "'kill -9 $$'").body, b"nil,signal,9")
        equal(site.run(script % "'true'").body, b"true,exit,0")


def c_modules_of_the_distribution_load(site):
    folders = site.engine.default_cpath().decode().split(";")
    found = {name for name in ("cjson", "lfs", "lpeg")
             if any(os.path.exists(folder.replace("?", name)) for folder in folders)}
    if "cjson" in found:
        equal(site.run("Send(require('cjson').encode({a = {1, 2}}))").body, b'{"a":[1,2]}')
    if "lfs" in found:
        equal(site.value("require('lfs').attributes(Dir(), 'mode')"), "directory")
    if "lpeg" in found:
        equal(site.value("require('lpeg').match(require('lpeg').P('a') ^ 1, 'aab')"), "3")


def modules_beside_the_script_and_in_the_root_are_found(site):
    site.write("sub/near.lua", "return {name = 'near'}")
    site.write("far/init.lua", "return {name = 'far ' .. ...}")
    site.write("sub/a.lua", "function main() Send(require('near').name .. require('far').name) end")
    equal(site.request("sub/a.lua").body, b"nearfar far")
    found = site.run("require('not.there')")
    assert b"module 'not.there' not found" in found.stderr, found.stderr


def scripts_cannot_reach_python(site):
    equal(site.value("tostring(python) .. tostring(package.loaded.python)"), "nilnil")
    # Every value that can be walked to, upvalues included: a Python object gives up nothing but being called.
    found = site.run("""
      local seen, refused, leaks = {}, 0, {}
      local function walk(value)
        local kind = type(value)
        if value == nil or seen[value] or kind == 'string' or kind == 'number' or kind == 'boolean' then
          return
        end
        seen[value] = true
        if kind == 'table' then
          for k, v in next, value do walk(k) walk(v) end
        elseif kind == 'function' then
          for i = 1, 255 do
            local name, v = debug.getupvalue(value, i)
            if not name then break end
            walk(v)
          end
        elseif kind == 'userdata' and io.type(value) == nil and tostring(value):find('object at 0x') then
          for _, name in ipairs { '__globals__', '__class__', '__self__', '__func__', '__dict__' } do
            local ok, v = pcall(function() return value[name] end)
            if ok and v ~= nil then leaks[#leaks + 1] = name else refused = refused + 1 end
          end
        end
        walk(debug.getmetatable(value))
      end
      walk(_G)
      Send(table.concat(leaks, ',') .. '|')
      Send(refused > 0 and 'looked' or 'nothing found')
    """)
    equal(found.status, 200)
    assert found.body in (b"|looked", b"|nothing found"), found.body


def the_locale_stays(site):
    equal(site.value("tostring(os.setlocale('de_DE.UTF-8')) .. os.setlocale(nil, 'numeric')"), "nilC")


def debug_and_the_string_metatable_are_a_normal_lua_s(site):
    equal(site.value("type(debug.traceback())"), "string")
    equal(site.value("type(getmetatable('').__index)"), "table")


def states_draw_different_random_numbers(site):
    for number in range(6):
        site.write("r%d.lua" % number, "function main() Send(math.random(1, 2 ^ 30)) end")
    assert len({site.request("r%d.lua" % number).body for number in range(6)}) > 1


def session_variables_survive_to_the_next_request(site):
    site.configure(session_cookie_secure=False)
    site.write("index.lua", "function main() local n = Session.GetVar('r', 'n') or 0 Session.Start()"
               " Session.SetVar('r', 'n', n + 1) Send(n) end")
    first = site.request()
    equal((first.status, first.body), (200, b"0"))
    cookie = first.header("Set-Cookie").split(";")[0]
    equal(site.request(HTTP_COOKIE=cookie).body, b"1")
    equal(site.request().body, b"0")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("promise", list(promises(globals())))
def test_script_stdlib(promise, version):
    check(__file__, version, promise)
