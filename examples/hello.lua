-- The smallest script: one function, called for each request.

function main()
  RespContentType("text/plain; charset=utf-8")
  Send("Hello, world!\n")
end
