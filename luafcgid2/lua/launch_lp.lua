-- What runs instead of a file that ends in .lp: CGILua, which reads it (packages lua-cgi and lua-wsapi).
-- In: nothing; it is loaded as a script is.  Out: the WSAPI application.  script.py chooses it.

local load, loadfile, loadstring, setfenv = load, loadfile, loadstring, setfenv  -- luacheck: ignore
local G, type = _G, type

-- CGILua 5.2 takes some functions as Lua 5.1 has them, and some as Lua 5.2 has: both, in this state.
rawset(G, "unpack", unpack or table.unpack)  -- luacheck: ignore

local function within(env, chunk, ...)
  if chunk and env then setfenv(chunk, env) end
  return chunk, ...
end

if not pcall(load, "") then
  function G.load(text, name, _, env)
    return within(env, (type(text) == "string" and loadstring or load)(text, name))
  end
  function G.loadfile(name, _, env)
    return within(env, loadfile(name))
  end
end

local cgilua = require("cgilua")
local sapi = require("wsapi.sapi")

-- CGILua goes to the page's folder and opens the page by its bare name.  The folder belongs to the whole worker, and
-- another thread may go elsewhere in between.
local handle = cgilua.handle
function cgilua.handle(name)
  if name:sub(1, 1) ~= "/" then name = cgilua.script_pdir .. name end
  return handle(name)
end

return sapi
