-- An order comes as JSON, what it costs goes back as JSON.
local cjson = require "cjson"

function main(env, con)
  local order = cjson.decode(Receive())
  local total = 0
  for _, item in ipairs(order.items) do
    total = total + item.price * item.count
  end
  RespContentType("application/json")
  Send(cjson.encode({ total = total, count = #order.items }))
end
