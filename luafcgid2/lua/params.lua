-- Decodes the PARAMS stream (FastCGI 1.0, section 3.4) into a table.
-- In: a string.  Out: name -> value, or nil where the lengths point past the end; of a repeated name the last one
-- wins, but the lines of a repeated header are joined.  HTTP_PROXY is left out: a client could set it with a header
-- `Proxy:` (httpoxy).
-- What is the same in request after request is not cut out again: see runs.lua.

local import = ...
local byte, sub, find = string.byte, string.sub, string.find
-- After so many requests that no stencil has fitted, it is looked anew for what they have in common; each time after
-- twice as many as before: where all differ, none will fit.
local FIRST_WAIT, LONGEST_WAIT = 8, 4096

-- A length of one byte or four, and the position behind it; nil at the end of the data.
local function length(data, at)
  local a, b, c, d = byte(data, at, at + 3)
  if not a or a < 128 then return a, at + 1 end
  if not d then return nil end
  return (a - 128) * 16777216 + b * 65536 + c * 256 + d, at + 4
end

-- A header that the client sent twice comes as two pairs from nginx before 1.23 (RFC 9110, section 5.3).
local function joined(name, before, value)
  if sub(name, 1, 5) ~= "HTTP_" then return value end
  return before .. (name == "HTTP_COOKIE" and "; " or ", ") .. value
end

local params = {}

local runs, stencil = {}, nil
local unfit, wait = FIRST_WAIT, FIRST_WAIT
-- While runs are looked for: the pairs of the request before, as they were read.
local former

-- Space for the pairs of a usual request at once: growing a table step by step costs more than filling it.
local function space()
  local env = { a = 1, a = 1, a = 1, a = 1, a = 1, a = 1, a = 1, a = 1, a = 1, a = 1, a = 1, a = 1, -- luacheck: ignore
    a = 1, a = 1, a = 1, a = 1, a = 1, a = 1, a = 1, a = 1, a = 1, a = 1, a = 1, a = 1, a = 1, -- luacheck: ignore
    a = 1, a = 1, a = 1, a = 1, a = 1 } -- luacheck: ignore
  env.a = nil
  return env
end

function params.decode(data)
  local env = stencil and stencil(data)
  if env then return env end
  unfit = unfit + 1
  local at, size, turn = 1, #data, 1
  -- From the next request on, whichever that is: it did not fit this one, which may be a rare one.
  if unfit == wait then stencil = nil end
  local learning = unfit > wait
  local note = learning and {} or nil
  local run = not learning and runs[1] or nil
  local there = run and find(data, run[1], 1, true)
  -- It makes the table, which can only be done first.
  if there and there > 1 and run[3] then there = nil end
  while at < size do
    while run and (not there or there < at) do
      -- Its bytes are not in this request, or in the middle of something.
      turn = turn + 1
      run = runs[turn]
      there = run and find(data, run[1], at, true)
    end
    env = env or not (there == at and run[3]) and space() or nil
    if there == at then
      env = run[2](env)
      at, turn = at + #run[1], turn + 1
      run = runs[turn]
      there = run and find(data, run[1], at, true)
    else
      local start = at
      local name_length, value_length = byte(data, at, at + 1)
      if name_length < 128 and value_length < 128 then
        at = at + 2
      else
        name_length, at = length(data, at)
        if not at then return nil end
        value_length, at = length(data, at)
        if not value_length then return nil end
      end
      local middle = at + name_length
      local after = middle + value_length
      local name, value = sub(data, at, middle - 1), sub(data, middle, after - 1)
      if note then note[#note + 1], note[#note + 2], note[#note + 3] = name, value, start end
      local before = env[name]
      env[name] = before and joined(name, before, value) or value
      at = after
    end
  end
  if at ~= size + 1 then return nil end
  if learning then
    if former then
      runs, stencil = import("runs", true)(data, former, note, joined)
      unfit, note = 0, nil
      if wait < LONGEST_WAIT then wait = 2 * wait end
    end
    former = note
  end
  env = env or {}
  env.FCGI_ROLE = "RESPONDER"
  -- Not assigned where it is absent: even nil would want a place, and the table might grow for it.
  if env.HTTP_PROXY then env.HTTP_PROXY = nil end
  return env
end

return params
