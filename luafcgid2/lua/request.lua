-- What the functions of `lf` need of the request that this Lua state serves now.
-- In: nothing; it asks the modules that run.lua has told of the request.  Out: env, remember, kind, body, refuse.
-- Only the modules that features.lua names use it.

local import, host = ...
local api = import("api")
local error, setmetatable, format = error, setmetatable, string.format
local lower, match = string.lower, string.match

local request = {}

-- What was found out, by the request's Env: it goes when that goes.
local known = setmetatable({}, { __mode = "k" })

-- The request's variables, whatever the script has done to its own Env.
function request.env(name)
  local env = host.now.env
  if not env then error("lf." .. name .. ": there is no request while top-level code runs", 3) end
  return env
end

-- A table for this request's results.
function request.remember(env)
  local results = known[env]
  if not results then
    results = {}
    known[env] = results
  end
  return results
end

-- The body's content type in lower case, without its parameters.
function request.kind(env)
  return lower(match(env.CONTENT_TYPE or "", "^%s*([^;%s]*)"))
end

-- What the client sent cannot be used: the request ends with this status, whatever pcall of the script is about.
function request.refuse(status, message)
  import("exits").leave({ status = status, message = message })
end

-- The body has to be whole for who parses it.  `level` is where the script is, as error() counts.
function request.expect_body(name, level)
  if not api.unread() then
    error("lf." .. name .. ": the body was read before, by Receive or by another function of lf", level)
  end
end

-- The whole body, within FormMemory.
function request.body(name, level)
  request.expect_body(name, level)
  local limit = host.settings.form_memory
  local text = api.receive(limit > 0 and limit + 1 or nil)
  if limit > 0 and #text > limit then
    request.refuse(413, format("the body is over FormMemory (%d bytes), see lf.%s", limit, name))
  end
  return text
end

return request
