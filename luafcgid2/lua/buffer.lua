-- What the script of the request that this Lua state serves now has sent with Send, until it leaves.
-- In: strings and numbers.  Out: `take` gives all of it as one string.  Only response.lua and streaming.lua use it.

local import, host = ...
local text_of = import("headers").text
local concat, type = table.concat, type
local KEEP = 64
local limit = host.settings.max_buffer
local most = limit > 0 and limit or math.huge

local body, count, size = {}, 0, 0

local buffer = {}

-- Memory must not grow with the past, and a request must not find what another left.
local function forget()
  if count > KEEP then
    body = {}
  else
    for index = 1, count do body[index] = nil end
  end
  count, size = 0, 0
end

function buffer.send(value)
  if type(value) ~= "string" then value = text_of(value, "Send", 1) end
  count, size = count + 1, size + #value
  body[count] = value
  if size > most and count > 1 then import("streaming").overflow() end
end

function buffer.take()
  local content = count == 1 and body[1] or concat(body, "", 1, count)
  forget()
  return content
end

buffer.forget = forget

return buffer
