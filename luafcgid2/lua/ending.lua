-- Ends a response whose head is not as usual, or whose body is in large.lua's parts.
-- In: the method, the lines of cookies, and what head.lua knows.  Out: as response.finish; false in the place of the
-- body where it is in parts.  Only head.lua uses it.

local import, host = ...
local response, headers = import("response"), import("headers")
local find = string.find
local now, LARGE = host.now, 32768
local elapsed = host.settings.elapsed and "X-ElapsedTime: 0\r\n" or ""  -- responder.py writes the milliseconds

return function(method, cookie_lines, status, content_type, content_length, changed)
  local large = now.large and import("large")
  if large then large.add(response.pieces()) end
  local content = large and "" or response.take()
  local length = large and large.size() or #content
  local text = "Status: " .. status .. "\r\nContent-Type: " .. content_type .. "\r\n" .. elapsed
    .. headers.block(cookie_lines)
  if changed and (find(status, "^204") or find(status, "^304") or find(status, "^1%d%d")) then
    response.reset_body()
    return text .. "\r\n"
  end
  if method == "HEAD" then
    -- A script that knows the length need not make the body.
    if length == 0 and content_length then length = content_length end
    response.reset_body()
    content, large = "", nil
  end
  text = text .. "Content-Length: " .. length .. "\r\n\r\n"
  if large then return text, false end
  if #content > LARGE then return text, content end
  return text .. content
end
