-- Promises of lua/wsapi.lua about what is sent when; the rest is in tests/unit/test_script_wsapi.py.

local import, host, spec, check = ...
host.settings = { script_dir = "/srv" }
local wsapi = import("wsapi")

-- What the response is told, in order.
local function events(headers, pieces)
  local told = {}
  local function note(what) return function(value) told[#told + 1] = what .. (value and " " .. value or "") end end
  local response = { status = note("status"), header = note("header"), send = note("send"), flush = note("flush") }
  local at = 0
  local function run()
    return 200, headers, function()
      at = at + 1
      if pieces[at] then told[#told + 1] = "made " .. pieces[at] end
      return pieces[at]
    end
  end
  wsapi(run, response, { log = note("log"), receive = function() return "" end })()({})
  return told
end

spec("a body of one piece is not flushed, so that it has its length", function()
  check.equal(events({}, { "a" }), { "status 200", "made a", "send a" })
end)

spec("the first piece leaves when there is a second, each further one at once, and none is made before", function()
  check.equal(events({}, { "a", "b", "c" }), { "status 200", "made a", "send a", "made b", "flush", "send b", "flush",
    "made c", "send c", "flush" })
end)

spec("a body whose length the application tells is sent whole", function()
  for _, name in ipairs({ "Content-Length", "content-length" }) do
    check.equal(events({ [name] = 2 }, { "a", "b" }), { "status 200", "header " .. name, "made a", "send a", "made b",
      "send b" })
  end
end)
