-- The prompt of `luafcgid2ctl repl`, inside the Lua state of a script.
-- In: pieces of code as they are typed.  Out: what they evaluate to, as text to print.  repl.py runs this file in a
-- state that is ready, and has run.lua handle one request for each piece: arm() puts it in the place of the entry
-- point, which it gives back as soon as it runs.  So Env, Send, Session and errors are those of a request.

local load = loadstring or load
local ipairs, next = ipairs, next
local getmetatable, pairs, pcall, rawget, rawset = getmetatable, pairs, pcall, rawget, rawset
local select, sort, tostring, type = select, table.sort, tostring, type
local concat, find, format, gsub = table.concat, string.find, string.format, string.gsub
local match, rep = string.match, string.rep
local G = _G
-- What is shown of a table.
local DEEP, MANY = 3, 60
local KEYWORDS = {}
for word in ("and break do else elseif end false for function goto if in local nil not or repeat return then true "
  .. "until while"):gmatch("%a+") do KEYWORDS[word] = true end

local repl = {}
local chunk, printed

local function quoted(text)
  return '"' .. gsub(text, '[%c"\\]', function(letter)
    if letter == "\n" then return "\\n" end
    if letter == '"' or letter == "\\" then return "\\" .. letter end
    return format("\\%03d", letter:byte())
  end) .. '"'
end

local function before(a, b)
  local kind_a, kind_b = type(a), type(b)
  if kind_a ~= kind_b then return kind_a == "number" or (kind_b ~= "number" and kind_a < kind_b) end
  if kind_a == "number" or kind_a == "string" then return a < b end
  return tostring(a) < tostring(b)
end

local function show(value, depth, seen)
  if type(value) == "string" then return quoted(value) end
  local meta = getmetatable(value)
  if type(value) ~= "table" or (type(meta) == "table" and rawget(meta, "__tostring")) then
    local ok, text = pcall(tostring, value)
    return ok and tostring(text) or "<" .. type(value) .. " whose __tostring fails>"
  end
  if seen[value] then return "<above>" end
  if depth > DEEP then return "{...}" end
  local keys, parts, next_index = {}, {}, 1
  for key in next, value do keys[#keys + 1] = key end
  if #keys == 0 then return "{}" end
  sort(keys, before)
  seen[value] = true
  for index, key in ipairs(keys) do
    if index > MANY then
      parts[index] = "... " .. #keys - MANY .. " more"
      break
    end
    local text = show(rawget(value, key), depth + 1, seen)
    if key == next_index then
      next_index = next_index + 1
    elseif type(key) == "string" and match(key, "^[%a_][%w_]*$") and not KEYWORDS[key] then
      text = key .. " = " .. text
    else
      text = "[" .. show(key, depth + 1, seen) .. "] = " .. text
    end
    parts[index] = text
  end
  seen[value] = nil
  local line = concat(parts, ", ")
  if #line + 2 * depth <= 90 and not find(line, "\n", 1, true) then return "{ " .. line .. " }" end
  local margin = rep("  ", depth)
  return "{\n" .. margin .. concat(parts, ",\n" .. margin) .. "\n" .. rep("  ", depth - 1) .. "}"
end

local function keep(...)
  local found = {}
  for index = 1, select("#", ...) do found[index] = show((select(index, ...)), 1, {}) end
  printed = concat(found, "\t")
end

-- true; or false when more lines are wanted; or nil, message.
function repl.compile(code)
  printed = ""
  chunk = load("return " .. gsub(code, "^%s*=", ""), "=stdin")
  if chunk then return true end
  local message
  chunk, message = load(code, "=stdin")
  if chunk then return true end
  if find(message, "<eof>", -8, true) then return false, message end
  return nil, message
end

function repl.arm(entrypoint)
  local main = rawget(G, entrypoint)
  rawset(G, entrypoint, function(...)
    rawset(G, entrypoint, main)
    keep(chunk(...))
  end)
end

function repl.result()
  return printed
end

-- The names that begin so, one a line: of globals, or after a dot or colon of a table's fields.
function repl.complete(text)
  local path, start = match(text, "^(.-)([%w_]*)$")
  local place, found = G, {}
  for name in path:gmatch("[%w_]+") do
    place = type(place) == "table" and rawget(place, name) or nil
  end
  if type(place) ~= "table" then return "" end
  for name in pairs(place) do
    if type(name) == "string" and name:sub(1, #start) == start then found[#found + 1] = path .. name end
  end
  sort(found)
  return concat(found, "\n")
end

return repl
