-- Runs a WSAPI 1.x application: status, headers, iterator = run(wsapi_env).
-- In: what the script's code gave (see loader.load_script), the response and the API.  Out: what run.lua asks for the
-- entry point, or nil if the script is no such application.  Loaded only for scripts that have no other entry point.
-- What a launcher of the package lua-wsapi does (wsapi.common) is the rule; the working directory stays as it is.

local _, host = ...
local concat, find, gsub, sub = table.concat, string.find, string.gsub, string.sub
local error, floor, format, ipairs, pairs = error, math.floor, string.format, ipairs, pairs
local getmetatable, pcall, setmetatable, rawget = getmetatable, pcall, setmetatable, rawget
local tonumber, tostring, type = tonumber, tostring, type
local settings, G = host.settings, _G
local response, api

local function callable(value)
  if type(value) == "function" then return true end
  local meta = type(value) == "table" and getmetatable(value)
  return type(meta) == "table" and meta.__call ~= nil
end

-- What `value`, or the global `run`, is to be called as.
local function application(value)
  if type(value) == "table" and callable(rawget(value, "run") or value.run) then return value.run end
  if callable(value) then return value end
  local run = rawget(G, "run")
  return callable(run) and run or nil
end

-- nil at the end, as a file has it.
local function read(input, n)
  if type(n) == "string" then return api.receive() end
  n = floor(tonumber(n) or input.length)
  if n <= 0 then return nil end
  local data = api.receive(n)
  return data ~= "" and data or nil
end

-- A line may come in pieces: it is logged when it ends, or when the request does.
local pending = {}

local function log_pending()
  if #pending == 0 then return end
  local text = gsub(concat(pending), "\n+$", "")
  pending = {}
  if text ~= "" then api.log(text) end
end

local function write(_, ...)
  for _, piece in ipairs({ ... }) do pending[#pending + 1] = tostring(piece) end
  if #pending > 0 and sub(pending[#pending], -1) == "\n" then log_pending() end
  return true
end

local function environment(env)
  local found = { APP_PATH = settings.script_dir, PATH_TRANSLATED = env.SCRIPT_FILENAME }
  found.input = { length = tonumber(env.CONTENT_LENGTH) or 0, read = read }
  found.error = { write = write }
  local path, name = env.PATH_INFO or "", env.SCRIPT_NAME or ""
  -- Some web servers begin PATH_INFO with the script's name.
  if name ~= "" and sub(path, 1, #name) == name then path = sub(path, #name + 1) end
  found.PATH_INFO = path == "" and "/" or path
  return setmetatable(found, { __index = function(self, key)
    local value = env[key]
    if value == nil then value = "" end
    self[key] = value
    return value
  end })
end

local function header(name, value)
  if type(value) ~= "table" then return response.header(name, tostring(value)) end
  for _, item in ipairs(value) do response.header(name, tostring(item)) end
end

-- Bodies whose length is known are sent whole, and so is a single piece.  From the second one on each is sent at once.
local function send_body(iterator, whole)
  local count, piece = 1, iterator()
  while piece do
    response.send(piece)
    if count > 1 and not whole then response.flush() end
    count, piece = count + 1, iterator()
    if count == 2 and piece and not whole then response.flush() end
  end
end

-- Whether the body's length is among the headers.
local function send_head(status, headers)
  if type(status) == "number" then status = format("%d", status) end
  response.status(status or "500")
  local whole = false
  for name, value in pairs(headers or {}) do
    whole = whole or find(name, "^[Cc]ontent%-[Ll]ength$") ~= nil
    header(name, value)
  end
  return whole
end

local function respond(status, headers, iterator)
  local ok, whole = pcall(send_head, status, headers)
  -- Our own line tells the application's author nothing.
  if not ok then error("WSAPI: " .. gsub(whole, "^[%[?][^\n]-:%-?%d*:? ", ""), 0) end
  if iterator == nil then return end
  if not callable(iterator) then
    error("a WSAPI application returned a " .. type(iterator) .. " where its iterator should be", 0)
  end
  send_body(iterator, whole)
end

return function(value, the_response, the_api)
  local run = application(value)
  if not run then return nil end
  response, api = the_response, the_api

  local function main(env)
    pending = {}
    respond(run(environment(env)))
    log_pending()
  end
  return function() return main end
end
