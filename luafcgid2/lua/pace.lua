-- When garbage is collected in a state whose memory is limited, in Lua 5.1 and LuaJIT: these do not collect before
-- they say that there is not enough memory, so a collection must be over in time.
-- In: (live, start), kilobytes after a full collection and at which the next shall begin if there is room.  Out: Lua's
-- pause is set, then and after each collection that follows.  Only run.lua uses it.

local _, host = ...
local collectgarbage, getmetatable, newproxy = collectgarbage, getmetatable, newproxy
local floor, max, min = math.floor, math.max, math.min
local MOST = host.settings.max_memory / 1024
-- Not in steps: at Lua's own speed a collection is over when the heap has about doubled, or later, if a few large
-- strings are all that is allocated.
local AT_ONCE = 0

local wanted

local function pace(live)
  local start = min(max(wanted, 2 * live), live + (MOST - live) / 2)
  collectgarbage("setpause", max(101, floor(start / live * 100)))
end

-- Garbage whose finalizer runs at the end of each collection.
local function watch()
  getmetatable(newproxy(true)).__gc = function()
    pace(collectgarbage("count"))
    watch()
  end
end

return function(live, start)
  if not wanted then
    collectgarbage("setstepmul", AT_ONCE)
    watch()
  end
  wanted = start
  pace(live)
end
