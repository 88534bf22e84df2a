-- The response of the request that this Lua state serves now, of which nothing leaves before the script returns, unless
-- it asks streaming.lua to.  In: what the script sends.  Out: `finish` gives the CGI response (RFC 3875, section 6), or
-- what is left of it.  Status and headers are head.lua's; it is loaded when a script first sets one, and its functions
-- are found here, too.  Only modules of the prelude use it.

local import, host = ...
local concat, setmetatable, type = table.concat, setmetatable, type
-- Bytes: of a body that is not joined with its head; and of pieces until large.lua takes them.
local KEEP, LARGE, FULL = 64, 32768, 262144
local now, limit = host.now, host.settings.max_buffer
local most = limit > 0 and limit < FULL and limit or FULL
-- All that comes before the length when a script has not changed it.
local head = host.settings.default_head

local body, count, size = {}, 0, 0

local response = setmetatable({}, { __index = function(response, name)
  return import("head").install(response)[name]
end })

function response.send(value)
  if type(value) ~= "string" then value = import("headers").text(value, "Send", 1) end
  count, size = count + 1, size + #value
  body[count] = value
  if size > most and count > 1 then import("large").full(body, count, size) end
end

-- Memory must not grow with the past, and a request must not find what another left.
local function forget()
  if count > KEEP then
    body = {}
  else
    for index = 1, count do body[index] = nil end
  end
  count, size = 0, 0
end

-- What was sent, until it leaves: as one string.
local function take()
  local content = count == 1 and body[1] or concat(body, "", 1, count)
  forget()
  return content
end
response.reset_body, response.take, response.pieces = forget, take, take

function response.begin()
  if now.head then now.head() end
  if count > 0 then forget() end
end

-- All before the body of the answer before: most answers of a script are as long as its last one.
local known_length, known_head

-- The whole CGI response; or its head and its body, where joining them would copy a LARGE body.
function response.finish(method, cookie_lines)
  if now.head or cookie_lines then return response.finish_head(method, cookie_lines) end
  local content = take()
  local length = #content
  if length ~= known_length then
    known_length, known_head = length, head .. "Content-Length: " .. length .. "\r\n\r\n"
  end
  if method == "HEAD" then return known_head end
  if length > LARGE then return known_head, content end
  return known_head .. content
end

return response
