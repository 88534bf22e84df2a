-- Asks `authorize(env, con)` of a script whether a request may go on: FastCGI's Authorizer role, nginx's auth_request.
-- In: what goes in front of the names of variables, and what to call instead of `authorize`, if anything.  Out: what
-- run.lua calls instead of the entry point, or nil and a message if the script has no such function; from then on the
-- answer is 403 unless something else is said.  Loaded when it is first needed.  Nothing that a script forgets, and no
-- way to leave it, allows a request.

local import = ...
local response, headers = import("response"), import("headers")
local error, find, floor, lower, pairs, type = error, string.find, math.floor, string.lower, pairs, type
local rawget, tostring, G = rawget, tostring, _G
local NO_AUTHORIZE = "the script defines no function 'authorize', which the Authorizer role asks for"
-- Where variables become plain headers, these would mean something else.
local TAKEN = { ["status"] = true, ["location"] = true, ["content-type"] = true, ["content-length"] = true }

local function fields_of(value, what)
  if value ~= nil and type(value) ~= "table" then
    error("authorize: " .. what .. " are a table, not a " .. type(value), 0)
  end
  return value or {}
end

local function allow(prefix, variables)
  response.status(200)
  response.reset_body()
  for name, value in pairs(fields_of(variables, "the variables")) do
    if type(name) ~= "string" or not find(name, "^[%w_-]+$") or TAKEN[lower(name)] then
      error("authorize: a variable cannot be called " .. tostring(name), 0)
    end
    if type(value) == "boolean" then value = tostring(value) end
    response.header(prefix .. name, headers.text(value, "authorize", 2))
  end
end

local function deny(prefix, status, fields, body)
  if type(fields) == "string" then fields, body = nil, fields end
  if status ~= floor(status) or status < 300 or status > 599 then
    error("authorize: the status " .. status .. " is none that allows (200) or denies (300 to 599)", 0)
  end
  response.status(status)
  for name, value in pairs(fields_of(fields, "the headers")) do response.header(name, value) end
  local sent = response.take()
  -- nginx takes no body, and has pages of its own.
  if body == nil and sent == "" and prefix ~= "" then
    body = "Status " .. status .. "\n"
    response.default_type("text/plain")
  end
  response.send(body or sent)
end

local function decide(prefix, result, more, body)
  if not result then
    -- RespStatus has said all, or nothing has; variables are not for who is denied.
    local code = response.code()
    if result == nil and code == 200 then return end
    result, more, body = (result == nil or code >= 300) and code or 403, nil, nil
  end
  if result == true or result == 200 then return allow(prefix, more) end
  if type(result) ~= "number" then
    error("authorize returned a " .. type(result) .. ": true, false or a status is expected first", 0)
  end
  deny(prefix, result, more, body)
end

return function(prefix, instead)
  local authorize = instead or rawget(G, "authorize")
  if type(authorize) ~= "function" then return nil, NO_AUTHORIZE end
  response.status(403)
  return function(env, con)
    return decide(prefix, authorize(env, con))
  end
end
