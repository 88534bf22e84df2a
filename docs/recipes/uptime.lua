-- Asks a program.  On a Raspberry Pi, "vcgencmd measure_temp" tells how warm it is.

local function output(command)
  local pipe = assert(io.popen(command, "r"))
  local text = pipe:read("*a")
  local ok, _, code = pipe:close()
  return ok and text or nil, code
end

-- For one argument of a shell's command, whatever is in it.
local function quoted(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

function main()
  RespContentType("text/plain; charset=utf-8")
  Send("kernel: " .. output("uname -sr"))
  Send("you said: " .. output("printf %s " .. quoted(lf.get("say") or "nothing")) .. "\n")
end
