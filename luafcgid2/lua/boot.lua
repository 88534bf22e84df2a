-- Starts the prelude inside a fresh Lua state.
-- In: host functions, settings and the bytecode of the other modules, one call each; then `start`.  Modules
-- that few scripts need are asked for later, by host.prelude(name).
-- Out: the functions that Python calls: load(code, name, startup, startup_name), handle(params, body, thread),
-- collect(), and the addresses that interrupt.py needs.
-- Only state.py calls it.  A script never sees it.

local load, collectgarbage, assert = loadstring or load, collectgarbage, assert
-- Nothing is garbage while the prelude loads; run.lua turns collections on before the script's code runs.
collectgarbage("stop")
local host, settings, codes, loaded = {}, {}, {}, {}
host.settings = settings

local function import(name)
  local module = loaded[name]
  if module == nil then
    local chunk = assert(load(codes and codes[name] or host.prelude(name), "=[luafcgid2 " .. name .. "]"))
    module = chunk(import, host)
    loaded[name] = module
  end
  return module
end

local boot = {}

-- Before boot.host: the state's memory is limited, except in host functions; enter() says that Lua goes on.
function boot.bound(enter)
  host.enter = function() enter() end
  local function entered(...)
    enter()
    return ...
  end
  function boot.host(name, callable)
    host[name] = function(...) return entered(callable(...)) end
  end
end

-- Python callables are kept as upvalues of plain functions: a script cannot take hold of the Python object.
function boot.host(name, callable)
  host[name] = function(...) return callable(...) end
end

function boot.setting(name, value)
  settings[name] = value
end

function boot.module(name, code)
  codes[name] = code
end

function boot.start()
  local run, coroutines = import("run"), import("coroutines")
  -- What comes later needs these; the others shall not keep alive what they needed at the start only.
  codes, loaded = nil, { api = loaded.api, buffer = loaded.buffer, guard = loaded.guard, headers = loaded.headers,
    lf = loaded.lf, repeated = loaded.repeated, response = loaded.response, session = loaded.session,
    statuses = loaded.statuses, values = loaded.values }
  return run.load, run.handle, run.collect, coroutines.addresses()
end

return boot
