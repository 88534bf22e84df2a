-- Promises of lua/stdlib.lua.

local import, host, spec, check = ...
local unpack = table.unpack or unpack
local native_pcall, native_wrap = pcall, coroutine.wrap
local OLD = _VERSION == "Lua 5.1"
local MODERN = jit or not OLD
local TOKEN, logged = import("guard").EXIT, {}
local install = import("stdlib")

rawset(_G, "python", "still there")
function host.log(text) logged[#logged + 1] = text end
function host.tmpname() return "/tmp/made-by-host" end
install(1)

-- What the code that runs requests sees of `f`.
local function ends_request(f, ...)
  local ok, value = native_pcall(f, ...)
  check.equal(ok, false)
  check.truthy(rawequal(value, TOKEN), "the exit token (got " .. tostring(value) .. ")")
end

spec("the python table is gone", function()
  check.equal(rawget(_G, "python"), nil)
  check.equal(package.loaded.python, nil)
end)

spec("os.exit ends the request with any arguments", function()
  ends_request(os.exit)
  ends_request(os.exit, 3)
  ends_request(os.exit, true, true)
end)

spec("os.exit passes through pcall, xpcall, coroutines and nests of them", function()
  local after = 0
  local function passed() after = after + 1 end
  ends_request(function() pcall(os.exit) passed() end)
  ends_request(function() pcall(pcall, os.exit) passed() end)
  ends_request(function() xpcall(os.exit, passed) passed() end)
  ends_request(function() xpcall(os.exit, debug.traceback) passed() end)
  ends_request(function() coroutine.resume(coroutine.create(os.exit)) passed() end)
  ends_request(function() native_wrap(function() pcall(os.exit) passed() end)() passed() end)
  ends_request(function()
    local co = coroutine.create(function() xpcall(function() os.exit(1) end, passed) passed() end)
    pcall(coroutine.resume, co)
    passed()
  end)
  ends_request(function() pcall(string.gsub, "x", "x", function() os.exit() end) passed() end)
  ends_request(function() pcall(table.sort, { 2, 1 }, function() os.exit() end) passed() end)
  check.equal(after, 0)
end)

spec("os.exit within a handler of xpcall ends the request", function()
  ends_request(function() xpcall(function() error("x") end, function() os.exit() end) end)
end)

spec("os.exit after a yield across pcall ends the request", function()
  if not MODERN then return end
  local co = coroutine.create(function() pcall(function() coroutine.yield(1) os.exit() end) end)
  check.values({ true, 1 }, coroutine.resume(co))
  ends_request(coroutine.resume, co)
end)

spec("pcall gives and takes all values", function()
  check.values({ true }, pcall(function() end))
  check.values({ n = 5, true, nil, 2, nil, nil }, pcall(function(...) return ... end, nil, 2, nil, nil))
  check.values({ false, "x" }, pcall(error, "x", 0))
  local value = setmetatable({}, { __eq = function() error("compared") end })
  check.values({ false, value }, pcall(error, value))
  check.equal((native_pcall(pcall)), false)
end)

spec("xpcall gives all values and calls its handler where the error is", function()
  check.values({ n = 4, true, 1, nil, nil }, xpcall(function() return 1, nil, nil end, print))
  check.values({ false, "[x]" }, xpcall(function() error("x", 0) end, function(e) return "[" .. e .. "]" end))
  if MODERN then
    check.values({ n = 4, true, nil, 2, nil }, xpcall(function(...) return ... end, print, nil, 2, nil))
  end
  local function culprit() error("boom") end
  local ok, text = xpcall(culprit, debug.traceback)
  check.equal(ok, false)
  check.match(text, "boom\nstack traceback:\n\t%[C%]: in %a+ 'error'")
  check.match(text, "stdlib_spec.lua")
  local _, level = xpcall(culprit, function(e) return debug.traceback(e, 2) end)
  check.match(level, "stdlib_spec.lua:%d+: in function <")
  check.equal((native_pcall(xpcall)), false)
  check.equal((native_pcall(xpcall, 1)), false)
end)

spec("a handler may be nil or no function as in a normal Lua", function()
  if jit or not (OLD or _VERSION == "Lua 5.2") then
    check.equal((native_pcall(xpcall, print, nil)), false)
    check.equal((native_pcall(xpcall, print, 5)), false)
  else
    check.equal((xpcall(error, nil)), false)
  end
end)

spec("coroutine.resume gives and takes all values", function()
  local co = coroutine.create(function(...) return "end", coroutine.yield(...) end)
  check.values({ n = 4, true, nil, 2, nil }, coroutine.resume(co, nil, 2, nil))
  check.values({ n = 4, true, "end", nil, nil }, coroutine.resume(co, nil, nil))
  check.values({ false, "cannot resume dead coroutine" }, coroutine.resume(co))
  check.values({ false, "x" }, coroutine.resume(coroutine.create(function() error("x", 0) end)))
end)

spec("coroutines yield across pcall and xpcall", function()
  if not MODERN then return end
  local co = coroutine.wrap(function()
    local a = { pcall(function() return coroutine.yield("first") end) }
    local b = { xpcall(function(x) error(coroutine.yield(x), 0) end, function(e) return e .. "!" end, "second") }
    return a[1], a[2], b[1], b[2]
  end)
  check.equal(co(), "first")
  check.equal(co("in"), "second")
  check.values({ true, "in", false, "err!" }, co("err"))
end)

spec("a call that succeeds allocates no table", function()
  local function nothing() end
  local step = pcall
  for _ = 1, 100 do step(nothing) end
  collectgarbage() collectgarbage("stop")
  local before = collectgarbage("count")
  for _ = 1, 10000 do step(nothing) end
  local grown = collectgarbage("count") - before
  collectgarbage("restart")
  check.truthy(grown < 16, "growth of " .. grown .. " KB")
end)

spec("print writes one line to the log, nil included", function()
  local count = #logged
  print("a", nil, 1, true, nil)
  print()
  check.values({ "a\tnil\t1\ttrue\tnil", "" }, unpack(logged, count + 1))
  print(setmetatable({}, { __tostring = function() return "named" end }))
  check.equal(logged[#logged], "named")
end)

spec("os.setlocale answers and never changes", function()
  local before = os.setlocale()
  check.equal(type(before), "string")
  check.equal(os.setlocale(nil, "numeric"), "C")
  check.equal(os.setlocale("C"), "C")
  check.equal(os.setlocale("C", "all"), "C")
  check.equal(os.setlocale("de_DE.UTF-8"), nil)
  check.equal(os.setlocale("", "numeric"), nil)
  check.equal(os.setlocale(), before)
  check.equal((native_pcall(os.setlocale, "C", "no category")), false)
end)

spec("os.execute reports as this version of Lua does", function()
  if OLD then
    check.values({ 0 }, os.execute("true"))
    check.values({ 768 }, os.execute("exit 3"))
    check.truthy(os.execute() ~= 0, "a shell")
    return
  end
  check.values({ true, "exit", 0 }, os.execute("true"))
  check.values({ n = 3, nil, "exit", 3 }, os.execute("exit 3"))
  check.values({ n = 3, nil, "exit", 255 }, os.execute("exit 255"))
  check.values({ n = 3, nil, "exit", 127 }, os.execute("no-such-command-here 2>/dev/null"))
  check.values({ n = 3, nil, "signal", 9 }, os.execute("kill -9 $$"))
  check.values({ n = 3, nil, "signal", 15 }, os.execute("kill -15 $$"))
  check.values({ true }, os.execute())
  if math.type then check.equal(math.type(select(3, os.execute("exit 3"))), "integer") end
end)

spec("each seed gives numbers of its own", function()
  local seen = {}
  for seed = 1, 8 do
    install(seed)
    seen[math.random(1, 2 ^ 30)] = true
  end
  local different = 0
  for _ in pairs(seen) do different = different + 1 end
  check.truthy(different > 1, "different first numbers")
end)

spec("os.tmpname comes from the host", function()
  check.equal(os.tmpname(), "/tmp/made-by-host")
end)

spec("installed twice, everything still holds", function()
  ends_request(function() pcall(os.exit) end)
  check.values({ n = 3, true, nil, 1 }, pcall(function() return nil, 1 end))
end)
