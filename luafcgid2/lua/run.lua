-- One request inside a Lua state, from raw params to the response: the crossing.
-- In: the PARAMS bytes, the body (or nil when it is on disk), the thread's number, and the SCRIPT_FILENAME and
-- DOCUMENT_ROOT that Python found by searching.  Out: (head, rest [, "gc"]), (nil, message, traceback), or
-- (nil, false) if the params are broken or say something else; then nothing has run.  Also loads
-- the script and its surroundings.  Only state.py calls it.

local import, host = ...
local params, cookies, response = import("params"), import("cookies"), import("response")
local api, loader, session, stdlib = import("api"), import("loader"), import("session"), import("stdlib")
local decode, parse_cookies = params.decode, cookies.parse
local xpcall, pcall, type, tostring, rawequal, rawget = xpcall, pcall, type, tostring, rawequal, rawget
local traceback, collectgarbage, gsub, match = debug.traceback, collectgarbage, string.gsub, string.match
local load = loadstring or load
local settings = host.settings
local G = _G
local EXIT = {}
-- A state whose heap has grown this much over what its script needs asks for a collection, which Python
-- runs after the response is sent.
local GARBAGE_KB = 2048

local run = {}
local failure, trace
local baseline = 0

local function describe(value)
  local kind = type(value)
  if kind == "string" then return value end
  local ok, text = pcall(tostring, value)
  if not ok or type(text) ~= "string" then text = "(error object is a " .. kind .. " value)" end
  if kind == "nil" then text = "nil (error called without a message)" end
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
  failure = describe(value)
  trace = own_frames(traceback("", 2))
  return value
end

-- Lua 5.1 (not LuaJIT) passes no arguments through xpcall.
local guarded = xpcall
if not pcall(function() assert(select(2, xpcall(function(x) return x end, describe, true))) end) then
  guarded = function(f, handler, a, b)
    return xpcall(function() return f(a, b) end, handler)
  end
end

local function outcome(ok, value)
  if ok or rawequal(value, EXIT) then return true end
  local message, text = failure or describe(value), trace or ""
  failure, trace = nil, nil
  return false, message, text
end

function run.load(code, name, startup, startup_name)
  loader.install()
  stdlib.install({ log = api.log, exit_token = EXIT })
  session.install(G)
  api.install()
  G.Config = load(settings.config_code, "=Config")()
  collectgarbage("restart")
  local ok, message, text = true, nil, nil
  if startup then ok, message, text = outcome(guarded(loader.load(startup, startup_name), on_error)) end
  if ok then ok, message, text = outcome(guarded(loader.load(code, name), on_error)) end
  if not ok then return nil, message, text end
  -- A full collection once: what is left is what the script needs.
  collectgarbage()
  if settings.generational then collectgarbage("generational") end
  baseline = collectgarbage("count")
  return true
end

function run.handle(data, body, thread, name, root)
  local env = decode(data)
  if not env or (env.SCRIPT_FILENAME or "") ~= name or (env.DOCUMENT_ROOT or "") ~= root then return nil, false end
  local jar = parse_cookies(env.HTTP_COOKIE)
  local user, local_config = G.Config, nil
  if type(user) == "table" then local_config = user[env.SERVER_NAME] end
  response.begin()
  session.begin(env, jar)
  local con = api.begin(env, jar, body, { State = settings.state, Thread = thread }, local_config)
  local main = rawget(G, settings.entrypoint)
  if main == nil then
    return nil, "the script defines no function '" .. settings.entrypoint .. "' (Entrypoint)", ""
  end
  local ok, message, text = outcome(guarded(main, on_error, env, con))
  local lines
  if ok then
    ok, lines = pcall(session.finish)
    if not ok then message, text = describe(lines), "" end
  end
  if not ok then return nil, message, text end
  local head, rest = response.finish(env.REQUEST_METHOD, lines)
  if collectgarbage("count") > baseline * 2 + GARBAGE_KB then return head, rest, "gc" end
  return head, rest
end

function run.collect()
  collectgarbage()
  baseline = collectgarbage("count")
end

return run
