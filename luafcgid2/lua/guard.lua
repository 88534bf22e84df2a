-- Calls a script's functions so that nothing they do escapes: errors become a message and a traceback.
-- In: a function and up to two arguments.  Out: true and the function's value, or false, message, traceback.  EXIT is
-- the error value by which os.exit ends a request; it counts as a good end, and is the value then, unless EXIT.refusal
-- has the message and the HTTP status that the client shall get: then these are what comes out.  Only start.lua,
-- run.lua and hooks.lua use it.

local import = ...
local rawequal, rawget, rawset, select, xpcall = rawequal, rawget, rawset, select, xpcall
local traceback, debug_library, G = debug.traceback, debug, _G

local EXIT, failure, trace = {}, nil, nil
local guard = { EXIT = EXIT }

local function on_error(value)
  -- Lua 5.5 has another value for nil afterwards.
  failure, trace = value, not rawequal(value, EXIT) and traceback("", 2)
  return value
end

local function outcome(ok, value)
  -- lupa asks for this global outside of any protection: without it a strict _G would abort the worker.
  if rawget(G, "debug") == nil then rawset(G, "debug", debug_library) end
  if ok then return true, value end
  local text, found = trace, failure
  if text == nil then found = value end
  failure, trace = nil, nil
  return import("failures").outcome(found, text)
end

-- Lua 5.1 (not LuaJIT) passes no arguments through xpcall.
if select(2, xpcall(function(argument) return argument end, on_error, true)) then
  function guard.call(f, a, b)
    return outcome(xpcall(f, on_error, a, b))
  end
else
  function guard.call(f, a, b)
    return outcome(xpcall(function() return f(a, b) end, on_error))
  end
end

return guard
