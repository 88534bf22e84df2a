-- At most so many requests a minute from one address.

local MOST, MINUTE = 5, 60

function main()
  local count = Shared.Incr("limit " .. Env.REMOTE_ADDR, 1, 0, MINUTE)
  if count > MOST then
    RespStatus(429)
    Header("Retry-After", math.ceil(Shared.Ttl("limit " .. Env.REMOTE_ADDR) or MINUTE))
    return Send("Slow down.\n")
  end
  Send("Here you are.\n")
end
