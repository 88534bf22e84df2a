-- 10 MB in pieces of 64 KB.
local PIECE = string.rep("0123456789abcdef", 4096)

function main(env, con)
  RespContentType("application/octet-stream")
  for _ = 1, 160 do
    Send(PIECE)
  end
end
