"""A Lua state survives what scripts do to it, keeps them away from Python, and works alike in every Lua version."""
import gc
import io
import os
import subprocess
import sys
import tempfile
import weakref

import pytest
from lua_site import ROOT, VERSIONS, check, equal, promises

STRICT = """
setmetatable(_G, {
  __newindex = function(_, name) error('undeclared ' .. tostring(name), 2) end,
  __index = function(_, name) error('undefined ' .. tostring(name), 2) end,
  __metatable = %s,
})
"""
MAIN = "function main() %s end\n"
DEBIAN = "/usr/lib/%s-linux-gnu/lua" % os.uname().machine


def a_strict_global_table_set_at_the_top_level_serves(site):
    for hidden in ("nil", "false", "'locked'"):
        site.write("index.lua", MAIN % "Send(Env.REQUEST_METHOD) Header('X-A', 'a')" + STRICT % hidden)
        for _ in range(3):
            equal(site.request().body, b"GET")
        equal(site.request(SERVER_NAME=None, HTTP_COOKIE="a=b").status, 200)


def a_strict_global_table_set_within_a_request_serves(site):
    site.write("index.lua", "function main() if not done then done = true " + STRICT % "nil" + " end Send('x') end")
    equal([site.request().body for _ in range(3)], [b"x"] * 3)


def a_strict_global_table_still_catches_mistakes(site):
    site.write("index.lua", MAIN % "typo = 1" + STRICT % "nil")
    found = site.request()
    equal(found.status, 500)
    assert b"undeclared typo" in found.stderr, found.stderr
    equal(site.request().status, 500)


def a_strict_global_table_without_config_or_entry_point_is_no_crash(site):
    site.write("index.lua", MAIN % "Send(tostring(rawget(_G, 'Config')))" + "Config = nil\n" + STRICT % "nil")
    equal(site.request().body, b"nil")
    site.write("index.lua", STRICT % "nil")
    assert "Entrypoint" in (site.request() and site.log.text())


def a_strict_global_table_and_no_debug_library_are_no_crash(site):
    site.write("gone.lua", """
        setmetatable(_G, { __index = function(_, name) error("undeclared " .. name) end })
        debug = nil
        function main() Send("served") if Env.QUERY_STRING == "fail" then error("failed") end end""")
    for _ in range(3):
        equal(site.request("gone.lua").body, b"served")
        equal(site.request("gone.lua", QUERY_STRING="fail").status, 500)


def error_values_of_every_kind_end_only_their_request(site):
    for value, shown in (("nil", b"nil"), ("false", b"false"), ("{}", b"table"), ("io.stdout", b"file"),
                         ("print", b"function"), ("coroutine.create(print)", b"thread"),
                         ("setmetatable({}, {__tostring = function() error('x') end})", b"table value"),
                         ("setmetatable({}, {__tostring = function() return nil end})", b"table value"),
                         ("setmetatable({}, {__tostring = function() return {} end})", b"table value"),
                         ("setmetatable({}, {__tostring = function() os.exit() end})", b"table value"),
                         ("setmetatable({}, {__tostring = function() return 'mine' end})", b"mine"),
                         ("setmetatable({}, {__eq = function() error('eq') end, "
                          "__tostring = function() return 'unequal' end})", b"unequal"),
                         ("setmetatable({}, {__eq = function() return true end})", b"table")):
        found = site.run("error(%s)" % value)
        equal(found.status, 500)
        assert shown in found.stderr, (value, found.stderr)
        found = site.run("error(%s, 2)" % value)
        equal(found.status, 500)


def endless_recursion_and_errors_in_handlers_end_only_their_request(site):
    for code in ("local function f() return 1 + f() end f()",
                 "local t = setmetatable({}, {}) getmetatable(t).__index = function(s, k) return s[k .. 'x'] end "
                 "return t.a", "xpcall(error, function() error('handler') end) error('after')",
                 "string.rep('x', -1):bad()", "('x'):rep(100):gsub('.', function() error('in gsub') end)"):
        equal(site.run(code).status, 500)
        equal(site.run("Send('on')").body, b"on")


def python_is_out_of_reach(site):
    equal(site.value("rawget(_G, 'python')"), "nil")
    equal(site.value("pcall(require, 'python')"), "false")
    equal(site.value("package.loaded.python"), "nil")
    found = site.run("""
      local seen, found, opened = {}, {}, {}
      local function try(what, f, ...)
        local ok, value = pcall(f, ...)
        if ok and value ~= nil then opened[#opened + 1] = what .. '=' .. tostring(value) end
      end
      local function look(value)
        local kind = type(value)
        if (kind ~= 'table' and kind ~= 'function' and kind ~= 'userdata') or seen[value] then return end
        seen[value] = true
        if kind == 'table' then
          for k, v in next, value do look(k) look(v) end
        elseif kind == 'function' then
          local index = 1
          while true do
            local name, inner = debug.getupvalue(value, index)
            if not name then break end
            look(inner)
            index = index + 1
          end
          local ok, env = pcall(debug.getfenv or function() end, value)
          if ok then look(env) end
        elseif io.type(value) == nil then
          found[#found + 1] = value
        end
        look(debug.getmetatable(value))
      end
      look(_G) look(debug.getregistry()) look(package.loaded) look(con)
      -- Not while looking: each refusal puts objects of its own where the search would find them, without an end.
      for _, value in ipairs(found) do
        for _, name in ipairs { '__class__', '__globals__', '__self__', '__dict__', '__code__', '__closure__',
                                '__traceback__', 'args', 'execute' } do
          try(name, function() return value[name] end)
          try('set ' .. name, function() value[name] = 1 return 'done' end)
        end
        for _, key in ipairs { 0, 1 } do try('item', function() return value[key] end) end
        try('length', function() return #value end)
      end
      Send(#found .. ':' .. table.concat(opened, ','))
    """)
    equal(found.status, 200)
    count, _, opened = found.body.decode("utf-8", "replace").partition(":")
    assert int(count) > 0, "the host functions were not found: the test looks in the wrong place"
    equal(opened, "")


def an_error_inside_python_shows_no_python(site):
    found = site.run("""
      Log('what it calls is there from now on')
      local function find(f, depth)
        for index = 1, 60 do
          local name, value = debug.getupvalue(f, index)
          if not name then return end
          if type(value) == 'userdata' and io.type(value) == nil then return value end
          if type(value) == 'table' and depth > 0 then
            for _, inner in next, value do
              local found = type(inner) == 'function' and find(inner, depth - 1)
              if found then return found end
            end
          end
          local found = type(value) == 'function' and depth > 0 and find(value, depth - 1)
          if found then return found end
        end
      end
      local callable = find(Log, 4) or find(Receive, 4)
      if not callable then return Send('nothing found') end
      local results = { pcall(callable, {}, {}, print) }
      for index = 1, #results do
        local kind = type(results[index])
        if kind == 'userdata' then
          Send(tostring(pcall(function() return results[index].__traceback__ end)) .. ' ')
          Send(tostring(pcall(function() return results[index].__class__ end)) .. ' ')
        end
      end
      Send('end')
    """)
    equal(found.status, 200)
    assert b"true" not in found.body and found.body.endswith(b"end"), found.body


def os_exit_inside_pcall_and_coroutine_ends_the_request_with_what_was_sent(site):
    for call in ("pcall(os.exit)", "pcall(pcall, os.exit)", "coroutine.wrap(os.exit)()",
                 "coroutine.resume(coroutine.create(os.exit))", "xpcall(os.exit, print)",
                 "coroutine.wrap(function() pcall(os.exit) end)()",
                 "pcall(function() ('x'):gsub('x', function() os.exit() end) end)",
                 "table.sort({3, 2, 1}, function() os.exit(1) end)"):
        found = site.run("Send('sent') %s Send('never')" % call)
        equal((found.status, found.body), (200, b"sent"))


def a_byte_order_mark_and_a_first_line_for_the_shell_are_skipped(site):
    for start in (b"\xef\xbb\xbf", b"#!/usr/bin/lua\n", b"\xef\xbb\xbf#!/usr/bin/env lua -x\n", b"# just this\n"):
        for ending in (b"\n", b"\r\n"):
            site.write("index.lua", start + b"function main()" + ending + b"  error('here')" + ending + b"end")
            line = 2 + start.count(b"\n")
            assert b"/index.lua:%d: here" % line in site.request().stderr, start
            site.write("m.lua", start + b"return 'module'")
            site.write("index.lua", "function main() Send(require('m')) end")
            equal(site.request().body, b"module")


def precompiled_code_is_refused(site):
    code = site.engine.compile(b"function main() Send('x') end", b"@x")
    site.write("index.lua", code)
    found = site.request()
    equal(found.status, 500)
    assert b"precompiled" in found.stderr
    site.write("m.lua", code)
    site.write("index.lua", "function main() Send(tostring(pcall(require, 'm'))) end")
    equal(site.request().body, b"false")


def modules_beside_the_script_in_the_root_and_in_packages_are_found(site):
    site.write("sub/near.lua", "return 'near'")
    site.write("lib/deep.lua", "return ...")
    site.write("pack/init.lua", "return 'pack'")
    site.write("sub/index.lua", MAIN % "Send(require('near') .. require('lib.deep') .. require('pack'))")
    equal(site.request("sub/index.lua").body, b"nearlib.deeppack")


def the_root_comes_before_the_folder_of_the_script_as_with_the_ancestor(site):
    site.write("m.lua", "return 'root'")
    site.write("sub/m.lua", "return 'sub'")
    site.write("sub/index.lua", MAIN % "Send(require('m'))")
    equal(site.request("sub/index.lua").body, b"root")


def the_working_directory_is_not_searched(site):
    with tempfile.TemporaryDirectory() as folder:
        before = os.getcwd()
        os.chdir(folder)
        try:
            with open("onlyhere.lua", "w") as file:
                file.write("return 1")
            equal(site.value("pcall(require, 'onlyhere')"), "false")
        finally:
            os.chdir(before)


def a_missing_module_says_where_it_was_looked_for(site):
    found = site.run("require 'no.such'")
    for part in (b"module 'no.such' not found", site.folder.encode() + b"/no/such.lua'",
                 site.folder.encode() + b"/no/such/init.lua'"):
        assert part in found.stderr, found.stderr


def a_broken_module_names_its_file_and_line(site):
    path = site.write("broken.lua", "\n\nreturn return")
    found = site.run("require 'broken'")
    assert (path + ":3:").encode() in found.stderr, found.stderr


def modules_are_loaded_once_and_share_globals(site):
    site.write("m.lua", "loads = (loads or 0) + 1 function greet() Send('hi') end return {}")
    site.write("index.lua", "require 'm' function main() require('m') greet() Send(loads) end")
    equal([site.request().body for _ in range(2)], [b"hi1"] * 2)


def files_of_dofile_and_loadfile_are_watched(site):
    path = site.write("data.lua", "return 'one'")
    for call in ("dofile('%s')", "loadfile('%s')()"):
        site.write("data.lua", "return 'one'")
        site.write("index.lua", "local data = " + call % path + " function main() Send(data) end")
        equal(site.request().body, b"one")
        site.write("data.lua", "return 'other'")
        equal(site.request().body, b"other")


def a_number_is_not_taken_for_a_descriptor(site):
    with tempfile.TemporaryFile() as file:
        site.run("pcall(dofile, %d) pcall(loadfile, %d)" % (file.fileno(), file.fileno()))
        file.write(b"still open")
        file.flush()


def a_body_on_disk_is_read_in_pieces(site):
    content = bytes(range(256)) * 1000
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        found = site.run("local n = 0 while true do local part = Receive(10007) if part == '' then break end "
                         "n = n + 1 Send(part) end Header('X-Parts', n) Send(Receive())", body=file)
    equal((found.body, found.header("X-Parts")), (content, str(-(-len(content) // 10007))))


def a_body_on_disk_is_read_as_a_whole(site):
    content = os.urandom(300_000)
    found = site.run("Send(Receive(5)) Send(Receive()) Send(Receive()) Send(Receive(9))", body=io.BytesIO(content))
    equal(found.body, content)


def a_body_of_an_earlier_request_is_gone(site):
    site.write("index.lua", MAIN % "Send(Receive())")
    equal(site.request(body=io.BytesIO(b"secret")).body, b"secret")
    equal(site.request().body, b"")
    site.write("index.lua", MAIN % "if Env.X then error('unread') end Send(Receive())")
    equal(site.request(body=io.BytesIO(b"secret"), X="1").status, 500)
    equal(site.request().body, b"")
    equal(site.request(body=b"secret", X="1").status, 500)
    equal(site.request().body, b"")


def asking_for_more_than_there_is_gives_what_there_is(site):
    for body in (b"0123456789", io.BytesIO(b"0123456789")):
        equal(site.run("Send(Receive(1e9)) Send(Receive(1e9))", body=body).body, b"0123456789")
    equal(site.run("Send(Receive(math.huge))", body=b"0123456789").body, b"0123456789")
    equal(site.run("Send(Receive(0)) Send(Receive(3))", body=b"0123456789").body, b"012")
    for wrong in ("-1", "'3'", "{}", "true"):
        equal(site.run("Receive(%s)" % wrong, body=b"0123456789").status, 500)


def output_of_an_earlier_request_never_shows(site):
    site.write("index.lua", MAIN % ("Header('X-Old', '1') RespStatus('404') RespContentType('old/old') "
                                    "for _ = 1, 100 do Send('old') end if Env.X then error('x') end Reset()"))
    for end in ({"X": "1"}, {}):
        site.request(**end)
        site.write("new.lua", MAIN % "Send('new')")
        equal(site.request("new.lua").body, b"new")
    site.write("index.lua", MAIN % "if Env.X then Header('X-Old', '1') Send('old') RespStatus(404) error('x') end")
    site.request(X="1")
    found = site.request()
    equal((found.status, found.body, found.all("X-Old")), (200, b"", []))


def a_heap_that_has_grown_is_collected_after_the_response(site):
    site.write("index.lua", "function main() collectgarbage('restart') Send(collectgarbage('count')) "
               "if Env.X then collectgarbage('stop') local t = {} for i = 1, 100000 do t[i] = { i } end end end")
    site.request()
    assert not site.pool.pending
    site.request(X="1")
    assert site.pool.pending, "the state did not ask for a collection"
    site.pool.spare_time()
    assert not site.pool.pending
    assert float(site.request().body) < 3000
    assert not site.pool.pending


def a_failing_finalizer_does_not_end_the_state(site):
    if site.engine.version in ("5.1", "jit"):
        bomb = "local p = newproxy(true) getmetatable(p).__gc = function() error('in gc') end p = nil "
    else:
        bomb = "setmetatable({}, { __gc = function() error('in gc') end }) "
    site.write("index.lua", bomb + MAIN % (bomb + "Send('x')"))
    equal(site.request().body, b"x")
    for _ in range(3):
        site.pool.housekeep()
        equal(site.request().body, b"x")


def a_finalizer_that_logs_at_the_end_does_no_harm(site):
    code = "G = Log if newproxy then keep = newproxy(true) getmetatable(keep).__gc = function() G('bye') end " \
           "else keep = setmetatable({}, { __gc = function() G('bye') end }) end Send('x')"
    equal(site.run(code).body, b"x")
    site.pool.close()
    gc.collect()
    equal(site.run("Send('on')").body, b"on")


def a_state_is_freed_when_it_is_closed(site):
    site.write("index.lua", MAIN % "Send('x')")
    equal(site.request().body, b"x")
    entry, = site.pool._entries.values()
    # The runtime cannot be referred to weakly, but it alone holds the host functions.
    host = weakref.ref(entry.idle[0]._host)
    site.pool.close()
    del entry
    assert host() is None, "the runtime lives on"


def a_broken_state_is_replaced(site):
    site.write("index.lua", MAIN % ("n = (n or 0) + 1 if Env.X then local t = {} "
                                    "setmetatable(_G, { __index = function() return nil end }) Config = t "
                                    "setmetatable(t, { __index = function() error('config') end }) end Send(n)"))
    equal(site.request().body, b"1")
    site.request(X="1")
    assert site.request().status in (200, 500)
    equal(site.request(SERVER_NAME=None).status in (200, 500), True)


def c_modules_of_debian_load_and_work(site):
    if not os.path.isdir(DEBIAN):
        return
    short = "5.1" if site.engine.version == "jit" else site.engine.version
    folder = os.path.join(DEBIAN, short)
    for module, file, code, result in (
            ("cjson", "cjson.so", "require('cjson').encode({ 1, 'two' })", "[1,\"two\"]"),
            ("lfs", "lfs.so", "require('lfs').attributes('/', 'mode')", "directory"),
            ("lpeg", "lpeg.so", "require('lpeg').match(require('lpeg').P('ab') ^ 1, 'ababx')", "5"),
            ("socket", "socket/core.so", "type(require('socket').tcp)", "function")):
        if os.path.exists(os.path.join(folder, file)):
            equal(site.value(code), result)
            equal(site.value("type(package.loaded['%s'])" % module), "nil")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("promise", list(promises(globals())))
def test_state(promise, version):
    check(__file__, version, promise)


@pytest.mark.parametrize("version", VERSIONS)
def test_forked_children_draw_different_numbers(version):
    program = """if 1:
        import os, sys
        sys.path[:0] = [%r, %r]
        from lua_site import *
        engine = Engine(%r)
        engine.new_runtime()
        reads = []
        for _ in range(2):
            read, write = os.pipe()
            if not os.fork():
                with tempfile.TemporaryDirectory() as folder:
                    found = Site(engine, folder).value("math.random(1, 1000000000)")
                os.write(write, found.encode())
                os._exit(0)
            os.close(write)
            reads.append(read)
        numbers = [os.fdopen(read).read() for read in reads]
        os.wait(), os.wait()
        assert all(numbers) and len(set(numbers)) == 2, numbers
    """ % (ROOT, os.path.join(ROOT, "tests", "unit"), version)
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert done.returncode == 0, done.stdout.decode()
