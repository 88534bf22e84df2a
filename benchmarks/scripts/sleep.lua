-- Waits for another one, as a script does that asks a database.
local socket = require "socket"

function main(env, con)
  socket.sleep(0.1)
  Send("Hello, world!")
end
