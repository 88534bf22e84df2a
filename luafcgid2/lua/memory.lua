-- When the garbage of a Lua state is collected.
-- In: nothing.  Out: `settle` after a full collection, `collect` does one and gives the kilobytes that are left;
-- `now.limit` is the size from which run.lua asks Python for a collection, which comes after the response is sent.

local import, host = ...
local collectgarbage, floor, pcall = collectgarbage, math.floor, pcall
local now = host.now
-- A state whose heap has grown this much over what its script needs asks for a collection.  Lua's own collector begins
-- only at double that, so that it does not work while somebody waits, unless one request makes that much garbage.
local GARBAGE_KB = 256

local memory = {}
-- Generational collections of Lua 5.4 and later are short, and know no such pause.
local own_pace = not host.first.generational

local function set_pause(live, start)
  collectgarbage("setpause", floor(start / live * 100))
end

if host.enter and own_pace then set_pause = import("pace") end

-- What is left now is what the script needs.
function memory.settle()
  local live = collectgarbage("count")
  local limit = live * 2 + GARBAGE_KB
  now.limit = limit
  if own_pace then set_pause(live, 2 * limit) end
  return live
end

-- Finalizers may fail: Lua 5.1 to 5.3 raise what they raise.
function memory.collect()
  pcall(collectgarbage)
  return memory.settle()
end

-- The script is loaded: what it does not need is collected, and from now on its requests decide.
function memory.begin()
  if not own_pace then
    -- This is a full collection, too.
    pcall(collectgarbage, "generational")
    return memory.settle()
  end
  -- The pause counts from the next full collection on.
  memory.settle()
  return memory.collect()
end

return memory
