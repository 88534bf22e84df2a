-- A page that takes long to make is sent once to each browser, until it changes.

local TITLE, VERSION = "The whole catalogue", "2026-11"

local function slow_page()
  return "<h1>" .. TITLE .. "</h1>\n"
end

function main()
  Header("Cache-Control", "no-cache")                   -- keep it, and ask each time whether it is still good
  if lf.conditional(VERSION) then return end            -- ETag; 304 for a browser that has this version
  Send(slow_page())
end
