-- One request inside a Lua state, from raw params to the response: the crossing.
-- In: the PARAMS bytes, the body (or nil when it is on disk), the thread's number, and the SCRIPT_FILENAME and
-- DOCUMENT_ROOT that Python found by searching, or false for both in the Authorizer role.  Out: the response; or (head,
-- body) for a large body; or (head, body, KB) when the heap has grown to so many KB, or (head, body, -KB) when it has
-- not and report_heap is set; (nil, message, traceback); (nil, message, status) if the client is to blame; or (nil,
-- false) if the params are broken or say something else; then nothing has run.  Also loads the script and its
-- surroundings.  Only state.py calls it.

local import, host = ...
local params, cookies, response, guard = import("params"), import("cookies"), import("response"), import("guard")
local api, loader, session, stdlib = import("api"), import("loader"), import("session"), import("stdlib")
local decode, parse_cookies, call = params.decode, cookies.parse, guard.call
local pcall, type, rawget, getmetatable = pcall, type, rawget, getmetatable
local collectgarbage, floor = collectgarbage, math.floor
local load = loadstring or load
local settings = host.settings
-- Where the state's memory is limited: the script's code begins.
local enter = host.enter
local G = _G
-- A state whose heap has grown this much over what its script needs asks for a collection, which Python
-- runs after the response is sent.  Lua's own collector begins only at double that, so that it does not work
-- while somebody waits, unless one request makes that much garbage.
local GARBAGE_KB = 256

local NO_ENTRY = "the script defines no function '" .. settings.entrypoint .. "' (Entrypoint), nor is it a WSAPI one"

local run = {}
local baseline, limit = 0, 0
-- Generational collections of Lua 5.4 and later are short, and know no such pause.
local own_pace = not settings.generational

local function set_pause(live, start)
  collectgarbage("setpause", floor(start / live * 100))
end

if enter and own_pace then set_pause = import("pace") end

-- After a full collection: what is left is what the script needs.
local function settle()
  baseline = collectgarbage("count")
  limit = baseline * 2 + GARBAGE_KB
  if own_pace then set_pause(baseline, 2 * limit) end
end

-- The entry point; a script may keep it behind a metatable of _G, whose functions may fail.
local function entry()
  local main = rawget(G, settings.entrypoint)
  if main ~= nil or getmetatable(G) == nil then return main end
  local ok, found = pcall(function() return G[settings.entrypoint] end)
  return ok and found or nil
end

function run.load(code, name, startup, startup_name)
  loader.install()
  stdlib.install({ log = api.log, exit_token = guard.EXIT })
  session.install(G)
  api.install()
  G.Config = load(settings.config_code, "=Config")()
  collectgarbage("restart")
  if enter then enter() end
  local ok, message, text = true, nil, nil
  if startup then ok, message, text = call(loader.load(startup, startup_name)) end
  local before, after = rawget(G, "BeforeRequest"), rawget(G, "AfterRequest")
  if ok then ok, message, text = call(loader.load_script(code, name)) end
  -- Half of a file may compile, and an empty one does; neither shall take over from a good version.
  if ok and (entry() == nil or settings.entrypoint == "authorize") then
    local other = import("entries")(message)
    if other then entry = other else ok, message, text = false, NO_ENTRY, "" end
  end
  if not ok then return nil, message, text end
  if before ~= nil or after ~= nil then call = import("hooks")(guard, before, after, response, api.log) end
  loader.done()
  -- The pause counts from the next full collection on.  Lua 5.1 to 5.3 raise what a finalizer raises.
  settle()
  pcall(collectgarbage)
  if settings.generational then collectgarbage("generational") end
  settle()
  return baseline
end

function run.handle(data, body, thread, name, root)
  local env = decode(data)
  if not env or (env.SCRIPT_FILENAME or "") ~= name or (env.DOCUMENT_ROOT or "") ~= root then
    if not env or name then return nil, false end
    env.FCGI_ROLE = "AUTHORIZER"
  end
  local jar = parse_cookies(env.HTTP_COOKIE)
  local user, local_config = rawget(G, "Config"), nil
  if type(user) == "table" then local_config = user[env.SERVER_NAME] end
  response.begin()
  session.begin(env, jar)
  local con = api.begin(env, jar, body, { State = settings.state, Thread = thread }, local_config)
  if enter then enter() end
  local main = name and entry()
  if not main then
    local problem = NO_ENTRY
    if not name then main, problem = import("authorizer")("Variable-") end
    if not main then return nil, problem, "" end
  end
  local ok, message, text = call(main, env, con)
  if guard.at_end then guard.finish() end
  local lines
  if ok then
    ok, lines = pcall(session.finish)
    if not ok then message, text = guard.describe(lines), "" end
  end
  if not ok then return nil, message, text end
  local count = collectgarbage("count")
  if count <= limit and not settings.report_heap then return response.finish(env.REQUEST_METHOD, lines) end
  local head, rest = response.finish(env.REQUEST_METHOD, lines)
  return head, rest or "", count > limit and count or -count
end

function run.collect()
  pcall(collectgarbage)
  settle()
  return baseline
end

return run
