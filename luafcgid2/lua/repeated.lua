-- Adds a value to a table in which a name that is repeated has the list of its values, in order.
-- In: the table, a name, a string.  Out: nothing; the table is changed.  lf.lua and forms.lua use it.

local type = type

return function(found, name, value)
  local known = found[name]
  if known == nil then
    found[name] = value
  elseif type(known) == "table" then
    known[#known + 1] = value
  else
    found[name] = { known, value }
  end
end
