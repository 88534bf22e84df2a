-- A page that is dear to make, made once in a while and served from Shared by all workers.

local page = require("lib.page")

local KEY, SECONDS = "primes page", 15
local BELOW = 300000

local function count_primes(limit)
  local composite, count = {}, 0
  for number = 2, limit - 1 do
    if not composite[number] then
      count = count + 1
      for multiple = number * number, limit - 1, number do composite[multiple] = true end
    end
  end
  return count
end

local function make()
  local start = os.clock()
  local count = count_primes(BELOW)
  return {
    text = ("<p>There are %d primes below %d.</p>"):format(count, BELOW),
    seconds = os.clock() - start,
  }
end

function main()
  local start = os.clock()
  local made = Shared.Get(KEY)
  local fresh = not made
  if fresh then
    made = make()
    Shared.Set(KEY, made, SECONDS)
  end
  local spent = ("%.1f ms"):format((os.clock() - start) * 1000)
  page.send("A cache", {
    made.text,
    page.rows({
      { "making it took", ("%.1f ms"):format(made.seconds * 1000) },
      { "this request", fresh and spent .. ": it made the page" or spent .. ": it found the page" },
      { "good for another", ("%d s"):format(math.ceil(Shared.Ttl(KEY) or 0)) },
    }),
    '<p><a class="button" href="' .. page.url("cache.lua") .. '">Again</a></p>',
  })
end
