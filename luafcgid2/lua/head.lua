-- Status, content type and headers of the response of the request that this Lua state serves now.
-- In: what the script sets.  Out: the head of the CGI response (RFC 3875, section 6).  Loaded when a script first sets
-- something; response.lua tells it of the next request.  Only modules of the prelude use it.

local import, host = ...
local headers, response = import("headers"), import("response")
local text_of, safe = headers.text, headers.safe
local tonumber, fail = tonumber, import("blame")
local pairs, setmetatable = pairs, setmetatable
local find, lower, match, format = string.find, string.lower, string.match, string.format
local now, settings = host.now, host.settings
local default_status, default_type = settings.default_status, settings.default_content_type

local status, content_type = default_status, default_type
local status_set, changed, content_length = false, false, nil
-- Once the head has left: streaming.lua's function that gives what may follow it of what is buffered.
local rest

local head = {}

-- From `now.head = clear` on the head is not as usual.
local function clear()
  status, content_type, content_length = default_status, default_type, nil
  changed, status_set, rest = false, false, nil
  headers.clear()
  if now.large then now.large() end
  now.head = nil
end

local function set_status(value)
  value = host.statuses[tonumber(value) or 0] or value
  if not find(value, "^[1-9]%d%d$") and not find(value, "^[1-9]%d%d ") then
    fail(format("%q is not an HTTP status: write 404 or Response[404]", value))
  end
  status, status_set, changed, now.head = value, true, true, clear
end

local function set_content_type(value)
  content_type, changed, now.head = value, true, clear
end

function head.status(value)
  set_status(safe(text_of(value, "RespStatus", 1), "RespStatus"))
end

function head.content_type(value)
  set_content_type(safe(text_of(value, "RespContentType", 1), "RespContentType"))
end

-- These exist once in a response, so a script's own value replaces ours.
local single = {
  ["status"] = set_status,
  ["content-type"] = set_content_type,
  ["content-length"] = function(value) content_length = value end,
}

function head.header(name, value)
  name, value = headers.split(name, value)
  now.head = clear
  local key = lower(name)
  local set = single[key]
  if set then
    set(value)
  else
    headers.add(key, name, value)
    -- As CGI has it (RFC 3875, section 6.2.3): a Location without a status is a redirect.
    if key == "location" and not status_set then status, changed = host.statuses[302], true end
  end
end

function head.flush() import("streaming").flush() end
function head.code() return tonumber(match(status, "^%d+")) end

-- Status and content type stay, as with the ancestor.
function head.reset()
  content_length = nil
  if not rest then headers.clear() end
  response.reset_body()
end

-- For streaming.lua: what the head is made of.
function head.parts() return status, content_type, content_length end

function head.has_left() return rest ~= nil end

-- The response is not as usual, though its head may be.
function head.touch() now.head = clear end

function head.leave(what_is_left)
  rest, now.head = what_is_left, clear
end

function head.default_type(kind)
  if content_type == default_type then set_content_type(kind) end
end

-- See response.finish.
function head.finish_head(method, cookie_lines)
  if rest then return "", rest(cookie_lines) end
  return import("ending")(method, cookie_lines, status, content_type, content_length, changed)
end

-- Puts the functions where response.lua's callers look for them.
function head.install(face)
  setmetatable(face, nil)
  for name, work in pairs(head) do face[name] = work end
  return face
end

return head
