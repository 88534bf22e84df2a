-- What runs instead of a file that ends in .op: Orbit's pages, which read it (package lua-orbit, Lua 5.1 and LuaJIT).
-- In: nothing; it is loaded as a script is.  Out: the WSAPI application.  script.py chooses it.

local pages = require("orbit.pages")
local load, open = pages.load, io.open

-- Orbit keeps templates by their names for ever: by their text, an included one may be edited, too.
function pages.load(name, text)
  if not text then
    local file = open(name, "rb")
    if not file then return nil end
    text = file:read("*a"):gsub("^\239\187\191", "")
    file:close()
  end
  return load(nil, text)
end

return pages
