-- Loaded by wrk: its arguments are session cookies, which the requests send in turn, none if there are none.
-- Prints the summary as one line of JSON, times in milliseconds.
local requests, turn = {}, 0

function init(arguments)
  for index, cookie in ipairs(arguments) do
    requests[index] = wrk.format(nil, nil, { Host = wrk.headers.Host, Cookie = cookie })
  end
  if #requests > 0 then
    request = function()
      turn = turn % #requests + 1
      return requests[turn]
    end
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f, "failures": %d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
