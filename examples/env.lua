-- Everything that a script can know about its request.

local page = require("lib.page")

local function sorted(source)
  local list = {}
  for name, value in pairs(source) do list[#list + 1] = { name, value } end
  table.sort(list, function(left, right) return left[1] < right[1] end)
  return list
end

function main()
  page.send("Environment", {
    "<p><code>Env</code> holds the FastCGI parameters: the request line, the headers as <code>HTTP_*</code> "
      .. "and the server's own names. What follows the script's name in the URL is "
      .. "<code>PATH_INFO</code>.</p>",
    page.rows(sorted(Env)),
    "<h2>Info</h2>",
    "<p>Which Lua state and which thread serve this request.</p>",
    page.rows(sorted(Info)),
  })
end
