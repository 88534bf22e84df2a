"""ScriptMaxMemory: a script that wants more is a 500 and nothing else suffers, in every Lua version."""
import gc
import io
import weakref

import pytest
from lua_site import VERSIONS, check, equal, promises

MB = 1 << 20
LIMIT = 8 * MB
NEWPROXY = """
local function with_finalizer(f)
  if newproxy then
    local value = newproxy(true)
    getmetatable(value).__gc = f
    return value
  end
  return setmetatable({}, { __gc = f })
end
"""


def limited(place):
    """Strikes are collected in the list that this gives."""
    strikes = []
    place.configure(script_max_memory=LIMIT)
    place.responder._strike = strikes.append
    return strikes


def fails(place, code, **request):
    """The script overruns its memory, and the next request for it is answered."""
    path = place.write("x.lua", "function main() if Env.X then %s end Send('on') end" % code)
    found = place.request("x.lua", X="1", **request)
    equal((found.status, found.body), (500, b"The script failed.\n"))
    assert b"ScriptMaxMemory is 8.0 MB" in found.stderr and path.encode() in found.stderr, found.stderr
    assert "500 " in place.log.lines[-1] and path in place.log.lines[-1]
    equal(place.request("x.lua").body, b"on")


def a_script_over_its_memory_is_a_500_that_names_script_and_limit_and_a_strike(site):
    strikes = limited(site)
    fails(site, "local t = {} for i = 1, 1e8 do t[i] = {} end")
    equal([(strike.path, strike.reason) for strike in strikes], [((site.folder + "/x.lua").encode(), "memory")])
    assert strikes[0].started > 0


def bombs_of_every_kind_are_stopped(site):
    limited(site)
    for bomb in ("local s = ('x'):rep(1e9)", "local s = 'x' while true do s = s .. s end",
                 "local s = ('x'):rep(1e6) for i = 1, 1000 do Send(s) end",
                 "local s = ('x'):rep(1e6) Send((s:gsub('x', s)))", "local s = ('x'):rep(1e6) :rep(1e3)",
                 "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e5 + i) end table.concat(t)",
                 "local function f() return 1 + f() end local t = {} while true do "
                 "t[#t + 1] = coroutine.wrap(function(...) f = nil coroutine.yield(...) end) t[#t](('x'):rep(#t)) end",
                 "coroutine.wrap(function() local t = {} while true do t[#t + 1] = {} end end)()",
                 "local t = {} for i = 1, 1e8 do t[('k'):rep(9) .. i] = true end"):
        fails(site, bomb)


def a_script_that_catches_it_goes_on_within_its_memory(site):
    limited(site)
    site.write("x.lua", "function main() for i = 1, 50 do assert(not pcall(string.rep, 'x', 1e9)) end "
               "Send('caught') end")
    for _ in range(3):
        equal(site.request("x.lua").body, b"caught")


def garbage_is_not_what_a_script_needs(site):
    limited(site)
    for code in ("local s = ('x'):rep(1e4) for i = 1, 100 do local s = s:rep(100) .. i end Send('done')",
                 "for i = 1, 5e5 do local t = { i } end Send('done')",
                 "keep = {} local s = ('x'):rep(1e4) for i = 1, 2 do keep[i] = s:rep(100) .. i end "
                 "for i = 1, 300 do local s = s:rep(10) .. i end keep = nil Send('done')"):
        site.write("g.lua", "function main() %s end" % code)
        for _ in range(5):
            equal(site.request("g.lua").body, b"done")


def a_body_over_the_limit_never_aborts_the_worker(site):
    # lupa pushes arguments outside of any protection.
    limited(site)
    fails(site, "local t = {} for i = 1, 1e5 do t[i] = {} end", body=b"x" * (LIMIT + MB))
    equal(site.run("Send('on')", body=b"x" * (LIMIT // 2)).body, b"on")


def a_host_function_that_gives_more_than_there_is_never_hangs_the_worker(site):
    # lupa's callbacks would be left with Python's lock held.
    limited(site)
    fails(site, "local s = Receive() local t = {} for i = 1, 1e5 do t[i] = {} end",
          body=io.BytesIO(b"x" * (LIMIT + MB)))
    fails(site, "coroutine.wrap(function() local s = Receive() local t = {} for i = 1, 1e5 do t[i] = {} end end)()",
          body=io.BytesIO(b"x" * (LIMIT + MB)))


class Broken(io.BytesIO):
    def read(self, size=-1):
        raise OSError("x" * MB)


def a_host_function_that_fails_with_a_full_heap_never_hangs_the_worker(site):
    limited(site)
    found = site.run("""
        local full, size = {}, 2 ^ 20
        while size >= 16 do
          if not pcall(function() full[#full + 1] = ('x'):rep(size) .. #full end) then size = size / 2 end
        end
        local failed = 0
        for i = 1, 100 do if not pcall(Receive) then failed = failed + 1 end end
        full = nil
        Send(failed)""", body=Broken())
    assert found.status == 500 or found.body == b"100", found.raw
    equal(site.run("Send('on')").body, b"on")


def finalizers_that_call_host_functions_while_python_passes_values_do_no_harm(site):
    limited(site)
    site.write("x.lua", NEWPROXY + """
        function main()
          local log = Log
          for i = 1, 200 do with_finalizer(function() log('gone') end) end
          local size = 0
          for i = 1, 100 do size = size + #Receive(9e5) end
          Send(size)
        end""")
    body = b"".join(b"%9d" % number * 100_000 for number in range(100))
    for _ in range(2):
        equal(site.request("x.lua", body=io.BytesIO(body)).body, b"90000000")
    assert "gone" in site.log.lines


def top_level_code_is_limited_too_and_is_no_reason_to_fail_elsewhere(site):
    strikes = limited(site)
    site.write("top.lua", "big = ('x'):rep(1e9) function main() end")
    for _ in range(2):
        found = site.request("top.lua")
        equal(found.status, 500)
        assert b"ScriptMaxMemory" in found.stderr, found.stderr
        equal(site.run("Send('on')").body, b"on")
    equal(len(strikes), 2)


def a_script_file_over_the_limit_is_not_read(site):
    strikes = limited(site)
    path = site.write("big.lua", b"--[[" + b"x" * LIMIT + b"]] function main() Send('big') end")
    found = site.request("big.lua")
    equal(found.status, 500)
    assert path.encode() in found.stderr and b"ScriptMaxMemory is 8.0 MB" in found.stderr, found.stderr
    equal(len(strikes), 1)
    site.write("big.lua", "function main() Send('small') end")
    equal(site.request("big.lua").body, b"small")


def limited_states_are_freed_when_they_are_closed(site):
    limited(site)
    fails(site, "local s = ('x'):rep(1e9)")
    site.write("top.lua", "big = ('x'):rep(1e9) function main() end")
    equal(site.request("top.lua").status, 500)
    entry = next(iter(site.pool._entries.values()))
    hosts = [weakref.ref(state._host) for state in entry.idle]
    assert hosts
    del entry
    site.pool.close()
    assert [host() for host in hosts] == [None], "the runtime lives on"
    gc.collect()


def every_part_of_the_prelude_works_in_a_limited_state(site):
    site.configure(script_max_memory=LIMIT, session_cookie_secure=False)
    site.write("m.lua", "return 'module'")
    found = site.run("""
        Session.Start() Session.SetVar('r', 'k', { 1, 'two' })
        Shared.Set('k', { 3 })
        local p = io.popen('echo popen') local line = p:read('*l') p:close()
        print('printed') Header('X-A', 'b') RespStatus(201)
        Send(require('m') .. Session.GetVar('r', 'k')[2] .. Shared.Get('k')[1] .. line .. Receive())
        coroutine.wrap(function() Send('co') coroutine.yield() end)()""", body=b"body")
    equal((found.status, found.body), (201, b"moduletwo3popenbodyco"))
    site.pool.housekeep()
    equal(site.run("Send('on')").body, b"on")


def without_the_option_a_failed_allocation_of_lua_s_ends_its_state_too(site):
    site.configure()
    site.write("x.lua", "n = 0 function main() n = n + 1 if Env.X then error('not enough memory', 0) end Send(n) end")
    equal(site.request("x.lua").body, b"1")
    found = site.request("x.lua", X="1")
    equal(found.status, 500)
    assert b"/x.lua: not enough memory" in found.stderr and b"ScriptMaxMemory" not in found.stderr, found.stderr
    equal(site.request("x.lua").body, b"1")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("promise", list(promises(globals())))
def test_script_memory(promise, version):
    check(__file__, version, promise)
