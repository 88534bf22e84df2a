-- ?call=Session.SetVar&a=realm&a=key&a=value: makes that call, answers with its first result.
-- An argument that looks like a number is one.

local CALLS = { Session = Session, Shared = Shared }

function main()
  local query = lf.parse(Env.QUERY_STRING)
  local arguments = type(query.a) == "table" and query.a or { query.a }
  for index, argument in ipairs(arguments) do arguments[index] = tonumber(argument) or argument end
  local object, method = query.call:match("^(%a+)%.(%a+)$")
  Send(tostring((CALLS[object][method](table.unpack(arguments)))))
end
