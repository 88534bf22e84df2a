-- Loads what a script requires.
-- In: names given to `require`, files given to dofile and loadfile.  Out: modules; the list of files that were read,
-- which Python watches for changes.  Module sources come through host.module, which keeps one snapshot for all clones
-- of a script's version, so that an edit in progress never mixes two versions.  Loaded when it is first needed.

local _, host = ...
local load = loadstring or load
local concat, gsub, gmatch, format = table.concat, string.gsub, string.gmatch, string.format
local assert, error, package, tostring, type = assert, error, package, tostring, type
local plain_loadfile, plain_dofile = loadfile, dofile
local now, settings = host.now, host.settings

local loader = {}

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

function loader.searcher(name)
  local code, path = find_module(name)
  if not code then return path end
  return assert(load(code, "@" .. path)), path
end

-- The module `wsapi` holds what its launcher says: where the application is.
function loader.found_application(name)
  local chunk = loader.searcher(name)
  local module = type(chunk) == "function" and chunk(name) or {}
  if type(module) == "table" and module.app_path == nil then module.app_path = settings.script_dir end
  return module
end

-- What the top level reads so is watched like a module.  What a request reads is data, perhaps written by the script
-- itself, and is read anew each time anyway.
local function watch(path)
  if now.loaded then return end
  -- A number names a file, too; Python would take it for an open descriptor.
  if type(path) == "string" or type(path) == "number" then host.watch(tostring(path)) end
end

function loader.loadfile(path, ...)
  watch(path)
  return plain_loadfile(path, ...)
end

function loader.dofile(path)
  watch(path)
  return plain_dofile(path)
end

return loader
