-- The `lf` table of scripts: URL coding, query strings, and Lua values as Lua source text.
-- In: strings, numbers and tables of scripts.  Out: strings and tables; bytes are never checked against a
-- character set.  Errors name the function and the value.  It keeps no state and calls nobody.

local import = ...
local add = import("repeated")
local byte, char, format = string.byte, string.char, string.format
local find, gmatch, gsub, sub = string.find, string.gmatch, string.gsub, string.sub
local pairs, setmetatable, tonumber, tostring, type = pairs, setmetatable, tonumber, tostring, type

local lf = {}

-- What was escaped before: each byte once.
local escaped = setmetatable({}, { __index = function(escaped, letter)
  local code = format("%%%02X", byte(letter))
  escaped[letter] = code
  return code
end })

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

-- Lua source text: `load("return " .. lf.serialize(value))()` gives an equal value.  What cannot be written
-- (functions, userdata, threads) becomes nil inside tables and "" by itself.
function lf.serialize(value)
  return import("serialize")(value)
end

-- More than the ancestors have: that is loaded when it is first asked for.
local function load_features(_, name)
  return import("features").install(lf)[name]
end

-- Puts the functions into the table that scripts know as lf.
function lf.install(face)
  for name, work in pairs(lf) do
    if name ~= "install" and face[name] == nil then face[name] = work end
  end
  lf = setmetatable(face, { __index = load_features })
end

return lf
