-- Sends what a script has so far: Flush(), SendFile(), and output over MaxBufferSize.
-- In: calls of scripts and of response.lua.  Out: pieces of the answer, by host functions; a client that is gone is a
-- Lua error.  Loaded when a script first streams.  Where nothing can be sent in pieces, all stays in the buffer.

local import, host = ...
local response, headers = import("response"), import("headers")
local find, match, sub = string.find, string.match, string.sub
local pushing, fail = import("pushing"), import("blame")
local push, check, error, pcall = pushing.push, pushing.check, error, pcall
local now, settings = host.now, host.settings

local streaming = {}

-- Of the request `known`: whether the head has left, whether nothing may follow it, and the line of its cookie.
local known, started, silent, cookie

-- What Session stores now, if anything.
local function finish_session()
  return now.finish and now.finish()
end

local function request(name)
  local env = now.env
  if not env then fail(name .. ": there is no request while top-level code runs") end
  if env ~= known then known, started, silent = env, false, false end
  return env
end

local function rest(lines)
  if lines and not (cookie and match(cookie, "^[^;]*") == match(lines[1], "^[^;]*"))
      and not find(known.HTTP_COOKIE or "", match(lines[1], "^[^:]*: ([^;]*)"), 1, true) then
    host.log("Session: its cookie has changed after Flush, and the client does not get it")
  end
  local content = response.take()
  return silent and "" or content
end

-- The head; the cookie of a new session is in it, and what Session stores later is stored when the script returns.
local function head(env)
  local status, content_type, length = response.parts()
  local stored, lines = pcall(finish_session)
  if not stored then
    host.file_close()
    error(lines, 0)
  end
  started, cookie = true, lines and lines[1]
  silent = env.REQUEST_METHOD == "HEAD" or find(status, "^[23]04") ~= nil or find(status, "^1") ~= nil
  response.leave(rest)
  local text = "Status: " .. status .. "\r\nContent-Type: " .. content_type .. "\r\n"
    .. headers.block(lines) .. (length and "Content-Length: " .. length .. "\r\n" or "") .. "\r\n"
  headers.close()
  return text
end

-- Whether anything could be sent.
local function flush(name)
  local env = request(name)
  local first = ""
  if not started then
    if not host.stream_ready() then return false end
    first = head(env)
  end
  if now.large then
    local parts, count = import("large").take()
    for index = 1, silent and 0 or count do
      push(name, first .. parts[index])
      first = ""
    end
  end
  push(name, first .. rest())
  return true
end

function streaming.flush() flush("Flush") end
function streaming.overflow() return flush("Send") end

-- The file is the body, or the rest of it: true; or nil and a message if it cannot be read.  A relative name is
-- looked for beside the script.
function streaming.send_file(path)
  local env = request("SendFile")
  path = headers.text(path, "SendFile", 1)
  if sub(path, 1, 1) ~= "/" then path = settings.script_dir .. "/" .. path end
  local size, kind = host.file_open(path)
  if not size then return nil, kind end
  local asked = not started and settings.send_file_header ~= "" and import("handover")(path)
  if asked then
    host.file_close()
    response.reset_body()
    response.default_type(kind)
    response.header(settings.send_file_header, asked)
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
    check("SendFile", host.stream_push(head(env)))
  else
    flush("SendFile")
  end
  if silent then host.file_close() else check("SendFile", host.file_send(size)) end
  return true
end

return streaming
