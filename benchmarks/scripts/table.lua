-- A page of the usual kind: a query string is parsed, 100 rows are escaped and put into a table.
local ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

local function escape(text)
  return (text:gsub('[&<>"]', ESCAPES))
end

function main(env, con)
  local query = lf.parse(Env.QUERY_STRING)
  local title = escape(query.title or "Rows & columns")
  local page = { "<!DOCTYPE html>\n<title>", title, "</title>\n<table>\n" }
  for row = 1, 100 do
    page[#page + 1] = "<tr><td>" .. row .. "</td><td>" .. escape('<row "' .. row .. '">') .. "</td></tr>\n"
  end
  page[#page + 1] = "</table>\n"
  Send(table.concat(page))
end
