-- The functions that few scripts need, and the `con` object of the C luafcgid.
-- In: the request that run.lua has begun.  Out: functions; scripts see them by way of later.lua.  Loaded when one is
-- first called.

local import, host = ...
local response, text_of = import("response"), import("headers").text
local fail, tonumber, tostring, type = import("blame"), tonumber, tostring, type
local gmatch, sub, floor = string.gmatch, string.sub, math.floor
-- No body is as long; from here on a number need not be whole.
local MANY = 2 ^ 52
local settings, now = host.settings, host.now
local G = _G

local api = {}

function api.log(message)
  host.log(text_of(message, "Log", 1))
end

-- `n` bytes, or all that is left; "" at the end.  A body on disk stays there until it is asked for.
function api.receive(n)
  if n ~= nil then
    if type(n) ~= "number" or n < 0 or n ~= n then
      fail("bad argument #1 to 'Receive' (a number of bytes expected, got " .. tostring(n) .. ")")
    end
    n = n < MANY and floor(n) or nil
  end
  local body, start = now.body, now.body_at
  if not body then
    local data, message = host.receive(n or -1)
    if not data then fail("Receive: " .. message) end
    now.body_at = 2
    return data
  end
  local stop = n and n <= #body and start + n or #body + 1
  now.body_at = stop
  if start == 1 and stop > #body then return body end
  return sub(body, start, stop - 1)
end

function api.thread_data()
  local found = {}
  local scripts = host.thread_data() or ""
  for path, states in gmatch(scripts, "(%Z+)%z(%d+)%z") do found[path] = tonumber(states) end
  return found
end

function api.directory()
  return settings.script_dir
end

function api.send_file(path)
  local sent, message = import("streaming").send_file(path)
  return sent, message
end

-- Whether nobody has taken of the body yet.
function api.unread()
  return now.body_at == 1
end

-- Puts the methods of `con` into the table where they are looked up.
function api.methods(con)
  function con:header(name, value) return response.header(name, value) end
  function con:puts(value) return response.send(value) end
  function con:gets() return api.receive() end
  function con:flush() response.flush() end
  function con:reset() return response.reset_body() end
  function con:log(message) return api.log(message) end

  function con:config(name)
    local user = G.Config
    if type(user) == "table" then return user[name] end
  end
end

return api
