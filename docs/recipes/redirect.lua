-- Old addresses lead to the new ones.

local MOVED = { about = "/team.html", shop = "https://shop.example.org/" }

function main()
  local target = MOVED[lf.get("page") or ""]
  if target then return lf.redirect(target, 301) end   -- 301: for ever; without a status: for now
  RespStatus(404)
  Send("There never was such a page.\n")
end
