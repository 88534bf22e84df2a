-- The header lines of the request that this Lua state serves now.
-- In: names and values that a script sets.  Out: lines for the header block, DefaultHeaders among them.  CR, LF
-- and NUL in any of them raise an error (header injection).  Only response.lua uses it.

local import, host = ...
local concat, tostring, type, error = table.concat, tostring, type, error
local find, lower, match, gmatch, format = string.find, string.lower, string.match, string.gmatch, string.format
-- Lua 5.1 ends a pattern at a zero byte and knows %z; later versions take the byte itself.
local UNSAFE = _VERSION == "Lua 5.1" and "[\r\n%z]" or "[\r\n\0]"
local KEEP = 64

-- What exists once in a response: DefaultHeaders may set it, but not add a second one.
local once = { ["status"] = true, ["content-type"] = true, ["content-length"] = true }
local default_lines, default_text, defaults_once = {}, "", {}
for line in gmatch(host.settings.default_headers, "[^\r\n]+") do
  local name, value = match(line, "^([^:%s]+)%s*:%s*(.-)%s*$")
  if name and once[lower(name)] then
    defaults_once[lower(name)] = value
  else
    default_lines[#default_lines + 1] = line
  end
end
if #default_lines > 0 then default_text = concat(default_lines, "\r\n") .. "\r\n" end

local lines, count, seen, sent = {}, 0, nil, false

local headers = { once = defaults_once }

-- The ancestor takes numbers for strings and nothing else; `tostring` would take tables and nil silently.
function headers.text(value, name, index, level)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "number" then return tostring(value) end
  error(format("bad argument #%d to '%s' (string expected, got %s)", index, name, kind), level or 3)
end

function headers.safe(value, name, level)
  if sent then import("blame")(name, "the headers have been sent, by Flush or because of MaxBufferSize") end
  if find(value, UNSAFE) then
    error(format("%s: a line break or NUL in %q is refused (header injection)", name, value), level + 1)
  end
  return value
end

-- Without a value, `name` is a whole line: the ancestor sends it as it is, and scripts pass "Name: value" so.
function headers.split(name, value)
  name = headers.safe(headers.text(name, "Header", 1, 4), "Header", 3)
  if value ~= nil then
    value = headers.safe(headers.text(value, "Header", 2, 4), "Header", 3)
    if name == "" or find(name, "[%s:]") then error(format("Header: %q is not a header name", name), 3) end
    return name, value
  end
  local left, right = match(name, "^([^:%s]+)%s*:%s*(.-)%s*$")
  if not left then error(format("Header: %q is no header line and no value was given", name), 3) end
  return left, right
end

function headers.add(key, name, value)
  count = count + 1
  lines[count] = name .. ": " .. value
  seen = seen or {}
  seen[key] = true
end

-- DefaultHeaders without those that the script has set itself; cookies never replace each other.
local function defaults()
  if not seen then return default_text end
  local kept = {}
  for index = 1, #default_lines do
    local key = lower(match(default_lines[index], "^[^:%s]*"))
    if key == "set-cookie" or not seen[key] then kept[#kept + 1] = default_lines[index] .. "\r\n" end
  end
  return concat(kept)
end

-- All lines, each with its CRLF, in the ancestor's order: defaults, the script's, the session's cookies.
function headers.block(cookie_lines)
  if count == 0 and not cookie_lines then return default_text end
  local block = defaults()
  if count > 0 then block = block .. concat(lines, "\r\n", 1, count) .. "\r\n" end
  if cookie_lines then block = block .. concat(cookie_lines, "\r\n") .. "\r\n" end
  return block
end

-- Memory must not grow with the past, and a request must not find what another left.
function headers.clear()
  if count > KEEP then
    lines = {}
  else
    for index = 1, count do lines[index] = nil end
  end
  count, seen, sent = 0, nil, false
end

-- The head has left.
function headers.close() sent = true end

return headers
