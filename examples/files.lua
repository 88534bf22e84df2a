-- Lists this directory with the C module lfs (Debian: lua-filesystem), and shows the source of what it lists.

local page = require("lib.page")
local has_lfs, lfs = pcall(require, "lfs")

local NO_LFS = "<p>The listing needs the Lua module <code>lfs</code>: "
  .. "<code>apt install lua-filesystem</code>, then start the server again.</p>"
local ROW = '<tr><td><a href="%s">%s</a></td><td class="number">%d</td><td>%s</td></tr>'

-- A name with a slash could leave the directory, and one with a dot in front is hidden.
local function is_listed(name)
  return name:find("^[%w_-]+%.[%w]+$") ~= nil
end

local function listing()
  local found = {}
  for name in lfs.dir(Dir()) do
    local info = is_listed(name) and lfs.attributes(Dir() .. "/" .. name)
    if info and info.mode == "file" then
      found[#found + 1] = { name = name, size = info.size, changed = info.modification }
    end
  end
  table.sort(found, function(left, right) return left.name < right.name end)
  return found
end

local function rows(files)
  local lines = {}
  for index, file in ipairs(files) do
    local changed = os.date("%Y-%m-%d %H:%M", file.changed)
    lines[index] = ROW:format(page.url("files.lua?show=" .. file.name), file.name, file.size, changed)
  end
  return '<div class="wide"><table>\n<tr><th>name</th><th>bytes</th><th>changed</th></tr>\n'
    .. table.concat(lines, "\n") .. "\n</table></div>"
end

local function source(name)
  local file = is_listed(name) and io.open(Dir() .. "/" .. name, "rb")
  if not file then return nil end
  local text = file:read("*a")
  file:close()
  return text
end

function main()
  local name = lf.parse(Env.QUERY_STRING).show
  if type(name) == "string" then
    local text = source(name)
    if not text then
      RespStatus(Response[404])
      return page.send("No such file", { "<p>Nothing here is called " .. page.escape(name) .. ".</p>" })
    end
    return page.send(name, { "<pre>" .. page.escape(text) .. "</pre>" })
  end
  page.send("Files", { has_lfs and rows(listing()) or NO_LFS })
end
