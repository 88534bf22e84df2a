-- What happens once in a Lua state, before and while its script is loaded.
-- In: the settings that are wanted at once.  Out: globals that are there while top-level code runs; what loads the
-- script and StartupScript, and gives the kilobytes that the state takes, or nil, message, traceback; the address of
-- the main coroutine.  Only boot.lua uses it; nobody keeps it.

local import, host = ...
local guard, later, faces, memory = import("guard"), import("later"), import("faces"), import("memory")
local load = loadstring or load
local assert, package, rawget, select = assert, package, rawget, select
local getfenv, setfenv = getfenv, setfenv -- luacheck: ignore
local collectgarbage, getmetatable, pcall, tostring = collectgarbage, getmetatable, pcall, tostring
local concat, gmatch, match, sub = table.concat, string.gmatch, string.match, string.sub
local G = _G

-- Entries of `lists` in order, each once, without those relative to the working directory.
local function merge(...)
  local found, known = {}, {}
  for index = 1, select("#", ...) do
    for entry in gmatch((select(index, ...)), "[^;]+") do
      if not known[entry] and sub(entry, 1, 2) ~= "./" then
        known[entry] = true
        found[#found + 1] = entry
      end
    end
  end
  return concat(found, ";")
end

-- Where modules are looked for, in this order.
local function set_paths(root, dir, local_c_modules)
  package.path = merge(package.path, root .. "/?.lua", root .. "/?/init.lua", dir .. "/?.lua", dir .. "/?/init.lua")
  if local_c_modules then package.cpath = merge(package.cpath, root .. "/?.so") end
end

local function install_loader(settings)
  package.path, package.cpath = merge(package.path, settings.lua_path), merge(package.cpath, settings.lua_cpath)
  package.preload.wsapi = later("wsapi")
  local searchers = package.searchers or package.loaders
  searchers[2] = later("searcher")
  -- They read files as well.
  G.loadfile, G.dofile = later("loadfile"), later("dofile")
end

local function install(settings)
  install_loader(settings)
  import("stdlib", true)(settings.seed)
  local lf = faces("lf")
  G.Session, G.Shared, G.Response, G.lf = faces("Session"), faces("Shared"), faces("Response"), lf
  host.statuses = G.Response
  G.Flush, G.SendFile = later("Flush"), later("SendFile")
  G.LUAFCGID, G.LUAFCGID_VERSION = true, 2
  package.preload.luafcgid = function() return lf end
  G.Config = load(settings.config_code, "=Config")()
end

-- The script itself.  WSAPI's launchers give it the name that `module` of Lua 5.1 asks for: `module(...)` works.
-- What such a module defines is its value, as what it returns is that of any other.
local function loaded_script(code, name)
  local chunk = assert(load(code, name))
  local module = setfenv and rawget(G, "module")
  if not module then return chunk end
  function G.module(own, ...)
    module(own or match(name, "([^/]*)%.[^./]*$") or name, ...)
    setfenv(2, getfenv(1))
  end
  return function()
    local value = chunk()
    G.module = module
    local env = getfenv(chunk)
    if value == nil and env ~= G then return env end
    return value
  end
end

local now, settings, enter = host.now, host.first, host.enter
local entrypoint, local_c_modules = settings.entrypoint, settings.local_c_modules

-- The entry point; a script may keep it behind a metatable of _G, whose functions may fail.
local function entry()
  local main = rawget(G, entrypoint)
  if main ~= nil or getmetatable(G) == nil then return main end
  local ok, found = pcall(function() return G[entrypoint] end)
  return ok and found or nil
end

local function load_script(number, root, dir, code, name, startup, startup_name)
  set_paths(root, dir, local_c_modules)
  now.number = number
  if enter then enter() end
  local call = guard.call
  local ok, message, text = true, nil, nil
  if startup then ok, message, text = call(assert(load(startup, startup_name))) end
  local before, after = rawget(G, "BeforeRequest"), rawget(G, "AfterRequest")
  if ok then ok, message, text = call(loaded_script(code, name)) end
  now.call, now.entry, now.loaded = call, entry, true
  -- Half of a file may compile, and an empty one does; neither shall take over from a good version.
  if ok and (entry() == nil or entrypoint == "authorize") then
    local entries = import("entries")
    local other = entries.other(message)
    if other then now.entry = other else ok, message, text = false, entries.NO_ENTRY, "" end
  end
  if not ok then return nil, message, text end
  if before ~= nil or after ~= nil then now.call = import("hooks")(guard, before, after) end
  return memory.begin()
end

-- Prepares the state.  Where its hooks are set: those of LuaJIT are set by way of any coroutine, as long as it is
-- there.
return function()
  install(settings)
  local main = coroutine.running()
  if not main and jit then
    main = coroutine.create(function() end)
    debug.getregistry()[now] = main
  end
  local address = main and tostring(main) or import("main", true)
  collectgarbage("restart")
  return load_script, address
end
