-- A photo, kept outside of the site, under a name of our own.

local FOLDER = Config.photos or "/srv/photos"
local FORM = [[
<form method="post" enctype="multipart/form-data">
<input type="file" name="photo" accept="image/jpeg"> <button>Send</button>
</form>
]]

-- The first bytes tell what a file is; name and type are only what the client says.
local function is_jpeg(file)
  local handle = assert(io.open(file.path, "rb"))
  local start = handle:read(3)
  handle:close()
  return start == "\255\216\255"
end

function main()
  if Env.REQUEST_METHOD ~= "POST" then return Send(FORM) end
  local photo = lf.form().files.photo
  if not photo or not is_jpeg(photo) then
    RespStatus(422)
    return Send("<p>That is no JPEG.</p>" .. FORM)
  end
  local number = Shared.Incr("photos", 1, 0)
  photo:save(("%s/%06d.jpg"):format(FOLDER, number))
  Send(("<p>%s: %d bytes, kept as number %d.</p>"):format(lf.escape(photo.filename), photo.size, number))
end
