-- Loaded by wrk.  Its argument is a Lua file that returns what to ask for: `method`, `headers`, the path of a file with
-- the `body`, and `cookies` and `paths` that are taken in turn, any of which may be absent.
-- Prints the summary as one line of JSON, times in milliseconds.
local requests, turn = {}, 0

local function content(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

function init(arguments)
  local ask = dofile(arguments[1])
  local body = ask.body and content(ask.body)
  local cookies, paths = ask.cookies or {}, ask.paths or {}
  for index = 1, math.max(1, #cookies, #paths) do
    local headers = { Host = wrk.headers.Host, Cookie = cookies[index] }
    for name, value in pairs(ask.headers or {}) do
      headers[name] = value
    end
    requests[index] = wrk.format(ask.method, paths[index], headers, body)
  end
  function request()
    turn = turn % #requests + 1
    return requests[turn]
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f, "p999": %.3f, "failures": %d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
