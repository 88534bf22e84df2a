-- Decodes the PARAMS stream (FastCGI 1.0, section 3.4) into a table.
-- In: a string.  Out: name -> value, or nil where the lengths point past the end; of a repeated name the last
-- one wins, but the lines of a repeated header are joined.  HTTP_PROXY is left out: a client could set it with a header `Proxy:` (httpoxy).

local byte, sub = string.byte, string.sub

-- A length of one byte or four, and the position behind it; nil at the end of the data.
local function length(data, at)
  local a, b, c, d = byte(data, at, at + 3)
  if not a or a < 128 then return a, at + 1 end
  if not d then return nil end
  return (a - 128) * 16777216 + b * 65536 + c * 256 + d, at + 4
end

local params = {}

function params.decode(data)
  local env = {}
  local at, size = 1, #data
  while at < size do
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
    local before = env[name]
    -- A header that the client sent twice comes as two pairs from nginx before 1.23 (RFC 9110, section 5.3).
    if before and sub(name, 1, 5) == "HTTP_" then
      value = before .. (name == "HTTP_COOKIE" and "; " or ", ") .. value
    end
    env[name] = value
    at = after
  end
  if at ~= size + 1 then return nil end
  env.FCGI_ROLE = "RESPONDER"
  env.HTTP_PROXY = nil
  return env
end

return params
