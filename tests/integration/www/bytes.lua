-- As many bytes as the query says: 0 to 250, again and again.
local digits = {}
for code = 0, 250 do digits[#digits + 1] = string.char(code) end
local pattern = table.concat(digits)

function main()
  local size = tonumber(Env.QUERY_STRING)
  RespContentType("application/octet-stream")
  local whole = math.floor(size / #pattern)
  Send(pattern:rep(whole))
  Send(pattern:sub(1, size - whole * #pattern))
end
