-- Files from a folder outside of the site, for those who may.

local FOLDER = Config.files or "/srv/files"

function main()
  local name = lf.get("name") or ""
  -- A name, and no path: no slash, no dot in front.
  if not name:find("^%w[%w._-]*$") then
    RespStatus(400)
    return Send("No such name.\n")
  end
  Header("Content-Disposition", 'attachment; filename="' .. name .. '"')
  if not SendFile(FOLDER .. "/" .. name) then
    Reset()
    RespStatus(404)
    Send("No such file.\n")
  end
end
