-- A JSON API: GET lists the tasks, POST {"text": "..."} adds one.  Needs the Debian package lua-cjson.

local json = require("cjson")
local LONGEST = 200

local function answer(status, value)
  RespStatus(status)
  RespContentType("application/json")
  Send(json.encode(value))
end

function main()
  if Env.REQUEST_METHOD == "GET" then
    local tasks = {}
    for _, key in ipairs(Shared.Keys("task ", 0)) do
      tasks[#tasks + 1] = { id = tonumber(key:sub(6)), text = Shared.Get(key) }
    end
    table.sort(tasks, function(a, b) return a.id < b.id end)
    return answer(200, { count = #tasks, tasks = tasks })
  end
  if Env.REQUEST_METHOD ~= "POST" then
    Header("Allow", "GET, POST")
    return answer(405, { error = "use GET or POST" })
  end
  local task = lf.json()                                -- broken JSON is a 400 by itself
  local text = type(task) == "table" and task.text
  if type(text) ~= "string" or #text > LONGEST then
    return answer(422, { error = "text must be a string of at most " .. LONGEST .. " bytes" })
  end
  local id = Shared.Incr("tasks", 1, 0)
  Shared.Set(("task %d"):format(id), text)
  answer(201, { id = id, text = text })
end
