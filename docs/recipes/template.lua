-- Pages as text with holes: {{name}} is escaped, {{{name}}} is HTML already, {{#list}}...{{/list}} is repeated.

local PAGE = [[
<h1>{{title}}</h1>
<ul>{{#songs}}
<li>{{name}}: {{seconds}} s</li>{{/songs}}
</ul>
{{{footer}}}
]]

local fill

local function hole(name, values)
  return tostring(values[name] or "")
end

-- One pass from left to right, so that what was filled in is never taken for a hole.
function fill(template, values)
  local parts, at = {}, 1
  while true do
    local start, stop, mark, name = template:find("{{([#{]?)(%w+)}}", at)
    if not start then break end
    parts[#parts + 1] = template:sub(at, start - 1)
    if mark == "#" then
      local inner
      inner, stop = template:match("^(.-){{/" .. name .. "}}()", stop + 1)
      for _, item in ipairs(values[name] or {}) do parts[#parts + 1] = fill(inner, item) end
      stop = stop - 1
    elseif mark == "{" then
      parts[#parts + 1], stop = hole(name, values), stop + 1
    else
      parts[#parts + 1] = lf.escape(hole(name, values))
    end
    at = stop + 1
  end
  return table.concat(parts) .. template:sub(at)
end

function main()
  Send(fill(PAGE, {
    title = "Songs & more",
    songs = { { name = lf.get("first") or "<One>", seconds = 181 }, { name = "Two", seconds = 240 } },
    footer = "<p>The end.</p>",
  }))
end
