-- Promises of lua/statuses.lua.

local import, _, spec, check = ...
local statuses = {}
import("statuses").install(statuses)

spec("each entry is its code, a space and a phrase", function()
  local count = 0
  for code, line in pairs(statuses) do
    count = count + 1
    check.equal(tonumber(line:match("^(%d%d%d) %u")), code)
  end
  check.truthy(count >= 62, "the number of codes")
end)

spec("the phrases are those that scripts know", function()
  check.equal(statuses[100], "100 Continue")
  check.equal(statuses[200], "200 OK")
  check.equal(statuses[302], "302 Found")
  check.equal(statuses[306], "306 Switch Proxy")
  check.equal(statuses[404], "404 Not Found")
  check.equal(statuses[413], "413 Payload Too Large")
  check.equal(statuses[418], "418 I'm a teapot")
  check.equal(statuses[511], "511 Network Authentication Required")
  check.equal(statuses[299], nil)
end)
