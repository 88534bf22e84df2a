-- Counts visits, of all workers together, today's apart.

local DAY = 86400

function main()
  local all = Shared.Incr("visits", 1, 0)               -- adds 1, begins at 0; no visit is lost
  local today = Shared.Incr("visits " .. os.date("%Y-%m-%d"), 1, 0, 2 * DAY)
  RespContentType("text/plain")
  Send(("visit %d, %d today\n"):format(all, today))
end
