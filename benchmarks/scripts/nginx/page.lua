-- A page of 64 KB in 2,000 pieces.
for row = 1, 2000 do
  ngx.print(string.format("<li>row number %012d</li>\n", row))
end
