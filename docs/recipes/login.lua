-- Log in, stay logged in, log out.

-- A real site keeps its users elsewhere, and of a password only a salted hash.
local USERS = { ann = "lua" }
local FORM = [[
<form method="post">
<input name="name" autocomplete="username"> <input name="password" type="password" autocomplete="current-password">
<button>Log in</button>
</form>
]]

function main()
  Header("Cache-Control", "no-store")
  if Env.REQUEST_METHOD == "POST" then
    local name = lf.post("name")
    if lf.post("logout") then
      Session.Delete()
    elseif name and USERS[name] and USERS[name] == lf.post("password") then
      Session.Start()
      Session.Regenerate()           -- a key planted in this browser is worth nothing now
      Session.SetVar("login", "name", name)
    else
      RespStatus(403)
      return Send("<p>That is not the name and the password.</p>" .. FORM)
    end
    return lf.redirect(Env.SCRIPT_NAME)                 -- reloading the page does not send the form again
  end
  local name = Session.GetVar("login", "name")
  if not name then return Send(FORM) end
  Send("<p>Hello, " .. lf.escape(name) .. "!</p>")
  Send('<form method="post"><button name="logout" value="1">Log out</button></form>')
end
