-- A page of 64 KB in 2,000 pieces.  They are joined, since uWSGI would make a system call of each.
local function run()
  local page = {}
  for row = 1, 2000 do
    page[#page + 1] = string.format("<li>row number %012d</li>\n", row)
  end
  return 200, { ["Content-Type"] = "text/html" }, coroutine.wrap(function()
    coroutine.yield(table.concat(page))
  end)
end

return run
