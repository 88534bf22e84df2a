-- Makes the standard library fit for a server process that many scripts share.
-- In: install(seed), once per Lua state before a script's code runs; `seed` is a random number.  Out: nothing; globals
-- are replaced in place.  Modules of the prelude keep the originals (see plain.lua).  What is not named here stays as
-- Lua has it.

local import = ...
local later, token = import("later"), import("guard").EXIT
local error, pcall, rawequal = error, pcall, rawequal
local G = _G

-- os.exit ends the request; see exits.lua.
local function pass(ok, ...)
  if not ok and rawequal((...), token) then error(token, 0) end
  return ok, ...
end

local function install_exit()
  function G.pcall(...)
    return pass(pcall(...))
  end
  G.xpcall, G.os.exit = later("xpcall"), later("exit")
end

-- Forked workers would all draw the same numbers.  Lua 5.4 takes both halves, earlier versions the first;
-- the range is what every version converts alike.
local function install_random(seed)
  local floor = math.floor
  math.randomseed(floor(seed % 2147483648), floor(seed / 2147483648))
end

return function(seed)
  G.python, package.loaded.python = nil, nil
  install_exit()
  install_random(seed)
  G.print = later("print")
  local os, io = G.os, G.io
  os.setlocale, os.tmpname = later("setlocale"), later("tmpname")
  if _VERSION ~= "Lua 5.1" then os.execute = later("execute") end
  if not jit then io.popen, io.close = later("popen"), later("close") end
  local coroutine = coroutine
  coroutine.resume, coroutine.wrap = later("resume"), later("wrap")
  if coroutine.close then coroutine.close = later("close_coroutine") end
end
