-- os.exit, which ends the request, and xpcall, which must not stop that.
-- In: calls of scripts, and of request.lua.  Out: an error whose value is guard.EXIT: it passes through everything that
-- would otherwise catch it.  Loaded when one is first called; pcall is in stdlib.lua.

local import = ...
local token = import("guard").EXIT
local error, rawequal, select, type, xpcall = error, rawequal, select, type, xpcall
local sub, traceback = string.sub, debug.traceback

local exits = {}
local leaving = false

-- The error by which Python stops a script.  No hook runs inside a handler, which could then go on for ever.
local function stopped(value)
  return type(value) == "string" and sub(value, -1) == "\3"
end

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
function exits.leave(refusal)
  leaving, token.refusal = true, refusal
  error(token, 0)
end

function exits.exit()
  exits.leave()
end

function exits.xpcall(...)
  local f, handler = ...
  -- debug.traceback gives a table back untouched, and called directly it starts at the right level.
  if type(handler) ~= "function" or handler == traceback then return pass(xpcall(...)) end
  leaving = false
  return pass_handled(xpcall(f, function(value)
    if rawequal(value, token) or stopped(value) then return value end
    return handler(value)
  end, select(3, ...)))
end

return exits
