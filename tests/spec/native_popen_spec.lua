-- A Lua built with POSIX (LuaJIT, or lupa compiled against the system's Lua) has a popen of its own and decodes
-- the status of os.execute: both stay.  The wheels ship no such Lua but LuaJIT, so functions stand in for it.

local import, host, spec, check = ...
local calls = {}
local opened = { close = function() return true end }

rawset(io, "popen", function(command, mode)
  calls[#calls + 1] = tostring(command) .. " " .. tostring(mode)
  return opened
end)
rawset(os, "execute", function() return nil, "exit", 3 end)
import("stdlib")(1)
host.popen_open = function() error("the host's popen was used") end

spec("a popen of Lua's own is used, found out by one call", function()
  if jit then return end
  check.equal(io.popen("date", "r"), opened)
  check.equal(io.popen("date"), opened)
  check.equal(calls, { "exit r", "date r", "date nil" })
end)

spec("a decoded status is not decoded again", function()
  if jit or _VERSION == "Lua 5.1" then return end
  check.values({ n = 3, nil, "exit", 3 }, os.execute("exit 3"))
end)

spec("LuaJIT keeps its own", function()
  if not jit then return end
  check.equal(io.popen("date", "w"), opened)
  check.equal(calls, { "date w" })
end)
