-- Makes the standard library fit for a server process that many scripts share.
-- In: install(env), once per Lua state before a script's code runs; env.log(text) writes to the log,
-- env.exit_token is the error value that ends a request.  Out: nothing; globals are replaced in place.  Modules
-- of the prelude keep the originals, which they fetched before.  What is not named here stays as Lua has it.

local import, host = ...
local popen, coroutines = import("popen"), import("coroutines")
local error, pcall, rawequal, select = error, pcall, rawequal, select
local tostring, type, xpcall = tostring, type, xpcall
local concat, floor, randomseed = table.concat, math.floor, math.randomseed
local sub, traceback = string.sub, debug.traceback
local execute, setlocale = os.execute, os.setlocale
local G = _G

local stdlib = {}

-- The error by which Python stops a script.  No hook runs inside a handler, which could then go on for ever.
local function stopped(value)
  return type(value) == "string" and sub(value, -1) == "\3"
end

-- os.exit ends the request: the token passes through everything that would otherwise catch it.
local function install_exit(token)
  local leaving = false

  local function pass(ok, ...)
    if not ok and rawequal((...), token) then error(token, 0) end
    return ok, ...
  end

  -- LuaJIT replaces any error inside a handler by a message of its own.
  local function pass_handled(ok, ...)
    if not ok and leaving and (...) == "error in error handling" then error(token, 0) end
    return pass(ok, ...)
  end

  -- A refusal is the { status, message } that the client gets instead of what was sent.
  function token.leave(refusal)
    leaving, token.refusal = true, refusal
    error(token, 0)
  end

  function G.os.exit()
    token.leave()
  end

  function G.pcall(...)
    return pass(pcall(...))
  end

  function G.xpcall(...)
    local f, handler = ...
    -- debug.traceback gives a table back untouched, and called directly it starts at the right level.
    if type(handler) ~= "function" or handler == traceback then return pass(xpcall(...)) end
    leaving = false
    return pass_handled(xpcall(f, function(value)
      if rawequal(value, token) or stopped(value) then return value end
      return handler(value)
    end, select(3, ...)))
  end
end

-- Lua 5.2 and later promise true | nil, "exit" | "signal", code; without POSIX in its build Lua passes the raw
-- wait status on as the code.
local function install_execute()
  function G.os.execute(...)
    if (...) == nil then return execute(...) end
    local ok, kind, status = execute(...)
    if kind ~= "exit" or status == 0 or popen.native() then return ok, kind, status end
    local signal = status % 128
    if signal ~= 0 then return nil, "signal", signal end
    return nil, "exit", floor(status / 256)
  end
end

local function install_print(log)
  function G.print(...)
    local parts = { ... }
    for index = 1, select("#", ...) do parts[index] = tostring(parts[index]) end
    log(concat(parts, "\t"))
  end
end

-- The locale belongs to the whole process: scripts may ask for it, and for the one that is always there.
local function install_setlocale()
  function G.os.setlocale(locale, category)
    local current = setlocale(nil, category)
    if locale == nil then return current end
    if locale == "C" or locale == "POSIX" or locale == current then return locale end
    return nil
  end
end

-- Forked workers would all draw the same numbers.  Lua 5.4 takes both halves, earlier versions the first;
-- the range is what every version converts alike.
local function install_random()
  local seed = host.random_seed()
  if type(seed) == "number" then randomseed(floor(seed % 2147483648), floor(seed / 2147483648)) end
end

function stdlib.install(env)
  G.python, package.loaded.python = nil, nil
  install_exit(env.exit_token)
  coroutines.install(env.exit_token)
  install_print(env.log)
  install_setlocale()
  install_random()
  popen.install()
  if _VERSION ~= "Lua 5.1" then install_execute() end
  if host.tmpname then
    function G.os.tmpname() return host.tmpname() end
  end
end

return stdlib
