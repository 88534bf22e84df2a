-- The whole body is read.
local function run(env)
  local body = env.input:read(tonumber(env.CONTENT_LENGTH))
  return 200, { ["Content-Type"] = "text/html" }, coroutine.wrap(function()
    coroutine.yield(tostring(#body))
  end)
end

return run
