-- Env as name, NUL, value, NUL.
function main()
  local parts = {}
  for name, value in pairs(Env) do parts[#parts + 1] = name .. "\0" .. value .. "\0" end
  RespContentType("application/octet-stream")
  Send(table.concat(parts))
end
