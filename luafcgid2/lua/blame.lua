-- Raises an error at the line of the script that called the prelude, however many of its functions are in between.
-- In: what is wrong.  Does not return.  Loaded when it is first needed.

local error, find, getinfo = error, string.find, debug.getinfo

return function(problem)
  local level = 2
  local info = getinfo(level, "S")
  -- Lua 5.1 has levels for tail calls; some versions forget the name of code that was loaded without its lines.
  while info and (info.what == "tail" or info.short_src == "?" or find(info.short_src, "^%[luafcgid2")) do
    level = level + 1
    info = getinfo(level, "S")
  end
  -- None where the prelude runs an application by itself.
  error(problem, info and level or 0)
end
