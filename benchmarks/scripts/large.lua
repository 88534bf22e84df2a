-- One megabyte in one piece: what the server does with a large body.
local BODY = string.rep("0123456789abcdef", 65536)

function main(env, con)
  Send(BODY)
end
