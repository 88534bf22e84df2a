-- A page of 64 KB in 2,000 pieces, which wsapi.response collects as its manual has it.
local response = require "wsapi.response"

local function run()
  local page = response.new()
  for row = 1, 2000 do
    page:write(string.format("<li>row number %012d</li>\n", row))
  end
  local status, headers, each = page:finish()
  return status, headers, coroutine.wrap(function()
    for piece in each do
      coroutine.yield(piece)
    end
  end)
end

return run
