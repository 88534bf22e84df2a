-- The `lf` table of scripts: URL coding, query strings, and Lua values as Lua source text.
-- In: strings, numbers and tables of scripts.  Out: strings and tables; bytes are never checked against a
-- character set.  Errors name the function and the value.  It keeps no state and calls nobody.

local import = ...
local add = import("repeated")
local byte, char, format = string.byte, string.char, string.format
local find, gmatch, gsub, sub = string.find, string.gmatch, string.gsub, string.sub
local concat, huge = table.concat, math.huge
local error, pairs, tonumber, tostring, type = error, pairs, tonumber, tostring, type
-- Where integers are a subtype, their smallest one read back from decimal digits would be a float.
local integer_type = math.type
local INTEGER_MINIMUM = math.mininteger

local lf = {}

local escaped = {}
for code = 0, 255 do escaped[char(code)] = format("%%%02X", code) end

local function unescape(digits)
  return char(tonumber(digits, 16))
end

-- Letters and digits stay, a space becomes `+`, every other byte %XX.  The set is spelled out since %w depends
-- on the locale.
function lf.urlencode(text)
  if text == nil then return nil end
  if type(text) == "number" then text = tostring(text) end
  return (gsub(gsub(text, "[^A-Za-z0-9 ]", escaped), " ", "+"))
end

-- A `%` that two hexadecimal digits do not follow stays as it is.
function lf.urldecode(text)
  if text == nil then return nil end
  if type(text) == "number" then text = tostring(text) end
  return (gsub(gsub(text, "+", " "), "%%(%x%x)", unescape))
end

-- Name and value of "name=value", decoded; all after the first `=` is the value, "" where there is no `=`.
-- Nothing at all (nil or "") gives nil, nil.
function lf.parse_pair(pair)
  if pair == nil or pair == "" then return nil, nil end
  local at = find(pair, "=", 1, true)
  if not at then return lf.urldecode(pair), "" end
  return lf.urldecode(sub(pair, 1, at - 1)), lf.urldecode(sub(pair, at + 1))
end

-- A query string as a table: name -> value, or -> the list of its values in order when a name is repeated.
function lf.parse(query)
  local found = {}
  if query == nil then return found end
  for pair in gmatch(query, "[^&]+") do
    local name, value = lf.parse_pair(pair)
    add(found, name, value)
  end
  return found
end

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

-- Lua source text: `load("return " .. lf.serialize(value))()` gives an equal value.  What cannot be written
-- (functions, userdata, threads) becomes nil inside tables and "" by itself.
function lf.serialize(value)
  local kind = type(value)
  if kind == "nil" or kind == "function" or kind == "userdata" or kind == "thread" then return "" end
  return write(value, {})
end

return lf
