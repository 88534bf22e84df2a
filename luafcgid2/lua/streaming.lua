-- Sends what a script has so far: Flush(), SendFile(), and output over MaxBufferSize.
-- In: calls of scripts and of response.lua.  Out: pieces of the answer, by host functions; a client that is gone is a
-- Lua error.  Loaded when a script first streams.  Where nothing can be sent in pieces, all stays in the buffer.

local import, host = ...
local response, session, headers, buffer = import("response"), import("session"), import("headers"), import("buffer")
local error, byte, find, format, gsub, sub = error, string.byte, string.find, string.format, string.gsub, string.sub
local settings = host.settings

local streaming = {}

-- Whether the head has left, and whether nothing may follow it.
local started, silent
-- What the two are about.
local known

-- Raises at the script's line, so many levels up.
local function check(name, problem, level)
  if problem then error(name .. ": " .. problem, level) end
end

local function request(name, level)
  local env = session.request()
  if not env then error(name .. ": there is no request while top-level code runs", level) end
  if env ~= known then known, started, silent = env, false, false end
  return env
end

local function rest()
  local content = buffer.take()
  return silent and "" or content
end

-- The head; the cookie of a new session is in it, and what Session stores later is stored when the script returns.
local function head(env)
  local status, content_type, length = response.parts()
  local lines = session.finish()
  started = true
  silent = env.REQUEST_METHOD == "HEAD" or find(status, "^[23]04") ~= nil
  response.leave(rest)
  local text = "Status: " .. status .. "\r\nContent-Type: " .. content_type .. "\r\n"
    .. headers.block(lines) .. (length and "Content-Length: " .. length .. "\r\n" or "") .. "\r\n"
  headers.close()
  return text
end

local function flush(name)
  local env = request(name, 5)
  local first = ""
  if not started then
    if not host.stream_ready() then return end
    first = head(env)
  end
  local data = first .. rest()
  if data ~= "" then check(name, host.stream_push(data), 5) end
end

function streaming.flush() flush("Flush") end
function streaming.overflow() flush("Send") end

-- Both headers are decoded as URLs.
local function encoded(path)
  return (gsub(path, "[^A-Za-z0-9/._~-]", function(char) return format("%%%02X", byte(char)) end))
end

-- SendFileMap = "/srv/files=/protected": a file below the left side has a name for the web server.
local function mapped(path)
  local map = settings.send_file_map
  local at = find(map, "=", 1, true)
  if not at then return path end
  local from = sub(map, 1, at - 1)
  return sub(path, 1, #from) == from and sub(map, at + 1) .. sub(path, #from + 1) or nil
end

-- The file is the body, or the rest of it: true; or nil and a message if it cannot be read.  A relative name is
-- looked for beside the script.
function streaming.send_file(path)
  local env = request("SendFile", 4)
  path = headers.text(path, "SendFile", 1, 4)
  if sub(path, 1, 1) ~= "/" then path = settings.script_dir .. "/" .. path end
  local size, kind = host.file_open(path)
  if not size then return nil, kind end
  local asked = not started and settings.send_file_header ~= "" and mapped(path)
  if asked then
    host.file_close()
    response.reset_body()
    response.default_type(kind)
    response.header(settings.send_file_header, encoded(asked))
    return true
  end
  if not started then
    if not host.stream_ready() then
      host.file_close()
      return nil, "nothing can be streamed here"
    end
    response.reset_body()
    response.default_type(kind)
    response.header("Content-Length", size)
    check("SendFile", host.stream_push(head(env)), 4)
  else
    flush("SendFile")
  end
  if silent then host.file_close() else check("SendFile", host.file_send(size), 4) end
  return true
end

return streaming
