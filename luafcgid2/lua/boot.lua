-- Starts the prelude inside a fresh Lua state, with no more of it than a small page needs.
-- In: the core modules (runtime.py puts them into one chunk with this file: name -> function), the standard library as
-- it came (see plain.lua), one function of Python's, what says that Lua goes on where the state's memory is limited,
-- else nil, then names and values of the settings that are wanted at once.
-- Out: the functions that Python calls: load(code, name, startup, startup_name), serve() which gives handle (see
-- run.lua), collect(), and the address of the main coroutine, for interrupt.py.
-- Only state.py calls it.  A script never sees it.

local core, plain, call, enter = ...
local load, collectgarbage, assert, rawset = loadstring or load, collectgarbage, assert, rawset
local select, setfenv, setmetatable = select, setfenv, setmetatable -- luacheck: ignore
-- Nothing is garbage while the prelude loads; run.lua turns collections on before the script's code runs.
collectgarbage("stop")

-- Python's one function: the name of a host function, its arguments.  It is an upvalue of plain functions: a script
-- cannot take hold of the Python object.  Where memory is limited it is not while Python is at work.
local ask = call
if enter then
  local function entered(...)
    enter()
    return ...
  end
  ask = function(...) return entered(call(...)) end
end

-- Host functions and settings are fetched when the prelude first names them.
local host = setmetatable({}, { __index = function(host, name)
  local function work(...) return ask(name, ...) end
  rawset(host, name, work)
  return work
end })
local settings = setmetatable({}, { __index = function(settings, name)
  local value = ask("setting", name)
  rawset(settings, name, value)
  return value
end })
rawset(host, "settings", settings)
rawset(host, "enter", enter and function() enter() end or false)
-- What is known of the request that the state serves now; run.lua says what.
rawset(host, "now", {})

local loaded = {}
-- The surroundings of modules that are loaded later: a script may have changed the library by then.  No function of
-- theirs keeps them but in Lua 5.1 and LuaJIT.
local surroundings

local function fetched(name)
  surroundings = surroundings or load(host.prelude("surroundings"), "=?")(plain)
  local code, label = host.prelude(name), "=[luafcgid2 " .. name .. "]"
  if setfenv then return setfenv(assert(load(code, label)), surroundings) end
  return assert(load(code, label, "b", surroundings))
end

-- The module's value; `once`: it is not kept.
local function import(name, once)
  local module = loaded[name]
  if module == nil then
    local outermost = not surroundings
    module = (core and core[name] or fetched(name))(import, host)
    if not once then loaded[name] = module end
    if outermost and not setfenv then surroundings = nil end
  end
  return module
end

-- The functions that a first request needs come in one piece.
local function serve()
  local outermost = not surroundings
  core = fetched("serve")()
  local handle = import("run", true)
  core = nil
  if outermost and not setfenv then surroundings = nil end
  return handle
end

local first = {}
for at = 1, select("#", ...) - 4, 2 do
  local name, value = select(at + 4, ...)
  first[name] = value
end
rawset(host, "first", first)
local script, address = import("start", true)()
rawset(host, "first", nil)
core = nil
return script, serve, import("memory").collect, address
