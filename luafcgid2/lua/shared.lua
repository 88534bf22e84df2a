-- The global `Shared`: a dictionary for all workers, after OpenResty's ngx.shared.DICT; see shared_store.py.
-- In: calls of scripts, at any time.  Out: what the store says, at once; a store that fails is an error at the
-- script's line.  run.lua loads this file when a script first uses Shared.

local import, host = ...
local values = import("values")
local encode, decode = values.encode, values.decode
local type, tostring, error, pcall, format = type, tostring, error, pcall, string.format
local call = host.shared
local huge = math.huge
-- As many as OpenResty's get_keys gives unless told.
local MAX_KEYS = 1024

local api, shared = {}, {}

-- Levels of error(): a script calls api, api calls these.
local function bad(name, index, expected, value)
  local got = type(value) == "number" and tostring(value) or type(value)
  error(format("bad argument #%d to 'Shared.%s' (%s expected, got %s)", index, name, expected, got), 4)
end

local function text(name, index, value)
  if type(value) == "string" then return value end
  if type(value) ~= "number" then bad(name, index, "string", value) end
  return tostring(value)
end

local function number(name, index, value, default)
  if value == nil then return default end
  if type(value) ~= "number" or value ~= value or value == huge or value == -huge then
    bad(name, index, "finite number", value)
  end
  return value
end

-- Seconds, or how many: 0 and nil are as much as there is.
local function amount(name, index, value, default)
  if value == nil then return default end
  if type(value) ~= "number" or value ~= value or value < 0 then bad(name, index, "number of 0 or more", value) end
  return value
end

local function check(name, value, problem)
  if problem then error("Shared." .. name .. ": " .. problem, 3) end
  return value
end

-- Numbers go as they are, so that the store can count with them.
local function packed(name, key, value)
  if type(value) == "number" and value - value == 0 then return value end
  local bytes, problem = encode(value)
  if not bytes then error(format("Shared.%s: %s: %s", name, key, problem), 3) end
  return bytes
end

local function unpacked(name, value)
  if type(value) ~= "string" then return value end
  local ok, result = pcall(decode, value)
  if not ok then error("Shared." .. name .. ": " .. result, 3) end
  return result
end

function api.Get(key)
  return (unpacked("Get", check("Get", call("get", text("Get", 1, key)))))
end

-- Storing nil deletes.
function api.Set(key, value, ttl)
  key, ttl = text("Set", 1, key), amount("Set", 3, ttl)
  if value == nil then
    check("Set", call("delete", key))
    return true
  end
  return (check("Set", call("set", key, packed("Set", key, value), ttl)))
end

-- true; or false and "exists".
function api.Add(key, value, ttl)
  key, ttl = text("Add", 1, key), amount("Add", 3, ttl)
  if check("Add", call("add", key, packed("Add", key, value), ttl)) then return true end
  return false, "exists"
end

-- The sum; or nil and "not found" if there is none and no `init`.
function api.Incr(key, by, init, ttl)
  key, by = text("Incr", 1, key), number("Incr", 2, by, 1)
  init, ttl = number("Incr", 3, init), amount("Incr", 4, ttl)
  local sum = check("Incr", call("incr", key, by, init, ttl))
  if sum == nil then return nil, "not found" end
  return sum
end

-- Whether there was one.
function api.Delete(key)
  return (check("Delete", call("delete", text("Delete", 1, key))))
end

function api.Keys(prefix, max)
  prefix, max = text("Keys", 1, prefix == nil and "" or prefix), amount("Keys", 2, max, MAX_KEYS)
  return (unpacked("Keys", check("Keys", call("keys", prefix, max))))
end

-- Seconds left, 0 for ever; or nil and "not found".
function api.Ttl(key)
  local left = check("Ttl", call("ttl", text("Ttl", 1, key)))
  if left == nil then return nil, "not found" end
  return left
end

-- Puts the functions into the table that scripts know as Shared.
function shared.install(face)
  for name, work in pairs(api) do
    if face[name] == nil then face[name] = work end
  end
end

return shared
