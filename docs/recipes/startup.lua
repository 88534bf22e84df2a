-- StartupScript = "/etc/luafcgid2/startup.lua": what all scripts of the site have in common.

function page(title, body)
  RespContentType("text/html; charset=utf-8")
  Send("<!DOCTYPE html>\n<title>" .. lf.escape(title) .. "</title>\n<h1>" .. lf.escape(title) .. "</h1>\n" .. body)
end

-- Runs before each script; true says that the request is answered.
function BeforeRequest(env)
  if env.SCRIPT_NAME:find("^/admin/") and not Session.GetVar("login", "name") then
    lf.redirect("/login.lua")
    return true
  end
end
