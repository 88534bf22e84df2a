-- Promises of lua/lf.lua.

local import, _, spec, check = ...
local lf = import("lf")
local load = loadstring or load

local function every_byte()
  local bytes = {}
  for code = 0, 255 do bytes[#bytes + 1] = string.char(code) end
  return table.concat(bytes)
end

local function round_trip(value)
  local text = lf.serialize(value)
  local chunk, message = load("return " .. text)
  check.truthy(chunk, tostring(message) .. " in " .. text)
  return chunk()
end

spec("a name without '=' has the value \"\"", function()
  check.equal(lf.parse("debug"), { debug = "" })
  check.equal(lf.parse("a&b=1&c"), { a = "", b = "1", c = "" })
end)

spec("a value keeps its '='", function()
  check.equal(lf.parse("a=b=c"), { a = "b=c" })
  check.equal(lf.parse("t=YWJj=="), { t = "YWJj==" })
end)

spec("nil and the empty string give an empty table", function()
  check.equal(lf.parse(nil), {})
  check.equal(lf.parse(""), {})
  check.equal(lf.parse("&&"), {})
end)

spec("an empty name is kept", function()
  check.equal(lf.parse("=v"), { [""] = "v" })
  check.equal(lf.parse("="), { [""] = "" })
end)

spec("repeated names collect in order", function()
  check.equal(lf.parse("a=1&b=x&a=2&a=3"), { a = { "1", "2", "3" }, b = "x" })
  check.equal(lf.parse("a&a"), { a = { "", "" } })
end)

spec("names and values are decoded, also '=' and '&' in them", function()
  check.equal(lf.parse("a%3Db=c%26d+e&%61=1"), { ["a=b"] = "c&d e", a = "1" })
end)

spec("parse_pair gives name and value", function()
  check.values({ "a", "b" }, lf.parse_pair("a=b"))
  check.values({ "a", "" }, lf.parse_pair("a"))
  check.values({ "", "v" }, lf.parse_pair("=v"))
  check.values({ n = 2 }, lf.parse_pair(""))
  check.values({ n = 2 }, lf.parse_pair(nil))
end)

spec("urldecode leaves a malformed escape alone", function()
  check.values({ "%2" }, lf.urldecode("%2"))
  check.values({ "%zz%" }, lf.urldecode("%zz%"))
  check.values({ "%A" }, lf.urldecode("%25A"))
  check.values({ "a b/\0\255" }, lf.urldecode("a+b%2f%00%Ff"))
  check.values({ n = 1 }, lf.urldecode(nil))
  check.values({ "" }, lf.urldecode(""))
end)

spec("urlencode escapes all but letters, digits and the space", function()
  check.values({ "a+b%2Bc%26%3D%2F%2D%5F%2E%7E" }, lf.urlencode("a b+c&=/-_.~"))
  check.values({ "%00%0A%80%FF%C3%A9" }, lf.urlencode("\0\n\128\255\195\169"))
  check.values({ n = 1 }, lf.urlencode(nil))
  check.values({ "" }, lf.urlencode(""))
end)

spec("every byte survives urlencode and urldecode", function()
  check.equal(lf.urldecode(lf.urlencode(every_byte())), every_byte())
end)

spec("the layout of serialize is the ancestor's, with loadable number keys", function()
  check.equal(lf.serialize({ "x" }), '{[1] = "x"}')
  check.equal(lf.serialize({ a = 1 }), '{["a"] = 1}')
  check.equal(lf.serialize({ 1, 2 }), "{[1] = 1,[2] = 2}")
  check.equal(lf.serialize(true), "true")
  check.equal(lf.serialize("a\"b"), '"a\\034b"')
  check.equal(lf.serialize(nil), "")
end)

spec("strings of any byte survive a round trip", function()
  check.equal(round_trip(every_byte()), every_byte())
  check.equal(round_trip("\r\n1\0002\\3\"4"), "\r\n1\0002\\3\"4")
  check.equal(round_trip({ [every_byte()] = every_byte() }), { [every_byte()] = every_byte() })
end)

spec("numbers survive a round trip with their kind", function()
  local numbers = { 0, 1, -1, 0.1, 1 / 3, -2.5, 1e15, 1e100, 2 ^ 53, 5e-324, 123456789012, math.huge, -math.huge }
  if math.mininteger then
    for _, value in ipairs { math.mininteger, math.maxinteger, 5.0, -0.0, 2.0 ^ 63 } do
      numbers[#numbers + 1] = value
    end
  end
  for _, value in ipairs(numbers) do
    local back = round_trip(value)
    check.equal(back, value, lf.serialize(value))
    if math.type then check.equal(math.type(back), math.type(value), lf.serialize(value)) end
  end
  local nan = round_trip(0 / 0)
  check.truthy(nan ~= nan, "NaN")
end)

spec("nested tables and keys of each kind survive a round trip", function()
  local value = { 1, "two", { 3, { four = { true, false } } }, [true] = "yes", [2.5] = "half", [-1] = {}, [""] = 0 }
  check.equal(round_trip(value), value)
end)

spec("a table met twice is written twice, a cycle is a clear error", function()
  local shared = { 1 }
  check.equal(round_trip({ shared, shared }), { { 1 }, { 1 } })
  local loop = {}
  loop.inner = { loop }
  check.values({ false, "lf.serialize: the table contains itself" }, pcall(lf.serialize, loop))
end)

spec("what has no text becomes nil, and is refused as a key", function()
  check.equal(round_trip({ 1, print, 3 }), { 1, nil, 3 })
  check.values({ false, "lf.serialize: a table cannot be written as a key" }, pcall(lf.serialize, { [{}] = 1 }))
end)

spec("no global is written", function()
  local leaked
  setmetatable(_G, { __newindex = function(_, name) leaked = name end })
  lf.parse("a=1&b")
  lf.parse_pair("a=b")
  lf.serialize({ 1, { 2 } })
  setmetatable(_G, nil)
  check.equal(leaked, nil)
end)
