-- The page around every example, and HTML escaping.
-- In: text and ready HTML.  Out: strings; only `send` touches the response.
-- A module that scripts `require` is loaded once into each Lua state; it is found below the document root.

local page = {}

local LAYOUT = [[
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s · luafcgid2</title>
<link rel="stylesheet" href="%s">
</head>
<body>
<header><a href="%s">luafcgid2</a> <span>Lua scripts behind FastCGI</span></header>
<main>
<h1>%s</h1>
%s
</main>
<footer>%s · <a href="%s">source of this page</a></footer>
</body>
</html>
]]

-- Whatever a client sent must pass here before it stands in a page.
function page.escape(text)
  return lf.escape(tostring(text))
end

-- A table of two columns from a list of {name, value}.
function page.rows(pairs_list)
  local rows = {}
  for index, pair in ipairs(pairs_list) do
    rows[index] = "<tr><th>" .. page.escape(pair[1]) .. "</th><td>" .. page.escape(pair[2]) .. "</td></tr>"
  end
  return '<div class="wide"><table>\n' .. table.concat(rows, "\n") .. "\n</table></div>"
end

-- The URL of a neighbour of the running script, wherever the directory lies in the site.
function page.url(name)
  return page.escape(Env.SCRIPT_NAME:match("^.*/") or "/") .. name
end

-- Sends the whole page.  `parts` is a list of HTML strings.
function page.send(title, parts)
  local script = Env.SCRIPT_NAME:match("[^/]+$") or "index.lua"
  local safe_title = page.escape(title)
  RespContentType("text/html; charset=utf-8")
  Send(LAYOUT:format(safe_title, page.url("style.css"), page.url(""), safe_title, table.concat(parts, "\n"),
    _VERSION, page.url("files.lua?show=" .. lf.urlencode(script))))
end

return page
