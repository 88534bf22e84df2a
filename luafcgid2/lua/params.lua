-- Decodes the PARAMS stream (FastCGI 1.0, section 3.4) into a table.
-- In: a string whose lengths Python has already walked.  Out: name -> value; of a repeated name the last one
-- wins.  HTTP_PROXY is left out: a client could set it with a header `Proxy:` (httpoxy).

local byte, sub = string.byte, string.sub

local function long(data, at)
  local a, b, c, d = byte(data, at, at + 3)
  return (a - 128) * 16777216 + b * 65536 + c * 256 + d
end

local params = {}

function params.decode(data)
  local env = {}
  local at, size = 1, #data
  while at <= size do
    local name_length, value_length = byte(data, at, at + 1)
    if name_length < 128 and value_length < 128 then
      at = at + 2
    else
      if name_length < 128 then
        at = at + 1
      else
        name_length = long(data, at)
        at = at + 4
      end
      value_length = byte(data, at)
      if value_length < 128 then
        at = at + 1
      else
        value_length = long(data, at)
        at = at + 4
      end
    end
    local middle = at + name_length
    local after = middle + value_length
    env[sub(data, at, middle - 1)] = sub(data, middle, after - 1)
    at = after
  end
  env.FCGI_ROLE = "RESPONDER"
  env.HTTP_PROXY = nil
  return env
end

return params
