-- All 30 variables of the request are read.
local NAMES = {
  "QUERY_STRING", "REQUEST_METHOD", "CONTENT_TYPE", "CONTENT_LENGTH", "SCRIPT_NAME", "REQUEST_URI",
  "DOCUMENT_URI", "DOCUMENT_ROOT", "SERVER_PROTOCOL", "REQUEST_SCHEME", "GATEWAY_INTERFACE", "SERVER_SOFTWARE",
  "REMOTE_ADDR", "REMOTE_PORT", "SERVER_ADDR", "SERVER_PORT", "SERVER_NAME", "REDIRECT_STATUS",
  "SCRIPT_FILENAME", "HTTP_HOST", "HTTP_USER_AGENT", "HTTP_ACCEPT", "HTTP_ACCEPT_LANGUAGE",
  "HTTP_ACCEPT_ENCODING", "HTTP_COOKIE", "HTTP_REFERER", "HTTP_CACHE_CONTROL", "HTTP_UPGRADE_INSECURE_REQUESTS",
  "HTTP_DNT", "HTTP_X_FORWARDED_FOR",
}

local function run(env)
  local bytes = 0
  for _, name in ipairs(NAMES) do
    bytes = bytes + #(env[name] or "")
  end
  return 200, { ["Content-Type"] = "text/html" }, coroutine.wrap(function()
    coroutine.yield(#NAMES .. " variables, " .. bytes .. " bytes")
  end)
end

return run
