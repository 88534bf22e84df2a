-- What becomes of a failed script: a message and a traceback for the log, or what the client gets instead.
-- In: the error value and the traceback, if there was memory for one.  Out: what guard.call gives.  Loaded with the
-- first failure.

local import, host = ...
local EXIT = import("guard").EXIT
local gsub, match, pcall, rawequal, tostring, type = string.gsub, string.match, pcall, rawequal, tostring, type

local now = host.now

local failures = {}

function failures.describe(value)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "nil" then return "nil (error called without a message)" end
  local ok, text = pcall(tostring, value)
  if not ok or type(text) ~= "string" then text = "(error object is a " .. kind .. " value)" end
  return text
end

-- Lines of the prelude tell a script's author nothing: those below the script's own, which begin with xpcall's,
-- those of API functions, and what later.lua handed over to.
local function own_frames(text)
  text = gsub(match(text, "^(.*)\n\t%[C%]: in ") or text, "\n\t%(tail call%): %?$", "")
  text = gsub(gsub(text, "\n\t%[luafcgid2 [^\n]*", "\n\t?:"), "\n\t%?:[^\n]*", "\n\t?:")
  text = gsub(gsub(text, "\n\t%?:\n\t%(%.%.%.tail calls%.%.%.%)", ""), "\n\t%?:\n\t%(tail call%): %?", "")
  return (gsub(text, "\n\t%?:", ""))
end

function failures.outcome(value, text)
  if not rawequal(value, EXIT) then
    return false, failures.describe(value), text and own_frames(text) or ""
  end
  local refusal = EXIT.refusal
  if not refusal then return true, EXIT end
  EXIT.refusal = nil
  return false, refusal.message, refusal.status
end

-- What the prelude wants done when the request is over.
function failures.finish()
  local work = now.at_end
  now.at_end = nil
  pcall(work)
end

return failures
