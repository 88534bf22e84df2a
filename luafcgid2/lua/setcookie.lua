-- lf.cookie: one Set-Cookie header (RFC 6265, section 4.1, and the draft that follows it).
-- In: name, value, options of a script.  Out: the header line.  What a browser would drop, and what would be another
-- header or another attribute, is an error.

local import = ...
local response, text_of, dates = import("response"), import("headers").text, import("dates")
local error, pairs, tostring, type = error, pairs, tostring, type
local concat, find, format, gsub, lower, sub = table.concat, string.find, string.format, string.gsub, string.lower,
  string.sub

local NAME = "^[!#$%%&'*+%-.^_`|~0-9A-Za-z]+$"
local NOT_IN_VALUE = '[%c ",;\\\128-\255]'
local SITES = { strict = "Strict", lax = "Lax", none = "None" }

local function fail(name, what)
  error(format("lf.cookie: %q: %s", name, what), 4)
end

-- Each takes an option that is not false, and gives the attribute.
local attributes = {}

function attributes.path(name, value)
  if type(value) ~= "string" or not find(value, "^/") or find(value, "[%c;]") then
    fail(name, "Path begins with / and has no ; in it")
  end
  return "Path=" .. value
end

function attributes.domain(name, value)
  if type(value) ~= "string" or not find(value, "^%.?[%w-][%w.-]*$") then fail(name, "Domain is a host name") end
  return "Domain=" .. value
end

function attributes.maxage(name, value)
  if type(value) ~= "number" or value % 1 ~= 0 then fail(name, "Max-Age is a whole number of seconds") end
  return format("Max-Age=%.0f", value)
end

-- A time as os.time() gives it.
function attributes.expires(name, value)
  local date = dates.text(value)
  if not date then fail(name, "Expires is a time, as os.time() gives it") end
  return "Expires=" .. date
end

function attributes.samesite(name, value)
  local site = SITES[lower(tostring(value))]
  if not site then fail(name, "SameSite is Strict, Lax or None") end
  return "SameSite=" .. site
end

function attributes.secure() return "Secure" end
function attributes.httponly() return "HttpOnly" end
function attributes.partitioned() return "Partitioned" end

local ORDER = { "path", "domain", "maxage", "expires", "secure", "httponly", "samesite", "partitioned" }

-- Max-Age, max_age and MaxAge are the same.
local function options_of(name, given)
  local options = { path = "/", httponly = true, samesite = "Lax" }
  if given ~= nil and type(given) ~= "table" then fail(name, "the options are a table") end
  for key, value in pairs(given or {}) do
    local known = gsub(lower(tostring(key)), "[-_]", "")
    if not attributes[known] then fail(name, "there is no option " .. tostring(key)) end
    options[known] = value
  end
  return options
end

-- Browsers drop a cookie that breaks one of these.
local function check(name, options)
  local same = options.samesite and lower(tostring(options.samesite))
  local prefix = lower(sub(name, 1, 7)) == "__host-" and "__Host-"
    or lower(sub(name, 1, 9)) == "__secure-" and "__Secure-"
  if options.secure then
    if prefix ~= "__Host-" or options.path == "/" and not options.domain then return end
    fail(name, "__Host- needs Path=/ and no Domain")
  end
  if prefix then fail(name, prefix .. " needs Secure") end
  if same == "none" then fail(name, "SameSite=None needs Secure") end
  if options.partitioned then fail(name, "Partitioned needs Secure") end
end

local function line(name, value, given)
  if not find(name, NAME) then fail(name, "this is no name of a cookie") end
  local options = options_of(name, given)
  if value == nil then
    value, options.maxage, options.expires = "", 0, 0
  end
  value = text_of(value, "lf.cookie", 2)
  if find(value, NOT_IN_VALUE) then fail(name, "the value has bytes that a cookie must not have: use lf.urlencode") end
  check(name, options)
  local parts = { name .. "=" .. value }
  for index = 1, #ORDER do
    local option = options[ORDER[index]]
    if option then parts[#parts + 1] = attributes[ORDER[index]](name, option) end
  end
  return concat(parts, "; ")
end

-- Without a value the cookie is deleted: give the Path and Domain that it was set with.  Unless told otherwise it is
-- for the whole site (Path=/), and HttpOnly and SameSite=Lax; `false` leaves an attribute out.
local function cookie(name, value, options)
  local made = line(text_of(name, "lf.cookie", 1), value, options)
  response.header("Set-Cookie", made)
end

return { cookie = cookie }
