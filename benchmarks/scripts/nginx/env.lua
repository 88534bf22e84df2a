-- 30 variables of the request, nginx's own where it would make those of CGI from them, are read.
local NAMES = {
  "query_string", "request_method", "content_type", "content_length", "uri", "request_uri", "uri",
  "document_root", "server_protocol", "scheme", "nginx_version", "nginx_version", "remote_addr", "remote_port",
  "server_addr", "server_port", "server_name", "status", "request_filename", "http_host", "http_user_agent",
  "http_accept", "http_accept_language", "http_accept_encoding", "http_cookie", "http_referer",
  "http_cache_control", "http_upgrade_insecure_requests", "http_dnt", "http_x_forwarded_for",
}

local bytes, var = 0, ngx.var
for _, name in ipairs(NAMES) do
  bytes = bytes + #(var[name] or "")
end
ngx.print(#NAMES .. " variables, " .. bytes .. " bytes")
