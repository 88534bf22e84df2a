-- The global `Session`: variables that outlive the request, by realm and key; see session.py for the rules.
-- In: calls of scripts.  Out: `finish` commits and gives the
-- Set-Cookie lines.  Loaded when a script first looks into Session; a request that does not touch it costs no call
-- to Python.

local import, host = ...
local values = import("values")
local encode, decode = values.encode, values.decode
local type, tostring, error, pcall, format = type, tostring, error, pcall, string.format
local cookie_name = host.settings.session_name

local now = host.now
-- The Env of the request in which the session was looked up.
local opened

local api, session = {}, {}

local function plain(value)
  return type(value) == "string" and value or nil
end

-- Raises what a host function says is wrong, at the script's line: scripts call api, api calls this.
local function check(name, value, problem)
  if problem then error("Session." .. name .. ": " .. problem, 3) end
  return value
end

local function text(value, name, index)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "number" then return tostring(value) end
  error(format("bad argument #%d to 'Session.%s' (string expected, got %s)", index, name, kind), 3)
end

-- The first touch in a request looks the session up.
local function open(name)
  local env = now.env
  if not env then error("Session." .. name .. ": there is no request while top-level code runs", 3) end
  if opened == env then return end
  local _, problem = host.session_open(plain(now.cookies[cookie_name]), plain(env.REMOTE_ADDR),
    plain(env.HTTP_USER_AGENT), plain(env.HTTP_ACCEPT_LANGUAGE), plain(env.HTTPS))
  if problem then error("Session." .. name .. ": " .. problem, 3) end
  opened = env
end

local function decoded(name, value)
  if value == nil then return nil end
  local ok, result = pcall(decode, value)
  if not ok then error("Session." .. name .. ": " .. result, 3) end
  return result
end

-- name -> host function, for those that take nothing and those that take a realm.
local PLAIN = { Start = "session_start", Delete = "session_delete", Id = "session_id",
  Regenerate = "session_regenerate" }
local WITH_REALM = { HasRealm = "session_has_realm", Clear = "session_clear" }

for name, call in pairs(PLAIN) do
  local work = host[call]
  api[name] = function()
    open(name)
    return (check(name, work()))
  end
end

for name, call in pairs(WITH_REALM) do
  local work = host[call]
  api[name] = function(realm)
    realm = text(realm, name, 1)
    open(name)
    return (check(name, work(realm)))
  end
end

-- true; or false and the reason for a value that cannot be stored, which changes nothing.
function api.SetVar(realm, key, value)
  realm, key = text(realm, "SetVar", 1), text(key, "SetVar", 2)
  local bytes
  if value ~= nil then
    local problem, fatal
    bytes, problem, fatal = encode(value)
    if fatal then error(format("Session.SetVar: %s/%s: %s", realm, key, problem), 2) end
    if not bytes then return false, problem end
  end
  open("SetVar")
  return (check("SetVar", host.session_set(realm, key, bytes)))
end

function api.GetVar(realm, key)
  realm, key = text(realm, "GetVar", 1), text(key, "GetVar", 2)
  open("GetVar")
  return (decoded("GetVar", check("GetVar", host.session_get(realm, key))))
end

function api.GetAll(realm)
  realm = text(realm, "GetAll", 1)
  open("GetAll")
  return (decoded("GetAll", check("GetAll", host.session_get_all(realm))))
end

-- Puts the functions into the table that scripts know as Session: a script that changes it harms itself only.
function session.install(face)
  for name, call in pairs(api) do
    if face[name] == nil then face[name] = call end
  end
end

-- nil; or, where Session was touched, the list of header lines.  All is stored when it returns; if it
-- cannot be stored it raises an error.
function session.finish()
  if opened == nil or opened ~= now.env then return nil end
  local line, problem = host.session_commit()
  if problem then error("Session: " .. problem, 0) end
  return line and { line }
end
now.finish = session.finish

return session
