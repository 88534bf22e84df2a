-- The fields of a posted form, sorted, one a line.
function main()
  local lines = {}
  for name, value in pairs(lf.parse(Receive())) do lines[#lines + 1] = name .. "=" .. value end
  table.sort(lines)
  Send(table.concat(lines, "\n"))
end
