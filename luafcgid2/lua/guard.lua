-- Calls a script's functions so that nothing they do escapes: errors become a message and a traceback.
-- In: a function and up to two arguments.  Out: true and the function's value, or false, message, traceback.  EXIT is
-- the error value by which os.exit ends a request; it counts as a good end, and is the value then, unless EXIT.refusal
-- has the message and the HTTP status that the client shall get: then these are what comes out.  Only run.lua and
-- hooks.lua use it.

local _, host = ...
local pcall, xpcall, type, tostring, rawequal = pcall, xpcall, type, tostring, rawequal
local gsub, match, traceback = string.gsub, string.match, debug.traceback

local rawget, rawset, debug_library, G = rawget, rawset, debug, _G

local guard = { EXIT = {} }
local EXIT = guard.EXIT
local failure, trace

-- What a function of the prelude wants done when the request is over; run.lua looks for it.
function host.at_end(work)
  guard.at_end = work
end

function guard.finish()
  local work = guard.at_end
  guard.at_end = nil
  pcall(work)
end

function guard.describe(value)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "nil" then return "nil (error called without a message)" end
  local ok, text = pcall(tostring, value)
  if not ok or type(text) ~= "string" then text = "(error object is a " .. kind .. " value)" end
  return text
end

-- Lines of the prelude tell a script's author nothing: those below the script's own, which begin with xpcall's,
-- and those of API functions.
local function own_frames(text)
  text = gsub(match(text, "^(.*)\n\t%[C%]: in ") or text, "\n\t%(tail call%): %?$", "")
  return (gsub(gsub(text, "\n\t%[luafcgid2 [^\n]*", ""), "\n\t%?:[^\n]*", ""))
end

local function on_error(value)
  if rawequal(value, EXIT) then return EXIT end
  failure = guard.describe(value)
  trace = own_frames(traceback("", 2))
  return value
end

local function outcome(ok, value)
  -- lupa asks for this global outside of any protection: without it a strict _G would abort the worker.
  if rawget(G, "debug") == nil then rawset(G, "debug", debug_library) end
  if ok then return true, value end
  if rawequal(value, EXIT) then
    local refusal = EXIT.refusal
    if not refusal then return true, EXIT end
    EXIT.refusal = nil
    return false, refusal.message, refusal.status
  end
  local message, text = failure or guard.describe(value), trace or ""
  failure, trace = nil, nil
  return false, message, text
end

-- Lua 5.1 (not LuaJIT) passes no arguments through xpcall.
local passes = select(2, xpcall(function(argument) return argument end, guard.describe, true))

if passes then
  function guard.call(f, a, b)
    return outcome(xpcall(f, on_error, a, b))
  end
else
  function guard.call(f, a, b)
    return outcome(xpcall(function() return f(a, b) end, on_error))
  end
end

return guard
