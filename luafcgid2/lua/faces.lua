-- Tables that scripts see, which are filled when they are first looked into.
-- In: the table's name: lf, Session, Shared or Response.  Out: the table.  A script that looks through one finds all
-- of it, where this Lua version lets a table say so; Response is filled at once where it does not.

local import = ...
local next, setmetatable = next, setmetatable
local names = {}

local function fill(face)
  setmetatable(face, nil)
  import(import("places", true)[names[face]][1]).install(face)
  names[face] = nil
end

local lazily = {
  __index = function(face, name)
    fill(face)
    return face[name]
  end,
  __pairs = function(face)
    fill(face)
    return next, face, nil
  end,
}

return function(name)
  local face = setmetatable({}, lazily)
  names[face] = name
  if name == "Response" and _VERSION == "Lua 5.1" then fill(face) end
  return face
end
