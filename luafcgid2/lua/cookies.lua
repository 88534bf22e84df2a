-- Parses the Cookie header as the C++ ancestor does, with its faults mended.
-- In: the value of HTTP_COOKIE, or nil.  Out: name -> value.  Separated by `;` outside quotes only (a comma is
-- legal inside values in practice); names are trimmed, values are not; quotes go when both ends have one;
-- a name without `=` has the value ""; of a repeated name the last one wins; an empty name is dropped.

local find, sub, match = string.find, string.sub, string.match

local cookies = {}

-- In one pass: a pattern with blanks on both sides would try each of them as the last one, and a header of blanks
-- would hold a thread for as long as its sender likes.
local function trimmed(text)
  local start = find(text, "[^ ]")
  return start and match(text, ".*[^ ]", start) or ""
end

local function value_end(text, at)
  local quoted = false
  while true do
    local stop = find(text, '[;"]', at)
    if not stop then return #text + 1 end
    if sub(text, stop, stop) == '"' then
      quoted = not quoted
    elseif not quoted then
      return stop
    end
    at = stop + 1
  end
end

function cookies.parse(text)
  local found = {}
  if not text or text == "" then return found end
  local at, size = 1, #text
  while at <= size do
    local stop = find(text, "[=;]", at) or size + 1
    local name = trimmed(sub(text, at, stop - 1))
    local value = ""
    if sub(text, stop, stop) == "=" then
      local start = stop + 1
      stop = value_end(text, start)
      value = sub(text, start, stop - 1)
      value = match(value, '^"(.*)"$') or value
    end
    if name ~= "" then found[name] = value end
    at = stop + 1
  end
  return found
end

return cookies
