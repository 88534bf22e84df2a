-- An order comes as JSON, what it costs goes back as JSON.
local cjson = require "cjson"

ngx.req.read_body()
local order = cjson.decode(ngx.req.get_body_data())
local total = 0
for _, item in ipairs(order.items) do
  total = total + item.price * item.count
end
ngx.header.content_type = "application/json"
ngx.print(cjson.encode({ total = total, count = #order.items }))
