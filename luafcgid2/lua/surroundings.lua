-- What the modules of the prelude that are loaded late see as globals: the standard library as it came.
-- In: the list of plain.lua.  Out: a table.  What a module needs must be named in both files.  Only boot.lua uses it.

local plain = ...
return {
  _G = plain[1], _VERSION = plain[2], assert = plain[3], collectgarbage = plain[4], dofile = plain[5],
  error = plain[6], getmetatable = plain[7], ipairs = plain[8], jit = plain[9], load = plain[10],
  loadfile = plain[11], loadstring = plain[12], newproxy = plain[13], next = plain[14], package = plain[15],
  pairs = plain[16], pcall = plain[17], rawequal = plain[18], rawget = plain[19], rawset = plain[20],
  select = plain[21], setmetatable = plain[22], tonumber = plain[23], tostring = plain[24], type = plain[25],
  xpcall = plain[26],
  coroutine = {
    close = plain[27], create = plain[28], resume = plain[29], running = plain[30], status = plain[31],
    wrap = plain[32],
  },
  debug = {
    getinfo = plain[33], getmetatable = plain[34], getregistry = plain[35], sethook = plain[36],
    setmetatable = plain[37], traceback = plain[38],
  },
  io = {
    close = plain[39], open = plain[40], output = plain[41], popen = plain[42], stdout = plain[43],
  },
  math = {
    floor = plain[44], huge = plain[45], max = plain[46], min = plain[47], mininteger = plain[48], type = plain[49],
  },
  os = {
    date = plain[50], execute = plain[51], setlocale = plain[52], time = plain[53], tmpname = plain[54],
  },
  string = {
    byte = plain[55], char = plain[56], find = plain[57], format = plain[58], gmatch = plain[59], gsub = plain[60],
    lower = plain[61], match = plain[62], rep = plain[63], sub = plain[64],
  },
  table = {
    concat = plain[65], sort = plain[66], unpack = plain[67],
  },
}
