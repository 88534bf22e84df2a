-- Where the main coroutine of a Lua 5.1 state is, whose hooks interrupt.py sets: there is no object for it.
-- In: nothing.  Out: its address, as tostring shows addresses; "none" if it is not found.  run.lua loads it at the
-- start.

local debug, pairs, tostring, type = debug, pairs, tostring, type

-- A table keeps the hooks, whose keys are the addresses of the coroutines.
local address = "none"
local function probe() end
debug.sethook(probe, "", 0)
for key, value in pairs(debug.getregistry()) do
  if type(key) == "userdata" and type(value) == "table" then
    for at, hook in pairs(value) do
      if hook == probe then address = tostring(at) end
    end
  end
end
debug.sethook()
return address
