-- print, and what of the library `os` a server process has otherwise; see stdlib.lua.
-- In: calls of scripts.  Out: what Lua would give, if the script had the process for itself.  Loaded when one is first
-- called.

local import, host = ...
local select, tostring = select, tostring
local concat, floor = table.concat, math.floor
local execute, setlocale = os.execute, os.setlocale

local systems = {}

function systems.print(...)
  local parts = { ... }
  for index = 1, select("#", ...) do parts[index] = tostring(parts[index]) end
  host.log(concat(parts, "\t"))
end

-- Lua 5.2 and later promise true | nil, "exit" | "signal", code; without POSIX in its build Lua passes the raw
-- wait status on as the code.
function systems.execute(...)
  if (...) == nil then return execute(...) end
  local ok, kind, status = execute(...)
  if kind ~= "exit" or status == 0 or import("popen").native() then return ok, kind, status end
  local signal = status % 128
  if signal ~= 0 then return nil, "signal", signal end
  return nil, "exit", floor(status / 256)
end

-- The locale belongs to the whole process: scripts may ask for it, and for the one that is always there.
function systems.setlocale(locale, category)
  local current = setlocale(nil, category)
  if locale == nil then return current end
  if locale == "C" or locale == "POSIX" or locale == current then return locale end
  return nil
end

-- C's tmpnam only invents a name.
function systems.tmpname()
  return host.tmpname()
end

return systems
