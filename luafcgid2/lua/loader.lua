-- Loads the script and what it requires.
-- In: bytecode of the script, names given to `require`.  Out: modules; the list of files that were read, which
-- Python watches for changes.  Module sources come through host.module, which keeps one snapshot for all
-- clones of a script's version, so that an edit in progress never mixes two versions.

local _, host = ...
local load = loadstring or load
local concat, gsub, gmatch, match, format = table.concat, string.gsub, string.gmatch, string.match, string.format
local assert, error, package, select, rawget = assert, error, package, select, rawget
local tostring, type = tostring, type
local getfenv, setfenv = getfenv, setfenv  -- luacheck: ignore
local G = _G
local settings = host.settings

local loaded = false

local loader = {}

-- Entries of `lists` in order, each once, without those relative to the working directory.
local function merge(...)
  local found, known = {}, {}
  for index = 1, select("#", ...) do
    for entry in gmatch((select(index, ...)), "[^;]+") do
      if not known[entry] and entry:sub(1, 2) ~= "./" then
        known[entry] = true
        found[#found + 1] = entry
      end
    end
  end
  return concat(found, ";")
end

-- Tries every template of package.path; gives the code, or nil and what a normal Lua would list as tried.
local function find_module(name)
  local tried = {}
  local file = gsub(name, "%.", "/")
  for template in gmatch(package.path, "[^;]+") do
    local path = gsub(template, "%?", (gsub(file, "%%", "%%%%")))
    local code, message = host.module(path)
    if code then return code, path end
    if message then error(format("error loading module '%s' from file '%s':\n\t%s", name, path, message), 0) end
    tried[#tried + 1] = "\n\tno file '" .. path .. "'"
  end
  return nil, concat(tried)
end

local function searcher(name)
  local code, path = find_module(name)
  if not code then return path end
  return assert(load(code, "@" .. path)), path
end

-- The module `wsapi` holds what its launcher says: where the application is.
local function found_application(name)
  local chunk = searcher(name)
  local module = type(chunk) == "function" and chunk(name) or {}
  if type(module) == "table" and module.app_path == nil then module.app_path = settings.script_dir end
  return module
end

function loader.install()
  local root, dir = settings.document_root, settings.script_dir
  package.path = merge(package.path, settings.lua_path, root .. "/?.lua", root .. "/?/init.lua",
    dir .. "/?.lua", dir .. "/?/init.lua")
  local own = settings.local_c_modules and root .. "/?.so" or ""
  package.cpath = merge(package.cpath, settings.lua_cpath, own)
  package.preload.wsapi = found_application
  local searchers = package.searchers or package.loaders
  searchers[2] = searcher
  -- dofile and loadfile read files as well; what the top level reads so is watched like a module.  What a request
  -- reads is data, perhaps written by the script itself, and is read anew each time anyway.
  local plain_loadfile, plain_dofile = loadfile, dofile
  local function watch(path)
    if loaded then return end
    -- A number names a file, too; Python would take it for an open descriptor.
    if type(path) == "string" or type(path) == "number" then host.watch(tostring(path)) end
  end
  function G.loadfile(path, ...)
    watch(path)
    return plain_loadfile(path, ...)
  end
  function G.dofile(path)
    watch(path)
    return plain_dofile(path)
  end
end

function loader.load(code, name)
  return assert(load(code, name))
end

-- The script itself.  WSAPI's launchers give it the name that `module` of Lua 5.1 asks for: `module(...)` works.
-- What such a module defines is its value, as what it returns is that of any other.
function loader.load_script(code, name)
  local chunk = loader.load(code, name)
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

function loader.done()
  loaded = true
end

return loader
