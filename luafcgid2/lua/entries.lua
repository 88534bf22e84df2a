-- What a script that has no entry point is called by: its `authorize`, as nginx's auth_request wants it, or WSAPI.
-- In: what the script's code gave (see loader.load_script).  Out: what run.lua asks for the entry point, or nil if the
-- script has neither.  Loaded only for such scripts.

local import, host = ...
local response, api = import("response"), import("api")
local rawget, type, G = rawget, type, _G
local name = host.settings.entrypoint

local NO_ENTRY = "the script defines no function '" .. name .. "' (Entrypoint), nor is it a WSAPI one"

local entries = { NO_ENTRY = NO_ENTRY }

local function nothing() end

function entries.other(value)
  -- An application may well have a function of that name; what is returned, or called so by Entrypoint, is clear.
  local returned = type(value) == "function" or type(value) == "table"
  local wanted = name == "authorize" or not returned
  -- A prompt (repl.lua) puts its own entry point before them.
  if wanted and type(rawget(G, "authorize")) == "function" then
    local authorizer = import("authorizer")
    -- Nothing leaves before it is known.
    host.stream_ready = nothing
    return function() return (authorizer("", rawget(G, name))) end
  end
  local application = import("wsapi")(value, response, api)
  return application and function() return rawget(G, name) or application() end
end

-- For a request that finds no entry point: a script that has lost it, or the Authorizer role, whose requests have no
-- `script_name`: what is called, or nil and a message.
function entries.instead(script_name)
  if script_name then return nil, NO_ENTRY end
  return import("authorizer")("Variable-")
end

return entries
