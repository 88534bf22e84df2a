-- An order comes as JSON, what it costs goes back as JSON.
local cjson = require "cjson"

local function run(env)
  local order = cjson.decode(env.input:read(tonumber(env.CONTENT_LENGTH)))
  local total = 0
  for _, item in ipairs(order.items) do
    total = total + item.price * item.count
  end
  return 200, { ["Content-Type"] = "application/json" }, coroutine.wrap(function()
    coroutine.yield(cjson.encode({ total = total, count = #order.items }))
  end)
end

return run
