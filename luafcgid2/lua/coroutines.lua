-- Keeps track of the coroutine that runs: Lua's debug hooks belong to one coroutine each, so whoever interrupts a
-- script from another thread must know which one it is in.
-- In: coroutines of scripts.  Out: resume, wrap and close, which scripts see by way of later.lua.  Loaded when one is
-- first called: then Python is told the addresses by which it finds this state and the two tables below in memory.
-- LuaJIT's hooks are of the whole state: there it is done for the token that ends a request, and for the depth.

local import, host = ...
local coroutine, debug, tostring = coroutine, debug, tostring
local error, rawequal, type = error, rawequal, type
local create, resume, wrap = coroutine.create, coroutine.resume, coroutine.wrap
local status, close = coroutine.status, coroutine.close

local coroutines = {}
-- Lua 5.1 has no object for the main coroutine: one that never runs stands for it.
local MAIN = coroutine.running() or create(function() end)
-- An error's position is that of the caller; Lua 5.1 counts a tail call as a level.
local CALLER = _VERSION == "Lua 5.1" and type(jit) ~= "table" and 3 or 2
-- Python reads the first of these in memory at any time, and it writes the second: while that is not 0, a coroutine
-- that was left may be about to get a hook, and must not be collected.  They are tables of one place, which does not
-- move; what is assigned to a variable would never be young again to the generational collector.
local current, claimed = { MAIN }, { 0 }
local exit_token = import("guard").EXIT
-- LuaJIT does not count how deep C calls lie in each other, and a C stack that ends ends the process.  As PUC's limit.
local DEEPEST = type(jit) == "table" and 200 or math.huge
local depth = 0

local function left(previous, _co, ok, ...)
  current[1], depth = previous, depth - 1
  if claimed[1] ~= 0 then host.interrupted() end
  if not ok and rawequal((...), exit_token) then error(exit_token, 0) end
  return ok, ...
end

local function tracked_resume(co, ...)
  if type(co) ~= "thread" then return resume(co, ...) end
  if depth >= DEEPEST then return false, "C stack overflow" end
  local previous = current[1]
  current[1], depth = co, depth + 1
  return left(previous, co, resume(co, ...))
end

local function tracked_close(co, ...)
  if type(co) ~= "thread" then return close(co, ...) end
  local previous = current[1]
  current[1], depth = co, depth + 1
  return left(previous, co, close(co, ...))
end

local function unwrapped(previous, co, ok, ...)
  current[1], depth = previous, depth - 1
  if claimed[1] ~= 0 then host.interrupted() end
  if ok then return ... end
  local value = ...
  if rawequal(value, exit_token) then error(exit_token, 0) end
  -- What a failed coroutine was to close is closed now, and may fail, too.
  if close and status(co) == "dead" then
    local fine, other = tracked_close(co)
    if not fine then value = other end
  end
  error(value, CALLER)
end

local function tracked_wrap(f)
  if type(f) ~= "function" then return wrap(f) end
  local co = create(f)
  return function(...)
    if depth >= DEEPEST then error("C stack overflow", 2) end
    local previous = current[1]
    current[1], depth = co, depth + 1
    return unwrapped(previous, co, resume(co, ...))
  end
end

coroutines.resume, coroutines.wrap = tracked_resume, tracked_wrap
if close then coroutines.close = tracked_close end

-- What Python knows the address of is there as long as the state.
debug.getregistry()[coroutines] = { MAIN, current, claimed }
if type(jit) ~= "table" then host.tracked(tostring(MAIN), tostring(current), tostring(claimed)) end

return coroutines
