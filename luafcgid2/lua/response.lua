-- The response of the request that this Lua state serves now: status, headers, body; nothing leaves before
-- the script returns.  In: what the script sets.  Out: `finish` gives the CGI response (RFC 3875, section 6) in
-- two strings, between which Python may put X-ElapsedTime.  Header injection (CR, LF, NUL) raises an error.
-- Only api.lua and run.lua use it.

local import, host = ...
local statuses = import("statuses")
local concat, tostring, type, error = table.concat, tostring, type, error
local find, lower, match, gmatch, format = string.find, string.lower, string.match, string.gmatch, string.format
local settings = host.settings
-- Lua 5.1 ends a pattern at a zero byte and knows %z; later versions take the byte itself.
local UNSAFE = _VERSION == "Lua 5.1" and "[\r\n%z]" or "[\r\n\0]"
local KEEP = 64

local default_lines, default_text = {}, ""
for line in gmatch(settings.default_headers, "[^\r\n]+") do
  default_lines[#default_lines + 1] = line
end
if #default_lines > 0 then default_text = concat(default_lines, "\r\n") .. "\r\n" end
local default_head = "Status: " .. settings.default_status .. "\r\nContent-Type: "
  .. settings.default_content_type .. "\r\n"

local status, content_type, content_length, changed
local lines, line_count, seen = {}, 0, nil
local body, count = {}, 0

local response = {}

function response.begin()
  status, content_type, content_length = settings.default_status, settings.default_content_type, nil
  changed, line_count, count, seen = false, 0, 0, nil
end

-- Takes what `tostring` would take silently out of the way: the ancestor accepts numbers and nothing else.
local function text_of(value, name, index)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "number" then return tostring(value) end
  error(format("bad argument #%d to '%s' (string expected, got %s)", index, name, value == nil and "nil" or kind), 3)
end
response.text_of = text_of

function response.send(value)
  if type(value) ~= "string" then value = text_of(value, "Send", 1) end
  count = count + 1
  body[count] = value
end

local function safe(value, name, level)
  if find(value, UNSAFE) then
    error(format("%s: a line break or NUL in %q is refused (header injection)", name, value), level + 1)
  end
  return value
end

function response.status(value)
  value = safe(text_of(value, "RespStatus", 1), "RespStatus", 2)
  status, changed = statuses[tonumber(value) or 0] or value, true
end

function response.content_type(value)
  content_type, changed = safe(text_of(value, "RespContentType", 1), "RespContentType", 2), true
end

-- These three exist once in a response, so a script's own value replaces ours.
local single = {
  ["status"] = function(value) status, changed = statuses[tonumber(value) or 0] or value, true end,
  ["content-type"] = function(value) content_type, changed = value, true end,
  ["content-length"] = function(value) content_length = value end,
}

function response.header(name, value)
  name = safe(text_of(name, "Header", 1), "Header", 2)
  if value == nil then
    -- The ancestor sends the first argument as a line of its own; scripts pass "Name: value" that way.
    local left, right = match(name, "^([^:%s]+)%s*:%s*(.-)%s*$")
    if not left then error(format("Header: %q is no header line and no value was given", name), 2) end
    name, value = left, right
  else
    value = safe(text_of(value, "Header", 2), "Header", 2)
    if name == "" or find(name, "[%s:]") then error(format("Header: %q is not a header name", name), 2) end
  end
  local key = lower(name)
  local set = single[key]
  if set then return set(value) end
  line_count = line_count + 1
  lines[line_count] = name .. ": " .. value
  seen = seen or {}
  seen[key] = true
end

function response.reset_body()
  count = 0
end

function response.reset()
  count, line_count, seen, content_length = 0, 0, nil, nil
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

-- Scripts could reach what is left in the buffers only with `debug`, yet memory must not grow with the past.
local function forget()
  if count > KEEP or line_count > KEEP then
    body, lines = {}, {}
  else
    for index = 1, count do body[index] = nil end
    for index = 1, line_count do lines[index] = nil end
  end
end

function response.finish(method, cookie_lines)
  local content = count == 1 and body[1] or concat(body, "", 1, count)
  local length = #content
  local head = default_head
  local extra = ""
  if changed then head = "Status: " .. status .. "\r\nContent-Type: " .. content_type .. "\r\n" end
  if line_count > 0 then extra = concat(lines, "\r\n", 1, line_count) .. "\r\n" end
  if cookie_lines then extra = extra .. concat(cookie_lines, "\r\n") .. "\r\n" end
  local bodiless = changed and (find(status, "^204") or find(status, "^304") or find(status, "^1%d%d"))
  if bodiless then
    local rest = defaults() .. extra .. "\r\n"
    forget()
    return head, rest
  end
  if method == "HEAD" then
    if length == 0 and content_length then length = content_length end
    content = ""
  end
  local rest = defaults() .. extra .. "Content-Length: " .. length .. "\r\n\r\n" .. content
  forget()
  return head, rest
end

return response
