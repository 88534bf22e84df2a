-- A hit counter: all workers count together, and a restart forgets nothing.

local page = require("lib.page")

local TWO_DAYS = 2 * 24 * 3600

function main()
  local hits = Shared.Incr("hits", 1, 0)
  -- A counter for each day, which goes by itself.
  local today = Shared.Incr("hits " .. os.date("%Y-%m-%d"), 1, 0, TWO_DAYS)
  page.send("Hits", {
    ('<p class="big">%d</p>'):format(hits),
    ("<p>requests so far, %d of them today. However many workers answer, not one is lost: "
      .. "<code>Shared.Incr</code> counts in the store.</p>"):format(today),
    '<p><a class="button" href="' .. page.url("hits.lua") .. '">Once more</a></p>',
  })
end
