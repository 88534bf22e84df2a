-- One session variable read and written per request.
function main(env, con)
  local visits = (Session.GetVar("bench", "visits") or 0) + 1
  Session.SetVar("bench", "visits", visits)
  Send("visits: " .. visits)
end
