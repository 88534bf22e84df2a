-- The landing page: what there is to see.

local page = require("lib.page")

local EXAMPLES = {
  { "hello.lua", "Hello", "The smallest script: a function, a content type, a line of text." },
  { "env.lua/some/path?x=1&amp;y=2", "Environment", "What the web server tells a script about the request." },
  { "form.lua", "Form", "Query strings, posted forms, and why everything is escaped." },
  { "upload.lua", "Upload", "Files sent by a form: as many as you like, straight to the disk." },
  { "cookies.lua", "Cookies", "A counter that the browser keeps." },
  { "login.lua", "Log in", "A session that all workers share, and a limit on guessing." },
  { "hits.lua", "Hits", "A counter that all workers share." },
  { "limit.lua", "A limit", "Five requests in ten seconds, then 429 and how long to wait." },
  { "cache.lua", "A cache", "A page that is dear to make, made once for everybody." },
  { "events.lua", "Events", "The server's clock, live: one answer that leaves in pieces." },
  { "notes.lua", "A JSON API", "Notes as a WSAPI application: GET, POST and DELETE with JSON." },
  { "files.lua", "Files", "This directory, read by a C module, and the source of every page." },
  { "error.lua", "An error", "What you see when a script fails, and where it failed." },
}

local STEPS = [[
<h2>Change something</h2>
<p>Open <code>hello.lua</code> in an editor, change the greeting, save, and reload the page: the next request
runs the new version. Make a mistake, and the page tells you where it is.</p>
<h2>How a script works</h2>
<p>The code at the top level of a file runs once in each Lua state; the function <code>main</code> runs for
each request. Variables live on between requests on the same state, but several states serve one script: what
must be shared belongs into <code>Shared</code>, a session, a file or a database.</p>
]]

local function card(example)
  return ('<li><a href="%s">%s</a><p>%s</p></li>'):format(page.url(example[1]), example[2], example[3])
end

function main()
  local cards = {}
  for index, example in ipairs(EXAMPLES) do cards[index] = card(example) end
  page.send("It works", {
    "<p>These pages are made by Lua scripts: short files in one directory, run by a master's workers.</p>",
    '<ul class="cards">', table.concat(cards, "\n"), "</ul>",
    STEPS,
  })
end
