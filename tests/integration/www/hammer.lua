-- ?key=name&value=5: stores a number in the session, counts in Shared; the count.  Without a key: all that is
-- stored, a line each.

function main()
  local query = lf.parse(Env.QUERY_STRING)
  if query.key then
    Session.SetVar("hammer", query.key, tonumber(query.value))
    Send(assert(Shared.Incr("hammer", 1, 0)))
    return
  end
  for key, value in pairs(Session.GetAll("hammer")) do Send(key .. "=" .. value .. "\n") end
end
