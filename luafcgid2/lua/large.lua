-- What a script has sent where it is more than a small page: parts, which are never copied into one long string.
-- In: the pieces that response.lua has collected.  Out: the parts, at the end of the request or to streaming.lua.
-- Loaded when a response first grows so large.  Fresh megabytes for each answer would cost more than all else about it,
-- since the kernel has to clear them.

local import, host = ...
local response = import("response")
local concat, unpack = table.concat, table.unpack
local now, limit = host.now, host.settings.max_buffer
local take, reset_body, error = response.take, response.reset_body, error
-- Where the state's memory is limited: one string, sent again and again, takes none of it, but Python's.
local most = host.enter and host.settings.max_memory or 0
-- A piece of so many bytes is a part of its own.
local PIECE = 65536

local parts, count, size = {}, 0, 0

local large = {}

local function forget()
  parts, count, size, now.large = {}, 0, 0, nil
end

local function add(part)
  count, size = count + 1, size + #part
  parts[count] = part
end
large.add = add

-- The pieces become parts; small ones are joined.
local function fold(pieces, last)
  local from = 1
  for index = 1, last do
    if #pieces[index] >= PIECE then
      if index > from then add(concat(pieces, "", from, index - 1)) end
      add(pieces[index])
      from = index + 1
    end
  end
  if from <= last then add(concat(pieces, "", from, last)) end
end

-- So many bytes are collected that something should be done about it.
function large.full(pieces, pieces_count, pieces_size)
  if response.has_left() or (limit > 0 and size + pieces_size > limit) then
    if import("streaming").overflow() then return end
  end
  if most > 0 and size + pieces_size > most then error("not enough memory", 0) end
  fold(pieces, pieces_count)
  reset_body()
  -- The next request begins without the parts, and after this one the heap is looked at.
  now.large, now.limit = forget, -1
  response.touch()
end

function large.size() return size end

-- The parts, and how many they are; there are none then.
function large.take()
  local taken, taken_count = parts, count
  forget()
  return taken, taken_count
end

-- The results of the crossing: the head, false, the heap's KB, the parts.
function large.finish(head, kilobytes)
  local taken, taken_count = large.take()
  return head, false, kilobytes, unpack(taken, 1, taken_count)
end

function response.reset_body()
  if now.large then forget() end
  reset_body()
end

-- All in one string, for who needs that.
function response.take()
  if not now.large then return take() end
  add(take())
  local taken, taken_count = large.take()
  return concat(taken, "", 1, taken_count)
end

return large
