-- When garbage is collected in a state whose memory is limited: before it could be what there is not enough memory for.
-- Lua 5.1 and LuaJIT do not collect before they say so, 5.2 and 5.3 do, but not for the buffers of strings.  Later
-- versions have generations, which are collected often.
-- In: (live, start), kilobytes after a full collection and at which the next shall begin if there is room.  Out: Lua's
-- pause is set, then and after each collection that follows.  Only run.lua uses it.

local _, host = ...
local collectgarbage, getmetatable, newproxy, setmetatable = collectgarbage, getmetatable, newproxy, setmetatable
local floor, max, min = math.floor, math.max, math.min
local MOST = host.settings.max_memory / 1024
local SHORTEST = 101
-- How fast: at Lua's own speed a collection is over when the heap has about doubled, or later, if a few large strings
-- are all that is allocated.  Lua 5.1 takes 0 for "at once".
local AT_ONCE = _VERSION == "Lua 5.1" and 0 or 10000

local wanted

local function pace(live)
  local start = min(max(wanted, 2 * live), live + (MOST - live) / 2)
  collectgarbage("setpause", max(SHORTEST, floor(start / live * 100)))
end

-- Garbage whose finalizer runs at the end of each collection.
local watch
local function collected()
  pace(collectgarbage("count"))
  watch()
end

function watch()
  if newproxy then
    getmetatable(newproxy(true)).__gc = collected
  else
    setmetatable({}, { __gc = collected })
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
