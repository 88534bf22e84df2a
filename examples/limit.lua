-- A rate limiter: so many requests of one address in so many seconds, then 429.

local page = require("lib.page")

local REQUESTS, SECONDS = 5, 10

-- The first request of an address opens its window, which ends by itself.  nil, or the seconds until then.
local function wait_for(address)
  local key = "limit " .. address
  if Shared.Incr(key, 1, 0, SECONDS) <= REQUESTS then return nil end
  return math.max(1, math.ceil(Shared.Ttl(key) or 0))
end

function main()
  local wait = wait_for(Env.REMOTE_ADDR or "")
  local again = '<p><a class="button" href="' .. page.url("limit.lua") .. '">Again</a></p>'
  if wait then
    RespStatus(Response[429])
    Header("Retry-After", ("%d"):format(wait))
    return page.send("Too many requests", { ("<p>Come back in %d seconds.</p>"):format(wait), again })
  end
  page.send("A limit", {
    ("<p>%d requests from one address in %d seconds are answered; who asks more often gets a 429 that says "
      .. "how long to wait. All workers count together.</p>"):format(REQUESTS, SECONDS),
    again,
  })
end
