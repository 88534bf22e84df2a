"""Another thread stops a script, or asks where it is, whatever the script does; nothing else is hit by it."""
import gc
import os
import threading
import time
import weakref

import pytest
from lua_site import VERSIONS, check, equal, promises

from luafcgid2.errors import ScriptError, ScriptTimeout
from luafcgid2.params import Wanted, encode
from luafcgid2.script import Script

PATIENCE = 20
# Compiled loops of LuaJIT call no hooks: scripts with a limit run interpreted there.
SLOW = "if jit then jit.off() end\n"


class Run:
    """A script that runs in a thread of its own, from the moment that it has called Log('#')."""

    def __init__(self, site, source, name="run.lua"):
        path = site.write(name, SLOW + source).encode()
        self.site, self.state = site, site.pool.checkout(Script(path, path, site.folder.encode()))
        self.wanted = Wanted(path, site.folder.encode())
        self.result = self.error = None
        self.start()
        until(lambda: "#" in site.log.text() or self.ended)

    def start(self):
        self.params = encode({"SCRIPT_FILENAME": self.wanted[0], "DOCUMENT_ROOT": self.wanted[1]})
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self.result = self.state.handle(self.params, b"", 0, self.wanted)
        except Exception as error:
            self.error = error

    @property
    def ended(self):
        return not self._thread.is_alive()

    def wait(self):
        until(lambda: self.ended)
        self.site.pool.checkin(self.state)
        return self.result if isinstance(self.result, (bytes, type(None))) else b"".join(self.result[:2])

    def stop(self, message="too long"):
        """Interrupt as the worker's main thread does: again and again until the script is gone."""
        def told():
            self.state.interrupt(message, self.params)
            return self.ended
        until(told)
        self.wait()
        return self.error

    def trace(self):
        found = []
        until(lambda: found.append(self.state.traceback()) or found[-1])
        return found[-1]


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.002)


def stops(place, body, line="", before=""):
    """The script with this `main` is stopped; `line` is in the traceback."""
    site = place
    run = Run(site, before + "\nfunction main() Log('#')\n%s\nend" % body)
    until(lambda: line in (run.state.traceback() or "" if line else ""))
    error = run.stop()
    assert isinstance(error, ScriptTimeout), (body, error)
    equal((str(error), error.status), ("too long", 504))
    assert "stack traceback:" in error.traceback and "run.lua:" in error.traceback, error.traceback
    assert "luafcgid2" not in error.traceback and "?:" not in error.traceback, error.traceback
    assert line in error.traceback, error.traceback
    assert run.state.broken
    site.log.lines.clear()


def an_endless_loop_is_stopped(site):
    stops(site, "while true do end", "run.lua:4:")
    stops(site, "repeat local x = 1 until false")
    stops(site, "for i = 1, math.huge do local x = i end")
    stops(site, "::top:: goto top" if site.engine.version != "5.1" else "while true do end")


def functions_that_run_are_named_in_the_traceback(site):
    stops(site, "spin()", "run.lua:2: in function 'spin'", "function spin() while true do end end")
    stops(site, "local t = { turn = spin } t:turn()", "in method 'turn'", "function spin() while true do end end")


def the_running_coroutine_is_found_in_every_version(site):
    run = Run(site, "function main() if Env.X then coroutine.wrap(Log)('in a coroutine') end Log('#') end")
    run.wait()
    target = run.state._target
    assert target._main
    # From the first coroutine on.
    assert not target._current
    site.request("run.lua", X="1")
    equal(bool(target._current and target._claimed), site.engine.version != "jit")


def an_endless_loop_in_coroutines_is_stopped(site):
    spin = "local function spin() while true do end end\n"
    stops(site, spin + "coroutine.resume(coroutine.create(spin))", "run.lua:4:")
    stops(site, spin + "coroutine.wrap(spin)()", "run.lua:4:")
    stops(site, spin + "coroutine.wrap(function() coroutine.wrap(function() coroutine.wrap(spin)() end)() end)()")
    stops(site, spin + "coroutine.resume(coroutine.create(function() coroutine.wrap(spin)() end))")


def a_script_that_catches_the_error_is_stopped(site):
    stops(site, "while true do pcall(function() while true do end end) end")
    stops(site, "while true do pcall(error, 'mine') end")
    stops(site, "local function again() pcall(again) return again() end again()")
    stops(site, "while true do xpcall(function() while true do end end, function() while true do end end) end")
    stops(site, "while true do xpcall(function() while true do end end, debug.traceback) end")
    stops(site, "while true do xpcall(function() while true do end end, print) end")


def a_coroutine_that_catches_the_error_is_stopped(site):
    stops(site, "while true do coroutine.resume(coroutine.create(function() while true do end end)) end")
    stops(site, "while true do pcall(coroutine.wrap(function() while true do end end)) end")
    stops(site, "local function nest() while true do pcall(coroutine.wrap(nest)) end end nest()")
    stops(site, """
        coroutine.wrap(function()
          while true do
            pcall(function()
              coroutine.wrap(function() while true do pcall(function() while true do end end) end end)()
            end)
          end
        end)()""")


def a_script_that_changes_coroutines_all_the_time_is_stopped(site):
    stops(site, "local co = coroutine.wrap(function() while true do coroutine.yield() end end) while true do co() end")
    stops(site, "while true do coroutine.wrap(function() local x = {} end)() end")
    stops(site, "while true do local co = coroutine.create(function() local x = {} coroutine.yield() end)"
                " coroutine.resume(co) co = nil end")


def callbacks_of_c_functions_are_stopped(site):
    stops(site, "local t = {} for i = 1, 100 do t[i] = i end table.sort(t, function() while true do end end)")
    stops(site, "string.gsub('x', 'x', function() while true do end end)")
    stops(site, "local t = setmetatable({}, { __index = function() while true do end end }) return t.x")
    stops(site, "local t = setmetatable({}, { __tostring = function() while true do end end }) tostring(t)")
    stops(site, "load(function() while true do end end)()")


def what_is_closed_by_an_error_is_stopped(site):
    if site.engine.version in ("5.4", "5.5"):
        stops(site, "local x <close> = setmetatable({}, { __close = function() while true do end end })"
                    " while true do end")
        stops(site, "local co = coroutine.create(function() local x <close> = setmetatable({}, { __close ="
                    " function() while true do end end }) coroutine.yield() end) coroutine.resume(co)"
                    " coroutine.close(co)")


def a_hook_of_the_script_s_own_does_not_keep_it(site):
    # LuaJIT keeps "a hook is running" in the byte that another thread's lua_sethook writes: that may be lost.
    if site.engine.version != "jit":
        stops(site, "while true do debug.sethook() debug.sethook(function() end, '', 1) end")


def a_top_level_that_does_not_end_is_stopped(site):
    path = site.write("top.lua", SLOW + "print('#') while true do end function main() end").encode()
    script, errors = Script(path, path, site.folder.encode()), []

    def build():
        try:
            site.pool.checkout(script)
        except ScriptError as error:
            errors.append(error)
    thread = threading.Thread(target=build, daemon=True)
    thread.start()
    until(lambda: "#" in site.log.text())
    building = site.pool._services.building
    state = building[thread.ident]

    def told():
        state.interrupt("too long")
        return not thread.is_alive()
    until(told)
    equal([(str(error), error.status) for error in errors], [("too long", 504)])
    equal(building, {})


def a_running_script_is_traced_and_goes_on(site):
    run = Run(site, "function spin() while not done do done = rawget(_G, 'ready') end end\n"
                    "function main() Log('#') count = 0 for i = 1, 3e6 do count = count + 1 end Send(count) end")
    found = run.trace()
    assert found.startswith("stack traceback:\n\t") and "run.lua:3: in " in found, found
    assert "luafcgid2" not in found and "\n\t[C]" not in found, found
    assert run.wait().endswith(b"3000000"), run.error
    assert not run.state.broken
    run.start()
    assert run.wait().endswith(b"3000000"), run.error


def a_script_in_a_coroutine_is_traced_with_what_resumed_it(site):
    for call in ("coroutine.wrap(spin)()", "coroutine.resume(coroutine.create(spin))"):
        run = Run(site, "function spin() Log('#') while true do end end\nfunction main()\n%s\nend" % call)
        found = run.trace()
        assert "run.lua:2: in " in found, found
        assert site.engine.version == "jit" or "run.lua:4: in " in found, found
        run.stop()
        site.log.lines.clear()


def many_traces_change_nothing(site):
    run = Run(site, """
        local function numbers(n) for i = 1, n do coroutine.yield(i) end end
        function main()
          Log('#')
          local sum = 0
          for _ = 1, 2000 do
            for i in coroutine.wrap(function() numbers(100) end) do sum = sum + i end
          end
          Send(string.format('%d', sum))
        end""")
    while not run.ended:
        run.state.traceback()
    assert run.wait().endswith(b"\r\n\r\n10100000"), (run.result, run.error)
    assert not run.state.broken


def a_script_keeps_its_own_hook_through_a_trace(site):
    run = Run(site, """
        function main()
          local calls, before = 0, nil
          debug.sethook(function() calls = calls + 1 end, '', 1000)
          Log('#')
          before = calls
          while calls < before + 3000 do end
          local hook, mask, count = debug.gethook()
          debug.sethook()
          Send(tostring(hook ~= nil) .. tostring(count))
        end""")
    run.trace()
    assert run.wait().endswith(b"true1000"), (run.result, run.error)


def an_idle_state_cannot_be_hit(site):
    run = Run(site, "function main() Log('#') local s = 0 for i = 1, 1000 do s = s + i end Send(s) end")
    run.wait()
    equal(run.state.interrupt("too long"), False)
    equal(run.state.interrupt("too long", run.params), False)
    equal(run.state.traceback(), None)
    over = run.params
    run.start()
    equal([run.state.interrupt("too long", over), run.state.traceback(over)], [False, None])
    assert b"500500" in run.wait(), run.error
    assert not run.state.broken


def a_request_that_ends_just_then_is_whole_and_the_next_one_is_not_hit(site):
    source = "function main() Log('#') local s = 0 for i = 1, 300 do s = s + i end Send(s) end"
    run = Run(site, source)
    run.wait()
    whole = stopped = 0
    for _ in range(300):
        state = site.pool.checkout(run.state.version.script)
        run.state, run.result, run.error = state, None, None
        run.start()
        while not run.ended:
            state.interrupt("too long", run.params)
        run.wait()
        if run.error is None:
            assert b"45150" in run.result
            whole += 1
        else:
            equal((type(run.error), str(run.error)), (ScriptTimeout, "too long"))
            assert state.broken
            stopped += 1
        with site.pool.checkout(run.state.version.script) as after:
            assert b"45150" in after.handle(run.params, b"", 0, run.wanted)
    equal(whole + stopped, 300)


def a_state_that_is_closed_meanwhile_is_not_touched(site):
    run = Run(site, "function main() Log('#') end")
    run.wait()
    with site.pool.checkout(run.state.version.script) as state:
        state.running = "a request"
        state.close()
        equal([state.interrupt("too long"), state.traceback()], [False, None])
        state.broken = True


def a_call_into_c_is_not_stopped_and_the_request_ends_by_its_own_error_after_it(site):
    started = os.path.join(site.folder, "started")
    run = Run(site, "function main() Log('#') os.execute('touch %s; sleep 0.5') Send('x') end" % started)
    # The script has called Log, but need not be in C yet.
    until(lambda: os.path.exists(started))
    equal(run.state.traceback(), None)
    equal(run.state.interrupt("too long"), True)
    equal(run.ended, False)
    run.wait()
    equal((type(run.error), str(run.error)), (ScriptTimeout, "too long"))


def a_script_that_is_not_interrupted_fails_by_its_own_error(site):
    run = Run(site, "function main() Log('#') error('mine\\3') end")
    run.wait()
    equal(type(run.error), ScriptError)
    run = Run(site, """
        function main()
          Log('#')
          xpcall(function() error('mine') end, function() handled = true end)
          Send(tostring(handled))
        end""", "own.lua")
    assert run.wait().endswith(b"true"), run.error


def a_script_is_stopped_where_no_hook_can_call_python(site):
    site.pool._services.interrupter.calls_back = False
    for body in ("while true do pcall(function() end) end", "coroutine.wrap(function() while true do end end)()"):
        run = Run(site, "function main() Log('#') %s end" % body)
        equal(run.state.traceback(), None)
        equal(type(run.stop()), ScriptTimeout)
        site.log.lines.clear()


def stopped_states_are_collected(site):
    run = Run(site, "function main() Log('#') coroutine.wrap(function() while true do end end)() end")
    target = weakref.ref(run.state._target)
    run.stop()
    run.error = run.state = None
    gc.collect()
    equal(target(), None)


def coroutines_work_as_lua_s_own(site):
    """coroutine.wrap is a function of the prelude's: values, errors and their positions are as Lua's."""
    site.write("index.lua", """
        local out = {}
        local function put(...)
          for i = 1, select('#', ...) do out[#out + 1] = tostring((select(i, ...))) end
        end
        function main()
          out = {}
          put(coroutine.wrap(function(...) put(...) put(coroutine.yield(1, nil, 3)) return 4, nil end)(5, nil))
          local gen = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end)
          for i in gen do put(i) end
          put(pcall(gen))
          put(select(2, pcall(function() gen() end)))
          put(select(2, pcall(function()
            coroutine.wrap(function() error('deep') end)()
          end)))
          put(select(2, pcall(function() local x = coroutine.wrap(function() error({}) end)() end)) ~= nil)
          put(pcall(coroutine.wrap, 1) == false, pcall(coroutine.resume, 1) == false)
          put(coroutine.resume(coroutine.create(function() return 6, nil, 7 end)))
          local self
          self = coroutine.wrap(function() put(select(2, pcall(self, 1))) end)
          self()
          if coroutine.close then
            local closed = 0
            local f = coroutine.wrap(function()
              local x <close> = setmetatable({}, { __close = function() closed = closed + 1 end })
              error('closing')
            end)
            put(pcall(f)) put(closed)
          end
          Send(table.concat(out, '|'))
        end""".replace("<close>", "" if site.engine.version in ("5.1", "5.2", "5.3", "jit") else "<close>"))
    found = site.request()
    plain = site.engine.new_runtime()
    plain.execute(b"function Send(text) sent = text end")
    with open(site.folder + "/index.lua", "rb") as file:
        code = site.engine.compile(file.read(), b"@" + site.folder.encode() + b"/index.lua")
    plain.eval(b"function(code) (loadstring or load)(code)() main() end")(code)
    equal(found.body, plain.eval(b"sent"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("promise", list(promises(globals())))
def test_interrupt(promise, version):
    check(__file__, version, promise)
