-- One request inside a Lua state, from raw params to the response: the crossing.
-- In: the PARAMS bytes, the body (or nil when it is on disk), the thread's number, and the SCRIPT_FILENAME and
-- DOCUMENT_ROOT that Python found by searching, or true for both if the pairs were walked for them, or false for both
-- in the Authorizer role.  Out: the response; or (head, body) for a large body; or (head, false, KB, parts of the body
-- ...) for a larger one; or (head, body, KB) when the heap has grown to so many KB, or (head, body, -KB) when it has
-- not and report_heap is set; (nil, message, traceback); (nil, message, status) if the client is to blame; or (nil,
-- false) if the params are broken or say something else; then nothing has run.  Loaded with the first request; only
-- state.py and the fast path call it.

local import, host = ...
local decode, response = import("params").decode, import("response")
local later, settings = import("later"), host.settings
local pcall, rawget, setmetatable, type = pcall, rawget, setmetatable, type
local collectgarbage = collectgarbage
local getmetatable, set_metatable = debug.getmetatable, debug.setmetatable
-- Of the request under way: env, cookies, body, body_at.  What start.lua knows: the state's number, how the script is
-- called, and what finds its entry point.  What head.lua wants to be called before the next request, and session.lua
-- after this one.
local now = host.now
-- Where the state's memory is limited: the script's code begins.
local enter = host.enter
local report_heap = settings.report_heap
local G = _G

local send, header, reset, log = response.send, later("Header"), later("Reset"), later("Log")
local receive, status, content_type = later("Receive"), later("RespStatus"), later("RespContentType")
local thread_data, directory = later("ThreadData"), later("Dir")
local con = { __index = function(face, name)
  local methods = getmetatable(face)
  methods.__index = methods
  import("api").methods(methods)
  return methods[name]
end }
local connection = setmetatable({}, con)

-- The globals that begin with a request are absent while top-level code runs, as with the ancestors, and are set anew
-- for each, so that a script which overwrote one gets it back.  A strict _G has metamethods that forbid new names.
local function set_globals(env, cookies, info, local_config)
  local strict = getmetatable(G)
  if strict ~= nil then set_metatable(G, nil) end
  G.Env, G.Cookies, G.Info, G.LocalConfig = env, cookies, info, local_config
  G.Send, G.Header, G.Reset, G.Log = send, header, reset, log
  G.Receive, G.RespStatus, G.RespContentType = receive, status, content_type
  G.ThreadData, G.Dir = thread_data, directory
  if strict ~= nil then set_metatable(G, strict) end
end

local parse_cookies

return function(data, body, thread, name, root)
  local env = decode(data)
  if not env or name ~= true and ((env.SCRIPT_FILENAME or "") ~= name or (env.DOCUMENT_ROOT or "") ~= root) then
    if not env or name then return nil, false end
    env.FCGI_ROLE = "AUTHORIZER"
  end
  local text, jar = env.HTTP_COOKIE
  if text and text ~= "" then
    parse_cookies = parse_cookies or import("cookies").parse
    jar = parse_cookies(text)
  else
    jar = {}
  end
  local user, local_config = rawget(G, "Config"), nil
  if type(user) == "table" then local_config = user[env.SERVER_NAME] end
  response.begin()
  now.env, now.cookies, now.body, now.body_at = env, jar, body, 1
  set_globals(env, jar, { State = now.number, Thread = thread }, local_config)
  if enter then enter() end
  local main = name and now.entry()
  if not main then
    local problem
    main, problem = import("entries").instead(name)
    if not main then return nil, problem, "" end
  end
  local ok, message, trace = now.call(main, env, connection)
  if now.at_end then import("failures").finish() end
  local lines
  local finish_session = now.finish
  if ok and finish_session then
    ok, lines = pcall(finish_session)
    if not ok then message, trace = import("failures").describe(lines), "" end
  end
  if not ok then return nil, message, trace end
  local count = collectgarbage("count")
  if count <= now.limit and not report_heap then return response.finish(env.REQUEST_METHOD, lines) end
  local head, rest = response.finish(env.REQUEST_METHOD, lines)
  if rest == false then return import("large").finish(head, count) end
  return head, rest or "", count > now.limit and count or -count
end
