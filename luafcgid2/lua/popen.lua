-- io.popen for Lua builds without one: real file handles on a pipe to /bin/sh -c COMMAND.
-- In: host.popen_open(command, mode) -> descriptor, id (or nil, message, errno), host.popen_opened(id),
-- host.popen_wait(id) -> true | nil, "exit" | "signal", code.  Out: popen and close, which scripts see as those of `io`
-- by way of later.lua; closing such a handle waits for its command.  native() tells whether this Lua brings its own.  A
-- handle that is collected without close() only closes its pipe: Python reaps the command when the next one starts.
-- Loaded when a function of it is first called.

local import, host = ...
local fail, format, getmetatable, pcall = import("blame"), string.format, getmetatable, pcall
local setmetatable, tostring, type = setmetatable, tostring, type
local io_open, io_output, io_popen = io.open, io.output, io.popen
local OLD = _VERSION == "Lua 5.1"
local INVALID = "bad argument #2 to 'popen' (invalid mode)"
-- The C library's popen judges the mode for 5.1 and 5.2; later versions know two modes.
local MODES = { r = "r", w = "w" }
local LENIENT = OLD or _VERSION == "Lua 5.2"
if LENIENT then MODES.re, MODES.we = "r", "w" end

local popen = {}
local ids = setmetatable({}, { __mode = "k" })
local native

-- One build option decides whether popen exists and whether os.execute decodes its status, and only a call
-- can tell; LuaJIT always has both.
function popen.native()
  if native == nil then
    local ok, file = pcall(io_popen, "exit", "r")
    native = ok
    if ok and file then file:close() end
  end
  return native
end

local function open(command, mode)
  local descriptor, id, number = host.popen_open(command, mode)
  if not descriptor then return nil, command .. ": " .. tostring(id), number end
  local file, message = io_open(format("/proc/self/fd/%d", descriptor), mode)
  if not file then file, message, number = io_open(format("/dev/fd/%d", descriptor), mode) end
  host.popen_opened(id)
  if not file then return nil, command .. ": " .. message, number end
  ids[file] = id
  return file
end

-- As pclose does: first the file, then the command; a failed last write is reported unless the command failed.
local function close(file, close_file)
  local id = ids[file]
  ids[file] = nil
  local written, message, number = close_file(file)
  local ended, kind, code = host.popen_wait(id)
  if ended and not written then return nil, message, number end
  if not ended and type(code) ~= "number" then return nil, kind end
  if not OLD then return ended, kind, code end
  -- Lua 5.1 reports only that there was a command to wait for.
  if kind ~= "exit" and kind ~= "signal" then return nil, kind, code end
  return true
end

-- Handles of popen know no more than other files what closing them means.
local metatable = getmetatable(io.stdout)
local methods = metatable.__index
local close_method, close_function, close_scope = methods.close, io.close, metatable.__close

function methods.close(...)
  local file = ...
  if file ~= nil and ids[file] then return close(file, close_method) end
  return close_method(...)
end

if close_scope then
  function metatable.__close(file, ...)
    if ids[file] then return close(file, close_method) end
    return close_scope(file, ...)
  end
end

function popen.close(...)
  local file = ...
  if file == nil then file = io_output() end
  if ids[file] then return close(file, close_method) end
  return close_function(...)
end

function popen.popen(command, mode)
  if popen.native() then return io_popen(command, mode) end
  if type(command) == "number" then command = tostring(command) end
  if type(command) ~= "string" then
    fail("bad argument #1 to 'popen' (string expected, got " .. type(command) .. ")")
  end
  local known = MODES[mode or "r"]
  if known then return open(command, known) end
  if LENIENT then return nil, command .. ": Invalid argument", 22 end
  fail(INVALID)
end

return popen
