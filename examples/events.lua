-- A live page by server-sent events: the server's clock, second by second, over one answer that leaves in pieces.
-- Asked for ?events=20 this script is the stream of 20 events; asked for nothing it is the page that shows them.

local page = require("lib.page")

local MOST = 20

local SHOW = [[
<p>The browser asks once, and this script answers for %d seconds: <code>Flush()</code> sends what there is so far.
While it does, it holds one of the server's threads. Close the page, and the next <code>Flush()</code> ends it.</p>
<p class="big" id="clock">--:--:--</p>
<p id="count">Waiting for the first event.</p>
<p><button type="button" id="again" hidden>Again</button></p>
<script>
const clock = document.getElementById("clock"), count = document.getElementById("count")
const again = document.getElementById("again")
function listen() {
  const events = new EventSource("%s?events=%d")
  again.hidden = true
  events.onmessage = (event) => {
    clock.textContent = event.data
    count.textContent = "Event " + event.lastEventId + " of %d."
  }
  const stop = (text) => () => { events.close(); count.textContent = text; again.hidden = false }
  events.addEventListener("end", stop("That was all."))
  events.onerror = stop("The connection is lost.")
}
again.onclick = listen
listen()
</script>
]]

local function stream(events)
  RespContentType("text/event-stream")
  Header("Cache-Control", "no-store")
  Header("X-Accel-Buffering", "no")         -- nginx passes each piece on at once
  for number = 1, events do
    if number > 1 then os.execute("sleep 1") end
    Send(("id: %d\ndata: %s\n\n"):format(number, os.date("%H:%M:%S")))
    Flush()
  end
  Send("event: end\ndata:\n\n")
end

function main()
  local events = tonumber(lf.get("events"))
  if events then return stream(math.max(1, math.min(MOST, math.floor(events)))) end
  page.send("Events", { SHOW:format(MOST, page.url("events.lua"), MOST, MOST) })
end
