-- What luacheck (make lint) takes for granted.  Globals are forbidden but for those named here.
std = "max"                     -- 5.1 to 5.4 and LuaJIT: LuaVersion chooses
max_line_length = 120
exclude_files = {"benchmarks/build", "luafcgid2/types"}

-- A script: the functions and tables of luafcgid2/lua/api.lua, and the entry point, which gets env and con.
local script = {
  globals = {"main"},
  read_globals = {
    "Config", "Cookies", "Dir", "Env", "Flush", "Header", "Info", "LocalConfig", "Log", "Receive", "Reset",
    "RespContentType", "RespStatus", "Response", "Send", "SendFile", "Session", "Shared", "ThreadData", "lf",
  },
  ignore = {"212/env", "212/con"},
}
files["examples"] = script
files["benchmarks/scripts"] = script
files["benchmarks/scripts/nginx"] = {globals = {"ngx"}}
-- One of them is a StartupScript, another one uses what that defines.
files["docs/recipes"] = {
  globals = {"main", "page", "BeforeRequest"}, read_globals = script.read_globals, ignore = script.ignore,
}
files["tests/integration/www"] = script

-- The prelude replaces library functions; con's methods have a self that most do not need.
files["luafcgid2/lua"] = {ignore = {"122/coroutine", "212/self"}}
-- A configuration is a program that sets globals.
files["etc"] = {allow_defined_top = true, ignore = {"131"}}
files["tests/fixtures/config"] = {allow_defined_top = true, ignore = {"131"}}
-- wrk calls these.
files["benchmarks/report.lua"] = {read_globals = {"wrk"}, globals = {"init", "request", "done"}}
