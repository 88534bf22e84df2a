-- A form by GET and by POST; what comes back is escaped.

local page = require("lib.page")

local FORM = [[
<form method="%s" action="%s">
<label>Name <input name="name" value="%s" maxlength="80"></label>
<label>Message <textarea name="message" rows="3" maxlength="2000">%s</textarea></label>
<button>Send by %s</button>
</form>
]]

-- A repeated field is a list; the form has none, but a client may send what it likes.
local function first(value)
  if type(value) == "table" then value = value[1] end
  return value or ""
end

local function fields()
  local kind = (Env.CONTENT_TYPE or ""):lower()
  if Env.REQUEST_METHOD == "POST" and kind:find("^application/x%-www%-form%-urlencoded") then
    return lf.parse(Receive())
  end
  return lf.parse(Env.QUERY_STRING)
end

function main()
  local sent = fields()
  local name, message = first(sent.name), first(sent.message)
  local parts = {}
  if name ~= "" or message ~= "" then
    parts[1] = "<p>This came by " .. page.escape(Env.REQUEST_METHOD) .. ":</p>"
    parts[2] = page.rows({ { "name", name }, { "message", message } })
  end
  for _, method in ipairs({ "get", "post" }) do
    parts[#parts + 1] = FORM:format(method, page.url("form.lua"), page.escape(name), page.escape(message),
      method:upper())
  end
  page.send("Form", parts)
end
