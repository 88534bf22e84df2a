-- Fails on purpose.  With ShowErrors (which `luafcgid2 serve` turns on) the page shows where and why; without
-- it the client sees a plain 500, and the log has the rest.

local function price_of(order)
  return order.amount * order.price
end

local function invoice(orders)
  local sum = 0
  for _, order in ipairs(orders) do
    sum = sum + price_of(order)
  end
  return sum
end

function main()
  Send("The client never sees this line: a failed script's output is dropped.")
  Send(invoice({ { amount = 2, price = 10 }, { amount = 3 } }))
end
