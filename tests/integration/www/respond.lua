-- Status, headers and cookies as the query asks for.
function main()
  local query = lf.parse(Env.QUERY_STRING)
  RespStatus(query.status or "200 OK")
  Header("X-First", "1")
  Header("Set-Cookie", "a=1; Path=/")
  Header("Set-Cookie", "b=2; Path=/")
  if query.location then Header("Location", query.location) end
  Send(query.body or "body")
end
