-- Finds what two requests in a row have in common, so that params.lua need not cut it out of every request.
-- In: the PARAMS bytes of a request, and two lists { name, value, position, name, ... }: its pairs and those of the
-- request before.  Out: a list of at most 16 runs { bytes, name 1, value 1, name 2, ... } in
-- their order.
--
-- Most of what a web server sends is the same every time.  Where a request has the bytes of a run between two
-- pairs, the names and values are those of the run: equal bytes decode to equal pairs, nothing is guessed.

local sub = string.sub
-- A run pays from so many pairs on.
local SHORTEST = 3
-- Each costs a search through requests that lack it, and who sends thousands of headers would make thousands.
local MOST = 16

return function(data, former, pairs_read)
  local found, at = {}, 1
  local count = #pairs_read
  while at <= count and #found < MOST do
    local stop = at
    while stop <= count and former[stop] == pairs_read[stop] and former[stop + 1] == pairs_read[stop + 1] do
      stop = stop + 3
    end
    if stop - at >= 3 * SHORTEST then
      local run = { sub(data, pairs_read[at + 2], (pairs_read[stop + 2] or #data + 1) - 1) }
      for index = at, stop - 3, 3 do
        run[#run + 1], run[#run + 2] = pairs_read[index], pairs_read[index + 1]
      end
      found[#found + 1] = run
    end
    at = stop > at and stop or at + 3
  end
  return found
end
