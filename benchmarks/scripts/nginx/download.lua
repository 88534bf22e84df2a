-- 10 MB in pieces of 64 KB; each waits until the client has taken the one before.
local PIECE = string.rep("0123456789abcdef", 4096)

ngx.header.content_type = "application/octet-stream"
for _ = 1, 160 do
  ngx.print(PIECE)
  ngx.flush(true)
end
