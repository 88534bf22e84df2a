-- Server-sent events: the page shows each as it comes.  In the browser:
--   new EventSource("events.lua").onmessage = event => console.log(event.data)

local COUNT = 3

function main()
  RespContentType("text/event-stream")
  Header("Cache-Control", "no-store")
  Header("X-Accel-Buffering", "no")                     -- nginx hands each piece on at once
  for number = 1, COUNT do
    Send(("id: %d\ndata: reading %d of %d\n\n"):format(number, number, COUNT))
    Flush()                                             -- an error when the client has gone: the script ends
    if number < COUNT then os.execute("sleep 0.1") end
  end
end
