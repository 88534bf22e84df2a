-- A counter that the browser keeps.

local page = require("lib.page")

local LIFETIME = 7 * 24 * 3600

local function cookie(value, lifetime)
  return ("visits=%s; Path=%s; HttpOnly; SameSite=Lax; Max-Age=%d"):format(value, Env.SCRIPT_NAME, lifetime)
end

function main()
  if Env.QUERY_STRING == "forget" then
    Header("Set-Cookie", cookie("", 0))
    RespStatus(Response[303])
    Header("Location", Env.SCRIPT_NAME)
    return
  end
  -- A cookie is the client's: it may hold anything.
  local digits = (Cookies.visits or ""):match("^%d%d?%d?%d?%d?%d?$")
  local visits = (tonumber(digits) or 0) + 1
  Header("Set-Cookie", cookie(visits, LIFETIME))
  page.send("Cookies", {
    ('<p class="big">%d</p>'):format(visits),
    visits == 1 and "<p>Your first visit. Reload the page.</p>" or "<p>visits from this browser.</p>",
    '<p><a class="button" href="' .. page.url("cookies.lua?forget") .. '">Start again</a></p>',
  })
end
