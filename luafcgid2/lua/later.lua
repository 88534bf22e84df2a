-- Functions that scripts see whose work is loaded when one is first called.
-- In: a name that places.lua knows.  Out: the function, which stays the same one.  Only modules that start with the
-- state use it.  Lua 5.1 counts a call that hands over as a level of its own: whoever raises an error behind it does so
-- by blame.lua.

local import = ...
local setmetatable = setmetatable

local works = setmetatable({}, { __index = function(works, name)
  local place = import("places", true)[name]
  local work = import(place[1])[place[2]]
  works[name] = work
  return work
end })

return function(name)
  return function(...) return works[name](...) end
end
