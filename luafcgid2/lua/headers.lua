-- The header lines of the request that this Lua state serves now.
-- In: names and values that a script sets.  Out: lines for the header block, DefaultHeaders among them.  CR, LF
-- and NUL in any of them raise an error (header injection).  Loaded when it is first needed.

local import, host = ...
local concat, tostring, type, fail = table.concat, tostring, type, import("blame")
local find, lower, match, gmatch, format = string.find, string.lower, string.match, string.gmatch, string.format
-- Lua 5.1 ends a pattern at a zero byte and knows %z; later versions take the byte itself.
local UNSAFE = _VERSION == "Lua 5.1" and "[\r\n%z]" or "[\r\n\0]"
local KEEP = 64

-- DefaultHeaders but those that exist once in a response, each with its line end; see state.py.
local default_text = host.settings.default_headers

local lines, count, seen, sent = {}, 0, nil, false

local headers = {}

-- The ancestor takes numbers for strings and nothing else; `tostring` would take tables and nil silently.
function headers.text(value, name, index)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "number" then return tostring(value) end
  fail(format("bad argument #%d to '%s' (string expected, got %s)", index, name, kind))
end

function headers.safe(value, name)
  if sent then fail(name .. ": the headers have been sent, by Flush or because of MaxBufferSize") end
  if find(value, UNSAFE) then
    fail(format("%s: a line break or NUL in %q is refused (header injection)", name, value))
  end
  return value
end

-- Without a value, `name` is a whole line: the ancestor sends it as it is, and scripts pass "Name: value" so.
function headers.split(name, value)
  name = headers.safe(headers.text(name, "Header", 1), "Header")
  if value ~= nil then
    value = headers.safe(headers.text(value, "Header", 2), "Header")
    if name == "" or find(name, "[%s:]") then fail(format("Header: %q is not a header name", name)) end
    return name, value
  end
  local left, right = match(name, "^([^:%s]+)%s*:%s*(.-)%s*$")
  if not left then fail(format("Header: %q is no header line and no value was given", name)) end
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
  for line in gmatch(default_text, "[^\r\n]+") do
    local key = lower(match(line, "^[^:%s]*"))
    if key == "set-cookie" or not seen[key] then kept[#kept + 1] = line .. "\r\n" end
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
