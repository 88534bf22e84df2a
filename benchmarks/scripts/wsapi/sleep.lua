-- Waits for another one, as a script does that asks a database; uWSGI asks it for the other script, too.
local socket = require "socket"

local function run(env)
  if env.SCRIPT_NAME == "/sleep.lua" then
    socket.sleep(0.1)
  end
  return 200, { ["Content-Type"] = "text/html" }, coroutine.wrap(function()
    coroutine.yield("Hello, world!")
  end)
end

return run
