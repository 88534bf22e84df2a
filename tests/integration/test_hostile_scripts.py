"""A real worker survives every known way to kill or hang it, with each Lua version: the next request is answered by
the same process."""
from __future__ import annotations

import os

import pytest
from controlled import Daemon
from harness import Site, is_alive, wait_until
from test_worker import Worker

from luafcgid2 import client
from luafcgid2.runtime import Engine

VERSIONS = [version for version in ("5.1", "5.3", "5.4", "5.5", "jit") if version in Engine.versions()]
MB = 1 << 20
STRICT = "setmetatable(_G, { __index = function(_, k) error('undefined ' .. tostring(k), 2) end, " \
         "__newindex = function(_, k) error('undeclared ' .. tostring(k), 2) end })"
FILL = "local full, size = {}, 2 ^ 20 while size >= 16 do " \
       "if not pcall(function() full[#full + 1] = ('x'):rep(size) .. #full end) then size = size / 2 end end "
DEEP = "local function f(s) return (s:gsub('.', f)) end f('x')"

# What kills or hangs a worker that does not know it: name -> (source, body, options, statuses).
TRIGGERS = {
    "a strict _G without debug": ("function main() Send('x') end debug = nil " + STRICT, b"", {}, (200,)),
    "a strict _G without debug, from within": ("function main() if not done then done = true debug = nil " + STRICT
                                               + " end Send('x') end", b"", {}, (200,)),
    "a strict _G that failed": ("function main() debug = nil " + STRICT + " error({}) end", b"", {}, (500,)),
    "a _G that takes no values": ("setmetatable(_G, { __newindex = function() error('no') end }) "
                                  "function main() end", b"", {}, (500,)),
    "not a number for a key": ("function main() pcall(function() Env[0/0] = 1 end) Shared.Set('n', 0/0) "
                               "Session.SetVar('r', 'k', { 0/0 }) Receive(0/0) end", b"", {}, (500,)),
    "an argument over the limit": ("function main() local t = {} for i = 1, 1e5 do t[i] = {} end end",
                                   b"x" * 9 * MB, {"body_memory": 16 * MB}, (500,)),
    "a callback's result over the limit": ("function main() local s = Receive() local t = {} "
                                           "for i = 1, 1e5 do t[i] = {} end end", b"x" * 9 * MB, {}, (500,)),
    "a callback's error at the limit": ("function main() " + FILL + "for i = 1, 100 do pcall(Session.GetVar, 'r', 'k') "
                                        "pcall(require, 'none' .. i) end full = nil Send('x') end",
                                        b"", {"session_store": "sqlite:///proc/none/state.db"}, (200, 500)),
    "functions passed from a coroutine that is gone": (
        "function main() for i = 1, 100 do coroutine.wrap(function() for _, f in pairs { Log, Receive, Send, Header, "
        "Session.GetVar, Session.SetVar, Shared.Set, io.popen, dofile, require, print } do pcall(f, function() end) "
        "pcall(f, {}, function() end, coroutine.create(print)) end end)() end collectgarbage() collectgarbage() end",
        b"", {}, (200,)),
    "endless recursion": ("function main() local function f() return 1 + f() end f() end", b"", {}, (500,)),
    "recursion in C": ("function main() " + DEEP + " end", b"", {}, (500,)),
    "recursion of coroutines": ("function main() local function f() return coroutine.wrap(f)() end f() end", b"", {},
                                (500,)),
    "os.exit": ("function main() pcall(os.exit, 1) end", b"", {}, (200,)),
    "a string of 1 GB": ("function main() Send(('x'):rep(2 ^ 30)) end", b"", {}, (500,)),
    "errors in finalizers": ("function main() local function bomb() error(nil) end for i = 1, 1000 do if newproxy then "
                             "getmetatable(newproxy(true)).__gc = bomb else setmetatable({}, { __gc = bomb }) end end "
                             "end", b"", {}, (200,)),
}


def ask(worker, name, body=b""):
    """The answer to a POST."""
    return client.request(worker.address, dict(worker.params(name), CONTENT_LENGTH=str(len(body))), body, timeout=60)


def write(worker, name, source):
    with open(os.path.join(worker.folder, name), "w") as file:
        file.write(source)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_worker_survives_what_kills_or_hangs_lupa(version):
    for name, (source, body, options, statuses) in TRIGGERS.items():
        with Worker(lua_version=version, worker_threads=1, script_max_memory=8 * MB, max_post_size=64 * MB,
                    **options) as worker:
            write(worker, "trigger.lua", source)
            for _ in range(2):
                answer = ask(worker, "trigger.lua", body)
                assert answer.status in statuses, (name, answer, worker.log_text())
                assert worker.ask().body == b"hello", name
            # Its first state is collected, and closed in the end.
            assert worker.process.poll() is None, name
            worker.signal(15)
            assert worker.exit_code() == 0, (name, worker.output())


def test_a_worker_with_c_modules_survives():
    # Modules of two versions in one process crash it: a worker has one engine.
    for version in VERSIONS:
        with Worker(lua_version=version) as worker:
            write(worker, "json.lua", "local ok, json = pcall(require, 'cjson') "
                                      "function main() Send(ok and json.encode { 1 } or '[1]') end")
            assert worker.ask("json.lua").body == b"[1]"
            assert worker.ask().body == b"hello"


LOOPS = {
    "plain": "while true do end",
    "that catches": "while true do pcall(function() while true do end end) end",
    "in a coroutine": "coroutine.wrap(function() while true do end end)()",
    "in coroutines that catch": "while true do pcall(coroutine.wrap(function() while true do pcall(error) end end)) "
                                "end",
    "at an allocation": "local t = {} while true do t = { t = nil, 1 } end",
}


@pytest.mark.parametrize("version", VERSIONS)
def test_endless_loops_end_at_script_max_time_and_the_worker_lives(version):
    with Worker(lua_version=version, request_timeout=0.2, worker_threads=1) as worker:
        for name, loop in LOOPS.items():
            # LuaJIT's compiled loops cannot be interrupted: a site that wants them to be switches them off.
            write(worker, "loop.lua", "if jit then jit.off() end function main() %s end" % loop)
            assert (name, worker.ask("loop.lua").status) == (name, 504)
            assert worker.ask().body == b"hello"
            os.unlink(os.path.join(worker.folder, "loop.lua"))
            write(worker, "loop.lua", "")


@pytest.mark.skipif("jit" not in VERSIONS, reason="this machine has no LuaJIT")
def test_a_compiled_loop_costs_its_worker_and_with_jit_off_it_does_not():
    with Site() as site:
        site.write("spin.lua", "function main() while true do end end")
        site.write("fine.lua", "function main() Send('fine') end")
        startup = os.path.join(site.run, "startup.lua")
        with open(startup, "w") as file:
            file.write("if jit then jit.off() end")
        for off in (True, False):
            with Daemon(site, Workers=1, WorkerThreads=2, LuaVersion="jit", ScriptMaxTime=0.2,
                        RequestTerminateTimeout=0.5, StopTimeout=20,
                        **({"StartupScript": startup} if off else {})) as daemon:
                daemon.expect_errors("spin.lua|is killed|was killed|is replaced|^    ")
                [worker] = daemon.serving()
                try:
                    answer = client.request(daemon.address, {
                        "SCRIPT_FILENAME": site.www + "/spin.lua", "DOCUMENT_ROOT": site.www, "REQUEST_METHOD": "GET",
                        "SCRIPT_NAME": "/spin.lua"}, timeout=60)
                    assert off and answer.status == 504
                except (OSError, client.ProtocolError):
                    assert not off
                    wait_until(lambda pid=worker: not is_alive(pid), "the worker is gone")
                wait_until(daemon.serving, "a worker serves")
                assert daemon.ask("fine.lua") == "fine"
                assert (daemon.serving() == [worker]) == off


def test_a_script_over_its_memory_is_logged_and_quarantined():
    with Site() as site:
        site.write("hog.lua", "function main() local t = {} for i = 1, 1e8 do t[i] = {} end end")
        site.write("fine.lua", "function main() Send('fine') end")
        with Daemon(site, Workers=1, ScriptMaxMemory="4M", QuarantineStrikes=2, QuarantineTime=600) as daemon:
            daemon.expect_errors("hog.lua")
            workers = daemon.serving()

            def get():
                return client.request(daemon.address, {
                    "SCRIPT_FILENAME": site.www + "/hog.lua", "DOCUMENT_ROOT": site.www, "REQUEST_METHOD": "GET",
                    "SCRIPT_NAME": "/hog.lua"}, timeout=60).status
            assert [get(), get()] == [500, 500]
            wait_until(lambda: get() == 503, "it is refused")
            assert daemon.ask("fine.lua") == "fine"
            assert daemon.serving() == workers
            text = daemon.log_text()
            assert "500 %s/hog.lua: not enough memory: ScriptMaxMemory is 4.0 MB" % site.www in text
            assert "it took too much memory" in text


def test_a_file_that_the_workers_may_not_read_is_403():
    if os.getuid():
        pytest.skip("only root can start workers as somebody else")
    with Site() as site:
        site.write("fine.lua", "function main() Send('fine') end")
        path = os.path.join(site.www, "secret.lua")
        with open(path, "w") as file:
            file.write("function main() Send('secret') end")
        os.chmod(path, 0o600)
        os.chmod(site.path, 0o755)
        with Daemon(site, Workers=1, User="nobody") as daemon:
            daemon.expect_errors("403 .*secret.lua")
            answer = client.request(daemon.address, {
                "SCRIPT_FILENAME": path, "DOCUMENT_ROOT": site.www, "REQUEST_METHOD": "GET",
                "SCRIPT_NAME": "/secret.lua"}, timeout=60)
            assert answer.status == 403 and b"function" not in answer.body
            assert daemon.ask("fine.lua") == "fine"


def test_names_break_no_line_of_the_log():
    with Worker() as worker:
        name = "x\n2001-01-01 00:00:00 forged line.lua"
        write(worker, name, "function main() error('here') end")
        assert worker.ask(name).status == 500
        assert worker.ask().body == b"hello"
        lines = worker.log_text().splitlines()
        assert any("forged" in line for line in lines)
        assert not any(line.startswith("2001-01-01 00:00:00 forged") for line in lines)
