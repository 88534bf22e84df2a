-- The functions and tables that scripts see, and the `con` object of the C luafcgid.
-- In: the request that run.lua begins.  Out: globals in _G, set anew for each request as the ancestors do, so
-- that a script which overwrote one gets it back.  They are absent while top-level code runs, as there.

local import, host = ...
local response, headers, lf, statuses = import("response"), import("headers"), import("lf"), import("statuses")
local getmetatable, setmetatable, rawset, type = getmetatable, setmetatable, rawset, type
local error, tostring = error, tostring
local sub, floor = string.sub, math.floor
-- No body is as long; from here on a number need not be whole.
local MANY = 2 ^ 52
local settings = host.settings
local text_of = headers.text
local G = _G

local body, body_at

local api = {}

local function log(message)
  host.log(text_of(message, "Log", 1))
end

-- `n` bytes, or all that is left; "" at the end.  A body on disk stays there until it is asked for.
local function receive(n)
  if n ~= nil then
    if type(n) ~= "number" or n < 0 or n ~= n then
      error("bad argument #1 to 'Receive' (a number of bytes expected, got " .. tostring(n) .. ")", 2)
    end
    n = n < MANY and floor(n) or nil
  end
  if not body then
    local data, message = host.receive(n or -1)
    if not data then error("Receive: " .. message, 2) end
    body_at = 2
    return data
  end
  local start = body_at
  body_at = n and n <= #body and start + n or #body + 1
  if start == 1 and body_at > #body then return body end
  return sub(body, start, body_at - 1)
end

local function thread_data()
  local found = {}
  local scripts = host.thread_data() or ""
  for path, states in scripts:gmatch("(%Z+)%z(%d+)%z") do found[path] = tonumber(states) end
  return found
end

local function directory()
  return settings.script_dir
end

local con = {}
con.__index = con

function con:header(name, value) return response.header(name, value) end
function con:puts(value) return response.send(value) end
function con:gets() return receive() end
function con:flush() response.flush() end
function con:reset() return response.reset_body() end
function con:log(message) return log(message) end

function con:config(name)
  local user = G.Config
  if type(user) == "table" then return user[name] end
end

local connection = setmetatable({}, con)

-- Few scripts use Shared, or more of lf than the ancestors have: that is loaded when it is first asked for.
local function load_shared(face, name)
  setmetatable(face, nil)
  import("shared").install(face)
  return face[name]
end

local function load_features(_, name)
  return import("features").install(lf)[name]
end

local function send_file(path)
  local sent, message = import("streaming").send_file(path)
  return sent, message
end

function api.install()
  G.Flush, G.SendFile, G.Shared = response.flush, send_file, setmetatable({}, { __index = load_shared })
  setmetatable(lf, { __index = load_features })
  G.LUAFCGID, G.LUAFCGID_VERSION, G.lf, G.Response = true, 2, lf, statuses
  package.preload.luafcgid = function() return lf end
end

function api.begin(env, cookies, request_body, info, local_config)
  body, body_at = request_body, 1
  local set = rawset
  if getmetatable(G) == nil then
    G.Env, G.Cookies, G.Info, G.LocalConfig = env, cookies, info, local_config
    G.Send, G.Header, G.Reset, G.Log = response.send, response.header, response.reset, log
    G.Receive, G.RespStatus, G.RespContentType = receive, response.status, response.content_type
    G.ThreadData, G.Dir = thread_data, directory
    return connection
  end
  -- A strict _G has metamethods that forbid new names: go around them.
  set(G, "Env", env) set(G, "Cookies", cookies) set(G, "Info", info) set(G, "LocalConfig", local_config)
  set(G, "Send", response.send) set(G, "Header", response.header) set(G, "Reset", response.reset)
  set(G, "Log", log) set(G, "Receive", receive) set(G, "RespStatus", response.status)
  set(G, "RespContentType", response.content_type) set(G, "ThreadData", thread_data) set(G, "Dir", directory)
  return connection
end

-- Whether nobody has taken of the body yet.
function api.unread()
  return body_at == 1
end

api.log, api.receive = log, receive

return api
