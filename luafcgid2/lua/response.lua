-- The response of the request that this Lua state serves now: status, headers, body; nothing leaves before
-- the script returns, unless it asks streaming.lua to.  In: what the script sets.  Out: `finish` gives the CGI response
-- (RFC 3875, section 6), or what is left of it.  Only modules of the prelude use it.

local import, host = ...
local statuses, headers, buffer = import("statuses"), import("headers"), import("buffer")
local text_of, safe = headers.text, headers.safe
local take, forget, tonumber, error = buffer.take, buffer.forget, tonumber, error
local find, lower, match, format = string.find, string.lower, string.match, string.format
local settings = host.settings
local LARGE = 32768

local default_status = headers.once.status or settings.default_status
local default_type = headers.once["content-type"] or settings.default_content_type
local elapsed = settings.elapsed and "X-ElapsedTime: 0\r\n" or ""  -- responder.py writes the milliseconds
local default_head = "Status: " .. default_status .. "\r\nContent-Type: " .. default_type .. "\r\n" .. elapsed

local status, status_set, content_type, content_length, changed
-- Once the head has left: streaming.lua's function that gives what may follow it of what is buffered.
local rest
local response = { send = buffer.send, reset_body = buffer.forget }

function response.begin()
  status, content_type, content_length = default_status, default_type, nil
  changed, status_set, rest = false, false, nil
  headers.clear()
  forget()
end

local function set_status(value)
  value = statuses[tonumber(value) or 0] or value
  if not find(value, "^[1-9]%d%d$") and not find(value, "^[1-9]%d%d ") then
    error(format("%q is not an HTTP status: write 404 or Response[404]", value), 3)
  end
  status, status_set, changed = value, true, true
end

local function set_content_type(value)
  content_type, changed = value, true
end

function response.status(value)
  set_status(safe(text_of(value, "RespStatus", 1), "RespStatus", 2))
end

function response.content_type(value)
  set_content_type(safe(text_of(value, "RespContentType", 1), "RespContentType", 2))
end

-- These exist once in a response, so a script's own value replaces ours.
local single = {
  ["status"] = set_status,
  ["content-type"] = set_content_type,
  ["content-length"] = function(value) content_length = value end,
}

function response.header(name, value)
  name, value = headers.split(name, value)
  local key = lower(name)
  local set = single[key]
  if set then
    set(value)
  else
    headers.add(key, name, value)
    -- As CGI has it (RFC 3875, section 6.2.3): a Location without a status is a redirect.
    if key == "location" and not status_set then status, changed = statuses[302], true end
  end
end

function response.flush() import("streaming").flush() end
function response.code() return tonumber(match(status, "^%d+")) end

-- Status and content type stay, as with the ancestor.
function response.reset()
  content_length = nil
  if not rest then headers.clear() end
  forget()
end

-- For streaming.lua: what the head is made of.
function response.parts() return status, content_type, content_length end
function response.leave(what_is_left) rest = what_is_left end

function response.default_type(kind)
  if content_type == default_type then set_content_type(kind) end
end

-- The length's line of the answer before: most answers of a script are as long as its last one.
local known_length, length_line

-- The whole CGI response; or its head and its body, where joining them would copy a LARGE body.
function response.finish(method, cookie_lines)
  if rest then return "", rest(cookie_lines) end
  local content = take()
  local head, block = default_head, headers.block(cookie_lines)
  if changed then
    head = "Status: " .. status .. "\r\nContent-Type: " .. content_type .. "\r\n" .. elapsed
    if find(status, "^204") or find(status, "^304") or find(status, "^1%d%d") then return head .. block .. "\r\n" end
  end
  local length = #content
  if method == "HEAD" then
    -- A script that knows the length need not make the body.
    if length == 0 and content_length then length = content_length end
    content = ""
  end
  if length ~= known_length then
    known_length, length_line = length, "Content-Length: " .. length .. "\r\n\r\n"
  end
  if #content > LARGE then return head .. block .. length_line, content end
  return head .. block .. length_line .. content
end

return response
