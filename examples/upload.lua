-- Files sent by a form.  They lie in TempDir while the request runs; what is not saved is removed after it.

local page = require("lib.page")

local FORM = [[
<form method="post" action="%s" enctype="multipart/form-data">
<label>What is it? <input name="title" maxlength="80"></label>
<label>Files <input type="file" name="files" multiple></label>
<button>Send</button>
</form>
]]
local ROW = '<tr><td>%s</td><td>%s</td><td class="number">%d</td><td><code>%s</code></td></tr>'

-- The first bytes tell what a file is; its name and its type are only what the client says.
local function beginning(file)
  local handle = assert(io.open(file.path, "rb"))
  local bytes = handle:read(8) or ""
  handle:close()
  return (bytes:gsub(".", function(byte) return ("%02x "):format(byte:byte()) end))
end

local function rows(files)
  local lines = {}
  for index, file in ipairs(files) do
    -- To keep one, under a name of your own and not below the document root:
    --   file:save("/srv/photos/" .. number .. ".jpg")
    lines[index] = ROW:format(lf.escape(file.filename), lf.escape(file.type), file.size, beginning(file))
  end
  return '<div class="wide"><table>\n<tr><th>name</th><th>type</th><th>bytes</th><th>begins with</th></tr>\n'
    .. table.concat(lines, "\n") .. "\n</table></div>"
end

function main()
  local parts = {}
  if Env.REQUEST_METHOD == "POST" then
    local form = lf.form()
    local title = form.fields.title
    -- A repeated field is a list.
    if type(title) == "table" then title = title[1] end
    parts[1] = ("<p>%d files came%s.</p>"):format(#form.files,
      title and title ~= "" and ", called “" .. lf.escape(title) .. "”" or "")
    parts[2] = #form.files > 0 and rows(form.files) or ""
  end
  parts[#parts + 1] = FORM:format(page.url("upload.lua"))
  page.send("Upload", parts)
end
