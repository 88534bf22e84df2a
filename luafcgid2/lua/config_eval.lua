-- Runs a configuration file in this state and says which globals it left.
-- In: its bytecode. Out: plain tables of strings, numbers and booleans, and Lua source text that makes a
-- copy of the `Config` table in any Lua version. Only luaconfig.py uses it, in a process of its own; it
-- needs no other module of the prelude.
local type, next, pcall, tostring, load, error = type, next, pcall, tostring, load, error
local format, gsub, find, byte = string.format, string.gsub, string.find, string.byte
local concat, sort, huge = table.concat, table.sort, math.huge
local number_type, least = math.type, math.mininteger
local rawget, rawlen, getmetatable, globals = rawget, rawlen, debug.getmetatable, _G
local MAX_DEPTH = 100 -- parsers of all Lua versions stop near 200 nested levels

local function escape(char)
  return format("\\%03d", byte(char))
end

local function quote(text)
  return '"' .. gsub(text, '[%c"\\\128-\255]', escape) .. '"'
end

local function number(value)
  if value ~= value then return "(0/0)" end
  if value == huge or value == -huge then return value > 0 and "(1/0)" or "(-1/0)" end
  if number_type(value) == "integer" then
    -- The least integer cannot be written as one literal.
    if value == least then return format("(%d-1)", least + 1) end
    return format("%d", value)
  end
  local text = gsub(format("%.17g", value), ",", ".") -- the comma of a locale that the file has set
  if not find(text, "[%.e]") then text = text .. ".0" end
  return text
end

local SCALARS = { string = quote, number = number, boolean = tostring }
local literal

local function key_literal(key, where, active, depth)
  local kind = type(key)
  if not SCALARS[kind] and kind ~= "table" then
    error({ message = where .. " has a " .. kind .. " as a key: allowed are strings, numbers and booleans" })
  end
  return literal(key, where .. " (a key)", active, depth)
end

-- nil for a value that cannot be copied (functions, userdata), as the C++ luafcgid2 did.
function literal(value, where, active, depth)
  local scalar = SCALARS[type(value)]
  if scalar then return scalar(value) end
  if type(value) ~= "table" then return nil end
  if active[value] then error({ message = where .. " contains itself: a copy of it would never end" }) end
  if depth > MAX_DEPTH then error({ message = where .. " is nested too deeply" }) end
  active[value] = true
  local parts = {}
  for key, item in next, value do
    local name = key_literal(key, where, active, depth + 1)
    local child = type(key) == "string" and where .. "." .. key or where .. "[" .. tostring(key) .. "]"
    local text = literal(item, child, active, depth + 1)
    if text then parts[#parts + 1] = "[" .. name .. "]=" .. text end
  end
  active[value] = nil
  sort(parts)
  return "{" .. concat(parts, ",") .. "}"
end

local function is_list_of_strings(value)
  local count = 0
  for key, item in next, value do
    if number_type(key) ~= "integer" or type(item) ~= "string" then return false end
    count = count + 1
  end
  return count == rawlen(value)
end

local function describe(known)
  local found = { values = {}, lists = {}, kinds = {} }
  for name, value in next, globals do
    if type(name) == "string" and not known[name] then
      local kind = type(value)
      if SCALARS[kind] then
        found.values[name] = value
      elseif kind == "table" and is_list_of_strings(value) then
        found.lists[name] = value
      else
        found.kinds[name] = kind
      end
    end
  end
  local config = rawget(globals, "Config")
  local ok, result = pcall(literal, type(config) == "table" and config or {}, "Config", {}, 1)
  if not ok then return nil, type(result) == "table" and result.message or tostring(result) end
  found.chunk = "return " .. result .. "\n"
  return found
end

local function words(problem)
  return type(problem) == "string" and problem or format("the error is a %s", type(problem))
end

-- The message that the file ends with where there is no standard library, as in the C++ luafcgid2.
local function bare_error(code)
  local strings = getmetatable("")
  local methods = strings.__index
  strings.__index = nil
  local ok, problem = pcall(load(code, "config", "b", {}))
  strings.__index = methods
  return not ok and words(problem) or nil
end

local function evaluate(code)
  local known = {}
  for name in next, globals do known[name] = true end
  local ok, problem = pcall(load(code, "config", "b"))
  if not ok then return nil, words(problem) end
  return describe(known)
end

local function refuse_exit()
  error("a configuration file must not call os.exit", 2)
end

return { evaluate = evaluate, bare_error = bare_error, refuse_exit = refuse_exit }
