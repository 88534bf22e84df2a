-- The standard library as it came, before a script could change it, in little space: without its names.
-- In: nothing.  Out: a list, in the order in which surroundings.lua takes it.  Only runtime.py uses it.

local coroutine, debug, io, math, os, string, table = coroutine, debug, io, math, os, string, table
return {
  _G, _VERSION, assert, collectgarbage, dofile, error, getmetatable, ipairs, jit, load, loadfile, loadstring,
  newproxy, next, package, pairs, pcall, rawequal, rawget, rawset, select, setmetatable, tonumber, tostring, type,
  xpcall,
  coroutine.close, coroutine.create, coroutine.resume, coroutine.running, coroutine.status, coroutine.wrap,
  debug.getinfo, debug.getmetatable, debug.getregistry, debug.sethook, debug.setmetatable, debug.traceback,
  io.close, io.open, io.output, io.popen, io.stdout,
  math.floor, math.huge, math.max, math.min, math.mininteger, math.type,
  os.date, os.execute, os.setlocale, os.time, os.tmpname,
  string.byte, string.char, string.find, string.format, string.gmatch, string.gsub, string.lower, string.match,
  string.rep, string.sub,
  table.concat, table.sort, table.unpack or unpack,
}
