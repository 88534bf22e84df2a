-- Promises of lua/popen.lua and of the Python side, with real commands.

local import, host, spec, check = ...
host.tmpname = os.tmpname
import("stdlib")(1)
local OLD = _VERSION == "Lua 5.1"
local BIG = 3000000

-- The results of closing a handle, by Lua version: 5.1 says only true.
local function closed(ok, kind, code, ...)
  if OLD then return check.values({ true }, ...) end
  check.values({ n = 3, ok, kind, code }, ...)
end

-- Commands that an earlier promise dropped must not change what a later one counts.
local function counts()
  collectgarbage()
  collectgarbage()
  repeat io.popen("exec true"):close() until host.test_children() == 0
  return host.test_descriptors()
end

local function content(name)
  local file = assert(io.open(name, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

spec("a handle is a real file", function()
  local file = assert(io.popen("echo one; echo two"))
  check.equal(io.type(file), "file")
  check.match(tostring(file), "^file %(")
  check.equal(getmetatable(file), getmetatable(io.stdout))
  check.equal(file:read("*l"), "one")
  check.truthy(file:setvbuf("full"), "setvbuf")
  check.equal((file:seek("cur")), nil)
  check.equal(file:read("*a"), "two\n")
  closed(true, "exit", 0, file:close())
  check.equal(io.type(file), "closed file")
end)

spec("lines and numbers are read as from any file", function()
  local file, seen = io.popen("printf '1\\n2.5\\nx\\n'", "r"), {}
  check.equal(file:read("*n"), 1)
  check.equal(file:read("*n"), 2.5)
  file:read("*l")
  for line in file:lines() do seen[#seen + 1] = line end
  check.equal(seen, { "x" })
  closed(true, "exit", 0, file:close())
end)

spec("close gives how the command ended", function()
  closed(nil, "exit", 3, io.popen("exit 3"):close())
  closed(nil, "signal", 9, io.popen("kill -9 $$"):close())
  closed(nil, "exit", 127, io.popen("no-such-command-here 2>/dev/null"):close())
  closed(nil, "exit", 2, io.close(io.popen("exit 2")))
end)

spec("io.close without an argument closes a command that is the default output", function()
  local name = os.tmpname()
  local before = io.output()
  io.output(io.popen("cat > " .. name .. "; exit 4", "w"))
  io.write("through ", "the default")
  closed(nil, "exit", 4, io.close())
  io.output(before)
  check.equal(content(name), "through the default")
  os.remove(name)
end)

spec("a written command sees the end of its input on close", function()
  local name = os.tmpname()
  local file = io.popen("cat > " .. name, "w")
  check.truthy(file:write("a\0b", 1, "\n"), "write")
  closed(true, "exit", 0, file:close())
  check.equal(content(name), "a\0b1\n")
  os.remove(name)
end)

spec("megabytes pass in both directions", function()
  local file = io.popen("head -c " .. BIG .. " /dev/zero | tr '\\0' x")
  local text = file:read("*a")
  closed(true, "exit", 0, file:close())
  check.equal(#text, BIG)
  check.equal(text:find("[^x]"), nil)
  local name = os.tmpname()
  local writer = io.popen("cat > " .. name, "w")
  check.truthy(writer:write(text), "write")
  closed(true, "exit", 0, writer:close())
  check.equal(content(name), text)
  os.remove(name)
end)

spec("closing before the command has written all ends it by SIGPIPE", function()
  local file = io.popen("exec yes 2> /dev/null")
  check.equal(file:read("*l"), "y")
  closed(nil, "signal", 13, file:close())
end)

spec("a reader gets /dev/null for its input", function()
  if jit then return end
  local file = io.popen("cat; echo end")
  check.equal(file:read("*a"), "end\n")
  file:close()
end)

spec("writing to a command that has gone is an error value", function()
  if jit then return end
  local file = io.popen("exec true", "w")
  file:setvbuf("no")
  -- Its end of the pipe closes when it does; then each write fails.
  local ok, message
  repeat ok, message = file:write("x") until not ok
  check.match(message, "Broken pipe")
  closed(true, "exit", 0, file:close())
end)

spec("arguments are checked as a normal Lua does", function()
  local ok, message = pcall(io.popen)
  check.equal(ok, false)
  check.match(message, "bad argument #1 to '[^']+' %(string expected")
  check.equal((pcall(io.popen, {})), false)
  if OLD or _VERSION == "Lua 5.2" then
    check.values({ n = 3, nil, "true: Invalid argument", 22 }, io.popen("true", "x"))
  else
    check.match(select(2, pcall(io.popen, "true", "rw")), "bad argument #2 to '[^']+' %(invalid mode%)")
    check.equal((pcall(io.popen, "true", "")), false)
  end
end)

spec("a command with a NUL starts nothing", function()
  if jit then return end
  local file, message = io.popen("echo a\0b")
  check.equal(file, nil)
  check.match(message, "null")
end)

spec("a closed handle is a closed file", function()
  local file = io.popen("true")
  file:close()
  check.match(select(2, pcall(file.read, file)), "closed file")
  check.match(select(2, pcall(file.close, file)), "closed file")
  check.match(select(2, pcall(io.close, file)), "closed file")
end)

spec("other files close as before", function()
  local name = os.tmpname()
  local file = io.open(name, "w")
  check.values({ true }, file:close())
  check.values({ true }, io.close(io.open(name)))
  os.remove(name)
end)

spec("two commands at once do not hold each other's pipes", function()
  local a, b = os.tmpname(), os.tmpname()
  local first, second = io.popen("cat > " .. a, "w"), io.popen("cat > " .. b, "w")
  first:write("1")
  second:write("2")
  closed(true, "exit", 0, first:close())
  closed(true, "exit", 0, second:close())
  check.equal(content(a) .. content(b), "12")
  os.remove(a)
  os.remove(b)
end)

spec("a command of os.execute does not inherit a pipe", function()
  if jit then return end
  local before = host.test_inheritable()
  local reader, writer = io.popen("cat"), io.popen("cat", "w")
  check.equal(host.test_inheritable(), before)
  reader:close()
  writer:close()
end)

spec("nothing is left after close", function()
  local descriptors = counts()
  for round = 1, 20 do
    local file = io.popen("exit " .. round, round % 2 == 0 and "r" or "w")
    file:close()
  end
  check.equal(host.test_descriptors(), descriptors)
  check.equal(host.test_children(), 0)
end)

spec("nothing is left of a handle that was dropped without close", function()
  if jit then return end
  local descriptors = counts()
  for _ = 1, 10 do io.popen("cat > /dev/null", "w"):write("x") end
  for _ = 1, 10 do io.popen("echo x"):read("*l") end
  -- The commands end with their handles; each start of another reaps those that have.
  check.equal(counts(), descriptors)
end)

spec("a handle in a scope of Lua 5.4 is waited for at its end", function()
  local code = "local h = ... do local f <close> = io.popen('exit 1') end return h.test_children()"
  local chunk = (loadstring or load)(code)
  if not chunk then return end
  counts()
  check.equal(chunk(host), 0)
end)
