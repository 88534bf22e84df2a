-- A JSON API as a WSAPI application: notes that all workers share.
--   GET notes.lua        every note          POST notes.lua {"text": "..."}    a new note
--   GET notes.lua/ID     one of them         DELETE notes.lua/ID               no longer there
-- It needs lua-cjson (Debian: apt-get install lua-cjson).

local found, json = pcall(require, "cjson")
local KEY = "note "
local LONGEST = 1000

local function answer(status, value)
  local body = json.encode(value)
  local headers = { ["Content-Type"] = "application/json", ["Content-Length"] = #body }
  local function once()
    local text = body
    body = nil
    return text
  end
  return status, headers, once
end

local function problem(status, message)
  return answer(status, { error = message })
end

local function all()
  local notes = {}
  for _, key in ipairs(Shared.Keys(KEY)) do
    notes[#notes + 1] = { id = tonumber(key:sub(#KEY + 1)), text = Shared.Get(key) }
  end
  table.sort(notes, function(a, b) return a.id < b.id end)
  return answer(200, { count = #notes, notes = notes })
end

local function create(env)
  local ok, note = pcall(json.decode, env.input:read() or "")
  if not ok or type(note) ~= "table" or type(note.text) ~= "string" or #note.text > LONGEST then
    return problem(400, 'send {"text": "..."} with at most ' .. LONGEST .. " bytes")
  end
  local id = Shared.Incr("notes", 1, 0)
  Shared.Set(KEY .. ("%d"):format(id), note.text)
  return answer(201, { id = id, text = note.text })
end

local function one(id)
  local text = Shared.Get(KEY .. id)
  if not text then return problem(404, "no such note") end
  return answer(200, { id = tonumber(id), text = text })
end

local function delete(id)
  Shared.Delete(KEY .. id)
  return 204, {}
end

return function(env)
  if not found then return 501, { ["Content-Type"] = "text/plain" }, coroutine.wrap(function()
    coroutine.yield("This example needs lua-cjson.\n")
  end) end
  local id = env.PATH_INFO:match("^/(%d+)$")
  local action = env.REQUEST_METHOD .. (id and " one" or " all")
  if not id and env.PATH_INFO ~= "/" then return problem(404, "no such page") end
  if action == "GET all" then return all() end
  if action == "POST all" then return create(env) end
  if action == "GET one" then return one(id) end
  if action == "DELETE one" then return delete(id) end
  return problem(405, "use GET, POST or DELETE")
end
