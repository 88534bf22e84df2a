-- Finds what two requests in a row have in common, so that params.lua need not cut it out of every request.
-- In: the PARAMS bytes of a request, two lists { name, value, position, name, ... }: its pairs and those of the
-- request before, and the function that joins a repeated header.  Out: a list of at most 16 runs { bytes, fill, first }
-- in their order: `fill(env)` puts the pairs of a run into `env` and returns it; that of the `first` pairs of a request
-- makes a new table.  And a stencil, or nil: `stencil(data)` gives the table of a request that differs from this one in
-- a few values only, which are as long as those were, or nil.
--
-- Most of what a web server sends is the same every time.  Where a request has the bytes of a run between two
-- pairs, the names and values are those of the run: equal bytes decode to equal pairs, nothing is guessed.  Code
-- with constants fills a table in a third of the time that a loop takes, hence it is written here.

local find, sub, format, concat = string.find, string.sub, string.format, table.concat
local load, unpack = loadstring or load, table.unpack or unpack
-- A run pays from so many pairs on.
local SHORTEST = 3
-- Each costs a search through requests that lack it, and who sends thousands of headers would make thousands.
local MOST = 16
-- Of a stencil: values that differ, pairs in all, and bytes, which it keeps.
local MOST_HOLES, MOST_PAIRS, LONGEST = 4, 100, 4096

-- The source of `fill`, with space for `size` pairs if it makes the table.
local function source(pairs_read, from, to, first, size)
  local items, lines, seen = {}, {}, {}
  for index = from, to, 3 do
    local name, value = format("%q", pairs_read[index]), format("%q", pairs_read[index + 1])
    if first and not seen[name] then
      items[#items + 1] = format("[%s]=%s,", name, value)
    elseif sub(pairs_read[index], 1, 5) == "HTTP_" then
      lines[#lines + 1] = format("before = env[%s] env[%s] = before and joined(%s, before, %s) or %s",
        name, name, name, value, value)
    else
      lines[#lines + 1] = format("env[%s] = %s", name, value)
    end
    seen[name] = true
  end
  -- A constructor makes room for as many items as it has.
  for _ = #items + 1, first and size or 0 do items[#items + 1] = items[1] end
  return concat({ "local joined = ... return function(env) local before",
    first and "env = {" .. concat(items) .. "}" or "", concat(lines, "\n"), "return env end" }, "\n")
end

-- The source of a stencil for `data`, and the bytes between its holes; nil where there can be none.
local function cut(data, former, pairs_read)
  local count = #pairs_read
  if #former ~= count or count > 3 * MOST_PAIRS or #data > LONGEST then return nil end
  local items, checks, names, pieces, seen, from = {}, {}, {}, {}, {}, 1
  local function piece(to)
    pieces[#pieces + 1] = sub(data, from, to)
    names[#names + 1] = "piece" .. #pieces
    checks[#checks + 1] = format("find(data, piece%d, %d, true) == %d", #pieces, from, from)
  end
  for index = 1, count, 3 do
    local name, value = pairs_read[index], pairs_read[index + 1]
    if seen[name] or former[index] ~= name or #former[index + 1] ~= #value then return nil end
    seen[name] = true
    local text = format("%q", value)
    if former[index + 1] ~= value then
      local stop = (pairs_read[index + 5] or #data + 1) - 1
      if #pieces == MOST_HOLES then return nil end
      text = format("sub(data, %d, %d)", stop - #value + 1, stop)
      piece(stop - #value)
      from = stop + 1
    end
    items[#items + 1] = format("[%q] = %s,", name, text)
  end
  if from <= #data then piece(#data) end
  if seen.HTTP_PROXY then return nil end
  return concat({ "local find, sub, " .. concat(names, ", ") .. " = ... return function(data)",
    format("if #data == %d and %s then return {", #data, concat(checks, " and ")), concat(items, "\n"),
    "FCGI_ROLE = 'RESPONDER' } end end" }, "\n"), pieces
end

local function stencil(data, former, pairs_read)
  local text, pieces = cut(data, former, pairs_read)
  local chunk = text and load(text, "=[luafcgid2 stencil]")
  return chunk and chunk(find, sub, unpack(pieces)) or nil
end

return function(data, former, pairs_read, joined)
  local found, at = {}, 1
  local count = #pairs_read
  while at <= count and #found < MOST do
    local stop = at
    while stop <= count and former[stop] == pairs_read[stop] and former[stop + 1] == pairs_read[stop + 1] do
      stop = stop + 3
    end
    if stop - at >= 3 * SHORTEST then
      local first = at == 1
      -- None for what is too much for one function.
      local chunk = load(source(pairs_read, at, stop - 3, first, count / 3 + 2), "=[luafcgid2 run]")
      if chunk then
        local bytes = sub(data, pairs_read[at + 2], (pairs_read[stop + 2] or #data + 1) - 1)
        found[#found + 1] = { bytes, chunk(joined), first }
      end
    end
    at = stop > at and stop or at + 3
  end
  return found, stencil(data, former, pairs_read)
end
