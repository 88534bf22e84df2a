-- ErrorScript = "/etc/luafcgid2/error.lua": the page of each request that failed.

local WORDS = { ["404"] = "There is no such page. It may have moved.", ["413"] = "That was too much at once." }

function main(env)
  local status = env.ERROR_STATUS
  Send("<h1>" .. Response[tonumber(status)] .. "</h1>\n")
  Send("<p>" .. (WORDS[status] or "Something is wrong with us. It is in our log.") .. "</p>\n")
  -- With ShowErrors only: for you, not for the public.
  if env.ERROR_MESSAGE then Send("<pre>" .. lf.escape(env.ERROR_MESSAGE) .. "</pre>\n") end
end
