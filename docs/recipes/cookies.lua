-- A light or a dark page, as the visitor likes it, for a year.

local THEMES = { light = true, dark = true }
local YEAR = 365 * 86400

function main()
  local wanted = lf.get("theme")
  if THEMES[wanted] then
    lf.cookie("theme", wanted, { max_age = YEAR })
    return lf.redirect(Env.SCRIPT_NAME)
  end
  -- What comes from a browser is never taken as it is.
  local theme = THEMES[Cookies.theme] and Cookies.theme or "light"
  Send('<body class="' .. theme .. '"><a href="?theme=light">light</a> <a href="?theme=dark">dark</a>')
end
