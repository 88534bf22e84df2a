-- The iterator is a coroutine: with uWSGI it ends when it can no longer be resumed.
local function run()
  return 200, { ["Content-Type"] = "text/html" }, coroutine.wrap(function()
    coroutine.yield("Hello, world!")
  end)
end

return run
