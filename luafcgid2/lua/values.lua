-- Lua values as byte strings and back, for what outlives a Lua state.
-- In: booleans, numbers, strings, tables of these (nested; metatables are ignored).  Out: a string that
-- every Lua version reads alike and that is only parsed, never run: t f booleans, i12; integer, d1.5; float,
-- s3:abc string, {key value ...} table.  Used by session.lua; stores keep the bytes unread.

local type, next, tonumber, tostring, error = type, next, tonumber, tostring, error
local find, sub, format, concat = string.find, string.sub, string.format, table.concat
local floor, huge = math.floor, math.huge
-- Before 5.3 all numbers are floats; whole ones are written as integers, exact up to 2^53.
local kind_of = math.type or function(value)
  return value == floor(value) and value > -2^53 and value < 2^53 and (value ~= 0 or 1 / value > 0)
    and "integer" or "float"
end
local WHOLE = math.type and "i%d;" or "i%.0f;"
local MAX_DEPTH, MAX_PIECES = 100, 1000000

local values = {}
local writers, readers = {}, {}

-- A writer returns nothing, or what is wrong and whether that is an error rather than a refused type.
local function write(out, value, open, depth)
  local writer = writers[type(value)]
  if not writer then return "a " .. type(value) .. " cannot be stored" end
  return writer(out, value, open, depth)
end

function writers.boolean(out, value)
  out[#out + 1] = value and "t" or "f"
end

function writers.string(out, value)
  out[#out + 1] = "s" .. #value .. ":"
  out[#out + 1] = value
end

function writers.number(out, value)
  local text = format("%.17g", value)
  if value ~= value then
    text = "dnan;"
  elseif value == huge or value == -huge then
    text = value > 0 and "dinf;" or "d-inf;"
  elseif kind_of(value) == "integer" then
    text = format(WHOLE, value)
  else
    -- Without a dot or an exponent Lua 5.3 would read an integer, and lose the sign of -0.0.
    text = "d" .. text .. (find(text, "[.e]") and ";" or ".0;")
  end
  out[#out + 1] = text
end

function writers.table(out, value, open, depth)
  if open[value] then return "a table that contains itself cannot be stored", true end
  if depth >= MAX_DEPTH then return "a table nested over 100 levels cannot be stored", true end
  if #out > MAX_PIECES then return "a table as large as this cannot be stored", true end
  open[value] = true
  out[#out + 1] = "{"
  for key, item in next, value do
    if type(key) == "table" then return "a table as a key cannot be stored" end
    local problem, fatal = write(out, key, open, depth)
    if not problem then problem, fatal = write(out, item, open, depth + 1) end
    if problem then return tostring(key) .. ": " .. problem, fatal end
  end
  out[#out + 1] = "}"
  open[value] = nil
end

-- The string; or nil, what is wrong, and whether that is an error rather than a refused type.
function values.encode(value)
  local out = {}
  local problem, fatal = write(out, value, {}, 0)
  if problem then return nil, problem, fatal end
  return concat(out)
end

local function damaged(at) error("the stored value is damaged at byte " .. at, 0) end

-- A reader gets the text and the position after the tag; it returns the value and the position after it.
local function read(text, at)
  local reader = readers[sub(text, at, at)]
  if not reader then damaged(at) end
  return reader(text, at + 1)
end

function readers.t(_, at) return true, at end
function readers.f(_, at) return false, at end
function readers.s(text, at)
  local _, colon, length = find(text, "^(%d+):", at)
  local stop = colon and colon + tonumber(length)
  if not stop or stop > #text then damaged(at) end
  return sub(text, colon + 1, stop), stop + 1
end

local SPECIAL = { inf = huge, ["-inf"] = -huge, nan = 0 / 0 }
local function number(text, at)
  local _, stop, digits = find(text, "^([^;]*);", at)
  local value = digits and (tonumber(digits) or SPECIAL[digits])
  if not value then damaged(at) end
  return value, stop + 1
end
readers.i, readers.d = number, number

readers["{"] = function(text, at)
  local found = {}
  while sub(text, at, at) ~= "}" do
    local key, value
    key, at = read(text, at)
    value, at = read(text, at)
    found[key] = value
  end
  return found, at + 1
end

-- The value that `encode` was given; raises an error for bytes that it did not make.
function values.decode(text)
  local value, at = read(text, 1)
  if at ~= #text + 1 then damaged(at) end
  return value
end

return values
