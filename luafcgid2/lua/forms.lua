-- lf.form: a posted form, with its files, which Python writes to TempDir as they come; see forms.py.
-- In: the request.  Out: a table { fields = name -> value or list of values, files = list of files }; in `files` a
-- name leads to its first file, too.  A file has name, filename, type, size, path and :save(path).  What cannot
-- be used ends the request with 400, 413 or 507.

local import, host = ...
local request, values, inputs, api = import("request"), import("values"), import("inputs"), import("api")
local add = import("repeated")
local error, ipairs, setmetatable, tostring, type = error, ipairs, setmetatable, tostring, type
local call, sub = host.form, string.sub
local PIECE = 65536

local forms = {}
local file_methods = {}
local file_kind = { __index = file_methods }
-- File -> its number, by which Python knows it.
local numbers = setmetatable({}, { __mode = "k" })

-- Moves the file; a path without a slash in front begins at the script's folder.  What is there is replaced.
function file_methods:save(path)
  local number = numbers[self]
  if not number then error("save: call it as file:save(path), on a file of lf.form()", 2) end
  if type(path) ~= "string" or path == "" then
    error("bad argument #1 to 'save' (a path expected, got " .. (path == "" and "\"\"" or type(path)) .. ")", 2)
  end
  if sub(path, 1, 1) ~= "/" then path = host.settings.script_dir .. "/" .. path end
  local _, message = call("save", number, path)
  if message then error("save: " .. tostring(message), 2) end
  self.path = path
  return true
end

-- What a host function says: its value, or the end of the request, or an error.
local function check(value, message)
  if not message then return value end
  if type(value) == "number" then request.refuse(value, message) end
  error("lf.form: " .. message, 4)
end

local function clear()
  call("clear")
end

local function read(content_type)
  host.now.at_end = clear
  check(call("begin", content_type))
  local more = true
  while more do
    local piece = api.receive(PIECE)
    if piece == "" then break end
    more = check(call("feed", piece))
  end
  return values.decode(check(call("end")))
end

local function add_file(files, part)
  local file = setmetatable({ name = part[1], filename = part[2], type = part[3], size = part[4], path = part[5] },
    file_kind)
  numbers[file] = part[6]
  files[#files + 1] = file
  if files[file.name] == nil then files[file.name] = file end
end

-- A browser sends an empty file without a name where none was chosen.
local function sorted(parts)
  local form = { fields = {}, files = {} }
  for _, part in ipairs(parts) do
    if not part[6] then
      add(form.fields, part[1], part[2])
    elseif part[2] ~= "" or part[4] > 0 then
      add_file(form.files, part)
    end
  end
  return form
end

-- The same table for each call within a request.  A form without files is taken, too, and none is an empty one.
function forms.form()
  local env = request.env("form")
  local results = request.remember(env)
  if results.form then return results.form end
  local kind = request.kind(env)
  if not results.post and (kind == "multipart/form-data" or kind == "application/x-www-form-urlencoded") then
    request.expect_body("form", 3)
  end
  if kind ~= "multipart/form-data" then
    results.form = { fields = inputs.post(), files = {} }
    return results.form
  end
  results.form = sorted(read(env.CONTENT_TYPE))
  return results.form
end

return forms
