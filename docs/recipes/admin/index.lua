-- Uses what the StartupScript defines, and is seen by who has logged in only.

function main()
  page("Admin", "<p>Hello, " .. lf.escape(Session.GetVar("login", "name")) .. "!</p>\n")
end
