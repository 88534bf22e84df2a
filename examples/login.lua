-- Log in, stay logged in, log out: a session, and a limit on guessing.

local page = require("lib.page")

-- A real site keeps its users elsewhere, and of a password only a salted hash.
local USERS = { guest = "lua" }
local TRIES, MINUTE = 5, 60

local FORM = [[
<p>The name is <code>guest</code>, the password <code>lua</code>.</p>
<form method="post" action="%s">
<label>Name <input name="name" autocomplete="username"></label>
<label>Password <input name="password" type="password" autocomplete="current-password"></label>
<button>Log in</button>
</form>
]]

local WELCOME = [[
<p class="big">Hello, %s!</p>
<p>You are logged in here, whichever worker answers, until you log out or stay away for too long.</p>
<form method="post" action="%s"><button name="logout" value="yes">Log out</button></form>
]]

-- The browser asks again by GET, so that reloading the page does not send the form once more.
local function reload()
  RespStatus(Response[303])
  Header("Location", page.url("login.lua"))
end

local function refuse(status, text)
  RespStatus(Response[status])
  page.send("Log in", { "<p>" .. text .. "</p>", FORM:format(page.url("login.lua")) })
end

local function log_in(sent)
  local tries = "login tries of " .. (Env.REMOTE_ADDR or "?")
  if Shared.Incr(tries, 1, 0, MINUTE) > TRIES then
    return refuse(429, "Too many tries: wait a minute.")
  end
  local password = USERS[sent.name or ""]
  if not password or sent.password ~= password then
    return refuse(403, "That is not the name and the password.")
  end
  Shared.Delete(tries)
  -- A new key: whoever knew the old one, or planted it in this browser, is not logged in with us.
  Session.Start()
  Session.Regenerate()
  Session.SetVar("login", "name", sent.name)
  reload()
end

function main()
  if Env.REQUEST_METHOD == "POST" then
    local sent = lf.parse(Receive())
    if sent.logout then
      Session.Delete()
      return reload()
    end
    return log_in(sent)
  end
  -- What a visitor sees must not stay in a cache that others share.
  Header("Cache-Control", "no-store")
  local name = Session.GetVar("login", "name")
  if name then
    page.send("Logged in", { WELCOME:format(page.escape(name), page.url("login.lua")) })
  else
    page.send("Log in", { FORM:format(page.url("login.lua")) })
  end
end
