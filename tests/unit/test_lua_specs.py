"""Runs every Lua spec file in every Lua version that lupa ships here.

Each (spec, version) has a process of its own: two Lua versions with C modules in one process crash it, and
stdlib.lua changes the whole runtime.  As a program (`python test_lua_specs.py VERSION SPEC`) this file runs
one spec and prints what failed.
"""
import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SPECS = os.path.join(ROOT, "tests", "spec")
sys.path.insert(0, ROOT)

from luafcgid2.popen import Popens  # noqa: E402
from luafcgid2.runtime import Engine, text  # noqa: E402

PROGRAM = b"""
local runner = {}
local codes, host, loaded = {}, {}, {}
local load = loadstring or load
-- As boot.lua does it: what a state does not start with sees the library as it was.
local START = { guard = true, later = true, stdlib = true }
local plain, surroundings
local function import(name)
  plain = plain or load(codes.plain)()
  if loaded[name] == nil then
    local chunk = assert(load(codes[name], name))
    if not START[name] then
      surroundings = surroundings or load(codes.surroundings)(plain)
      chunk = setfenv and setfenv(chunk, surroundings) or load(codes[name], name, nil, surroundings)
    end
    loaded[name] = chunk(import, host)
  end
  return loaded[name]
end
function runner.host(name, callable) host[name] = function(...) return callable(...) end end
function runner.module(name, code) codes[name] = code end
function runner.run(support, spec)
  local tools = load(support, "support")()
  assert(load(spec, "spec"))(import, host, tools.spec, tools.check)
  return tools.report()
end
return runner
"""


def spec_files():
    return sorted(name for name in os.listdir(SPECS) if name.endswith("_spec.lua"))


@pytest.mark.parametrize("version", Engine.versions())
@pytest.mark.parametrize("spec", spec_files())
def test_every_promise_of_the_spec_holds(spec, version):
    done = subprocess.run([sys.executable, os.path.abspath(__file__), version, spec], cwd=ROOT, timeout=120,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace")


def test_there_are_specs():
    assert len(spec_files()) >= 4


def safe(function):
    def call(*arguments):
        try:
            return function(*arguments)
        except Exception as error:
            return None, str(error).encode()
    return call


def children():
    """Processes whose parent is this one, zombies included; for specs about what is left behind."""
    found = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, "rb") as file:
                    found += int(file.read().rpartition(b")")[2].split()[1]) == os.getpid()
            except OSError:
                continue
    return found


def inheritable():
    """How many descriptors above 2 a command of os.execute would inherit."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += int(name) > 2 and os.get_inheritable(int(name))
        except OSError:
            continue
    return found


def host_functions():
    popens = Popens()
    return {
        "popen_open": popens.open, "popen_opened": popens.opened, "popen_wait": popens.wait,
        "tracked": lambda *_addresses: None, "test_children": children, "test_inheritable": inheritable,
        "test_descriptors": lambda: len(os.listdir("/proc/self/fd")),
    }


def read(path):
    with open(path, "rb") as file:
        return file.read()


def main(version, spec):
    engine = Engine(version)
    runner = engine.new_runtime().execute(PROGRAM)
    for name, function in host_functions().items():
        runner[b"host"](name.encode(), safe(function))
    for name, code in engine.prelude():
        runner[b"module"](name, code)
    support = engine.compile(read(os.path.join(SPECS, "support.lua")), b"@support.lua")
    code = engine.compile(read(os.path.join(SPECS, spec)), b"@" + spec.encode())
    failures, count = runner[b"run"](support, code)
    print(text(failures) or "%d promises hold" % count)
    return 1 if failures or not count else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
