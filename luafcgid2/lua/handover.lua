-- By which name a web server can send a file for SendFile: what X-Accel-Redirect or X-Sendfile says.
-- In: the absolute name of the file, and SendFileMap ("/srv/files=/protected") of the settings.  Out: the name, coded
-- as a URL; or nil: then the worker sends the file itself.

local _, host = ...
local byte, find, format, gsub, match, sub =
  string.byte, string.find, string.format, string.gsub, string.match, string.sub
local from, to = match(host.settings.send_file_map, "^(.-)/*=(.-)/*$")

-- Both web servers decode it.
local function encoded(path)
  return (gsub(path, "[^A-Za-z0-9/._~-]", function(char) return format("%%%02X", byte(char)) end))
end

return function(path)
  -- Web servers refuse these, or mean another file by them.
  if find(path .. "/", "/%.%.?/") then return nil end
  if not from then return encoded(path) end
  if sub(path, 1, #from + 1) ~= from .. "/" then return nil end
  return encoded(to .. sub(path, #from + 1))
end
