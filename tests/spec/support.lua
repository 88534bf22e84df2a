-- The assertions of the spec files and the loop that runs them.
-- A spec file is a chunk called with (import, host, spec, check): `spec(promise, function)` runs at once.
-- Returns the table that test_lua_specs.py uses: `spec`, `check`, and `report()` -> failures, count.

local error, pairs, rawequal, select, tostring, type, xpcall = error, pairs, rawequal, select, tostring, type, xpcall
local traceback, concat, format = debug.traceback, table.concat, string.format

local support = { check = {} }
local check = support.check
local failures, count = {}, 0

local function show(value)
  if type(value) == "string" then return format("%q", #value > 200 and value:sub(1, 200) .. "..." or value) end
  return tostring(value)
end

local function same(a, b)
  if rawequal(a, b) then return true end
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do if not same(value, b[key]) then return false end end
  for key in pairs(b) do if a[key] == nil then return false end end
  return true
end

function check.equal(actual, expected, what)
  if not same(actual, expected) then
    error(format("%sexpected %s, got %s", what and what .. ": " or "", show(expected), show(actual)), 2)
  end
end

-- All values, in number and order: check.values({ n = 2, nil, "x" }, f())
function check.values(expected, ...)
  local got = select("#", ...)
  local wanted = expected.n or #expected
  if got ~= wanted then error(format("expected %d values, got %d", wanted, got), 2) end
  for index = 1, wanted do
    local value = (select(index, ...))
    if not same(value, expected[index]) then
      error(format("value %d: expected %s, got %s", index, show(expected[index]), show(value)), 2)
    end
  end
end

function check.truthy(value, what)
  if not value then error((what or "value") .. " is " .. tostring(value), 2) end
end

function check.match(text, pattern)
  if type(text) ~= "string" or not text:find(pattern) then
    error(format("expected text that matches %s, got %s", show(pattern), show(text)), 2)
  end
end

function support.spec(promise, body)
  count = count + 1
  local ok, message = xpcall(body, function(e) return traceback(tostring(e), 2) end)
  if not ok then failures[#failures + 1] = promise .. "\n" .. tostring(message) end
end

function support.report()
  return concat(failures, "\n\n"), count
end

return support
