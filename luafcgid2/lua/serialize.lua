-- lf.serialize: Lua values as Lua source text.
-- In: a value.  Out: a string.  Errors name the function and the value.  Loaded when a script first calls it.

local byte, find, format, gsub = string.byte, string.find, string.format, string.gsub
local concat, huge = table.concat, math.huge
local error, pairs, tonumber, tostring, type = error, pairs, tonumber, tostring, type
-- Where integers are a subtype, their smallest one read back from decimal digits would be a float.
local integer_type = math.type
local INTEGER_MINIMUM = math.mininteger

local function number_text(value)
  if value ~= value then return "0/0" end
  if value == huge then return "1/0" end
  if value == -huge then return "-1/0" end
  if integer_type and integer_type(value) == "integer" then
    if value == INTEGER_MINIMUM then return "0x8000000000000000" end
    return format("%d", value)
  end
  local text = format("%.14g", value)
  if tonumber(text) ~= value then text = format("%.17g", value) end
  if integer_type and not find(text, "[.e]") then text = text .. ".0" end
  return text
end

-- Control bytes as decimal escapes, so that the text survives any editor and every Lua version reads it alike.
local function string_text(value)
  return '"' .. gsub(value, '[%c"\\]', function(c) return format("\\%03d", byte(c)) end) .. '"'
end

local write

-- `above` holds the tables that are being written now: meeting one of them again is a cycle.
local function table_text(value, above)
  if above[value] then error("lf.serialize: the table contains itself", 0) end
  above[value] = true
  local parts = {}
  for key, item in pairs(value) do
    local kind = type(key)
    if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
      error(format("lf.serialize: a %s cannot be written as a key", kind), 0)
    end
    parts[#parts + 1] = format("[%s] = %s", write(key, above), write(item, above))
  end
  above[value] = nil
  return "{" .. concat(parts, ",") .. "}"
end

function write(value, above)
  local kind = type(value)
  if kind == "string" then return string_text(value) end
  if kind == "number" then return number_text(value) end
  if kind == "boolean" then return tostring(value) end
  if kind == "table" then return table_text(value, above) end
  return "nil"
end

-- See lf.serialize.
return function(value)
  local kind = type(value)
  if kind == "nil" or kind == "function" or kind == "userdata" or kind == "thread" then return "" end
  return write(value, {})
end
