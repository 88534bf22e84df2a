-- lf.accepts: which of several content types the client likes best (RFC 9110, section 12.5.1).
-- In: content types; the request's Accept.  Out: one of them, or nil.

local import = ...
local request = import("request")
local error, pairs, select, tonumber, type = error, pairs, select, tonumber, type
local find, gmatch, lower, match, sub = string.find, string.gmatch, string.lower, string.match, string.sub

local negotiation = {}

-- { kind, sub-kind, parameters = { name = value } }, or nil; a range has q, too.
local function parsed(text)
  local kind, below, rest = match(text, "^%s*([^%s/;]+)/([^%s/;]+)%s*(.*)$")
  if not kind then return nil end
  local found = { lower(kind), lower(below), parameters = {}, count = 0, q = 1 }
  for key, text_of_value in gmatch(rest, ";%s*([^%s=;]+)%s*=%s*([^;]*)") do
    -- Patterns that take one pass: who sends blanks or quotes without end shall not hold a thread.
    local name, value = lower(key), match(lower(text_of_value), "^.*%S") or ""
    value = match(value, '^"(.*)"$') or value
    if name == "q" then
      found.q = (find(value, "^0%.?%d?%d?%d?$") or find(value, "^1%.?0?0?0?$")) and tonumber(value) or 0
      break
    end
    found.parameters[name], found.count = value, found.count + 1
  end
  return found
end

-- How exactly a range names an offer; nil if it does not.
local function exactness(range, offer)
  if range[1] == "*" and range[2] == "*" then return 0 end
  if range[1] ~= offer[1] then return nil end
  if range[2] == "*" then return 1 end
  if range[2] ~= offer[2] then return nil end
  for name, value in pairs(range.parameters) do
    if offer.parameters[name] ~= value then return nil end
  end
  return 2 + range.count
end

-- What stands between commas; those in quotes do not count.
local function ranges_of(accept)
  local found, start, quoted = {}, 1, false
  for at, char in gmatch(accept .. ",", '()([,"])') do
    if char == '"' then
      quoted = not quoted
    elseif not quoted then
      found[#found + 1] = parsed(sub(accept, start, at - 1))
      start = at + 1
    end
  end
  return found
end

-- The most exact range that names the offer says how welcome it is.
local function quality(ranges, offer)
  local best, q = -1, 0
  for index = 1, #ranges do
    local exact = exactness(ranges[index], offer)
    if exact and exact > best then best, q = exact, ranges[index].q end
  end
  return q
end

-- The offer that is most welcome, of equals the first; nil if none is.  Who sends no Accept takes anything.
function negotiation.accepts(...)
  local accept = request.env("accepts").HTTP_ACCEPT
  local ranges = accept and find(accept, "%S") and ranges_of(accept)
  local best, most = nil, 0
  for index = 1, select("#", ...) do
    local text = select(index, ...)
    local offer = type(text) == "string" and parsed(text)
    if not offer then error("bad argument #" .. index .. " to 'lf.accepts' (a content type expected)", 2) end
    local q = ranges and quality(ranges, offer) or not ranges and 1 or 0
    if q > most then best, most = text, q end
  end
  return best
end

return negotiation
