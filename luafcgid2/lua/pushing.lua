-- Sends one piece of an answer that leaves in pieces.
-- In: what a script calls, and bytes.  Out: nothing, or a Lua error in the script; `check` makes one of what a host
-- function says.  Only streaming.lua uses it.

local import, host = ...
local collectgarbage, pcall, fail = collectgarbage, pcall, import("blame")
-- Bytes sent until they are collected: a collector whose pace fits small pages lets large pieces pile up.
local GARBAGE, garbage = 1048576, 0

local pushing = {}

-- nil; or what is wrong; or nil and a fault of ours.
function pushing.check(name, problem, fault)
  if problem or fault then fail(name .. ": " .. (problem or fault)) end
end

function pushing.push(name, data)
  if data ~= "" then pushing.check(name, host.stream_push(data)) end
  garbage = garbage + #data
  if garbage > GARBAGE then
    pcall(collectgarbage)
    -- The more the script keeps, the rarer this is.
    garbage = -collectgarbage("count") * 1024
  end
end

return pushing
