-- 10 MB in pieces of 64 KB.
local PIECE = string.rep("0123456789abcdef", 4096)

local function run()
  return 200, { ["Content-Type"] = "application/octet-stream" }, coroutine.wrap(function()
    for _ = 1, 160 do
      coroutine.yield(PIECE)
    end
  end)
end

return run
