-- Where the work of a function is that later.lua stands for: name -> { module, name in it }; and of faces.lua's tables.
-- In: nothing.  Out: the table, which nobody keeps.

return {
  Header = { "head", "header" }, Reset = { "head", "reset" }, Flush = { "head", "flush" },
  RespStatus = { "head", "status" }, RespContentType = { "head", "content_type" },
  Log = { "api", "log" }, Receive = { "api", "receive" }, SendFile = { "api", "send_file" },
  ThreadData = { "api", "thread_data" }, Dir = { "api", "directory" },
  exit = { "exits", "exit" }, xpcall = { "exits", "xpcall" },
  print = { "systems", "print" }, execute = { "systems", "execute" }, setlocale = { "systems", "setlocale" },
  tmpname = { "systems", "tmpname" }, popen = { "popen", "popen" }, close = { "popen", "close" },
  resume = { "coroutines", "resume" }, wrap = { "coroutines", "wrap" }, close_coroutine = { "coroutines", "close" },
  loadfile = { "loader", "loadfile" }, dofile = { "loader", "dofile" }, searcher = { "loader", "searcher" },
  wsapi = { "loader", "found_application" },
  -- Tables: see faces.lua.
  lf = { "lf" }, Session = { "session" }, Shared = { "shared" }, Response = { "statuses" },
}
