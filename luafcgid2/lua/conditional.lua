-- lf.conditional: who has the page already does not get it again (RFC 9110, section 13).
-- In: what the script knows of its page, the request's conditions.  Out: ETag and Last-Modified of the response, and
-- 304 or 412 where that is the answer.

local import = ...
local request, response, dates = import("request"), import("response"), import("dates")
local error, format, tostring, type = error, string.format, tostring, type
local find, gmatch, match, now = string.find, string.gmatch, string.match, os.time

local conditional = {}

-- As a header has it; a tag that is in quotes already stays.
local function quoted(tag)
  if type(tag) == "number" then tag = tostring(tag) end
  local full = type(tag) == "string" and (match(tag, '^W?/?"[^"]*"$') and tag or '"' .. tag .. '"')
  -- Visible characters and bytes above ASCII.
  if not full or find(full, "[%c ]") or not find(full, '^"[^"]*"$') and not find(full, '^W/"[^"]*"$') then
    error(format("lf.conditional: %s is no entity tag", type(tag) == "string" and format("%q", tag) or type(tag)), 3)
  end
  return full
end

-- Whether a list of tags has this one.  A weak tag says that two pages mean the same; a change that somebody wants
-- to make needs the very same bytes: strong.
local function listed(list, tag, strong)
  if match(list, "^%s*%*%s*$") then return true end
  if not tag then return false end
  local weak, opaque = match(tag, '^(W?/?)(".*")$')
  if strong and weak ~= "" then return false end
  for prefix, other in gmatch(list, '(W?/?)("[^"]*")') do
    if other == opaque and not (strong and prefix ~= "") then return true end
  end
  return false
end

-- Section 13.2.2: 304, 412 or nil.
local function outcome(env, tag, time)
  local reads = env.REQUEST_METHOD == "GET" or env.REQUEST_METHOD == "HEAD"
  local if_match, none_match = env.HTTP_IF_MATCH, env.HTTP_IF_NONE_MATCH
  if if_match then
    if not listed(if_match, tag, true) then return 412 end
  elseif env.HTTP_IF_UNMODIFIED_SINCE and time then
    local since = dates.time(env.HTTP_IF_UNMODIFIED_SINCE)
    if since and time > since then return 412 end
  end
  if none_match then
    if listed(none_match, tag) then return reads and 304 or 412 end
  elseif reads and env.HTTP_IF_MODIFIED_SINCE and time then
    local since = dates.time(env.HTTP_IF_MODIFIED_SINCE)
    if since and time <= since then return 304 end
  end
  return nil
end

-- `tag` names this version of the page, `time` is when it changed (seconds, as os.time()); one of them may be nil.
-- True if the answer is made: the script has nothing more to send.
function conditional.conditional(tag, time)
  local env = request.env("conditional")
  if tag == nil and time == nil then error("lf.conditional: neither a tag nor a time", 2) end
  if tag ~= nil then
    tag = quoted(tag)
    response.header("ETag", tag)
  end
  if time ~= nil then
    -- Section 8.8.2.1: not later than now.
    if type(time) == "number" and time > now() then time = now() end
    local text = dates.text(time)
    if not text then error("lf.conditional: " .. tostring(time) .. " is no time", 2) end
    response.header("Last-Modified", text)
    time = time - time % 1
  end
  local status = outcome(env, tag, time)
  if not status then return false end
  response.reset_body()
  response.status(status)
  return true
end

return conditional
