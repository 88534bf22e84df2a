-- A page of 64 KB in 2,000 pieces.
function main(env, con)
  for row = 1, 2000 do
    Send(string.format("<li>row number %012d</li>\n", row))
  end
end
