-- Dates of HTTP (RFC 9110, section 5.6.7).
-- In: seconds since 1970, or text of a client.  Out: the other.

local date, floor = os.date, math.floor
local find, lower, match = string.find, string.lower, string.match
local tonumber, type = tonumber, type

local MONTHS = "janfebmaraprmayjunjulaugsepoctnovdec"
-- The last second of the year 9999.
local LAST = 253402300799
-- The three forms; IMF-fixdate is the one that is in use.
local FORMS = {
  { "^%a%a%a, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$" },
  { "^%a+, (%d%d)-(%a%a%a)-(%d%d) (%d%d):(%d%d):(%d%d) GMT$" },
  { "^%a%a%a (%a%a%a) ([ %d]%d) (%d%d):(%d%d):(%d%d) (%d%d%d%d)$", asctime = true },
}

local dates = {}

-- "Sun, 06 Nov 1994 08:49:37 GMT"; nil for what is no time.  The locale is C: scripts cannot change it.
function dates.text(time)
  if type(time) ~= "number" or not (time >= 0 and time <= LAST) then return nil end
  return date("!%a, %d %b %Y %H:%M:%S GMT", floor(time))
end

-- Days from 1970-01-01, in the Gregorian calendar; the year begins with March.
local function days(year, month, day)
  if month < 3 then year, month = year - 1, month + 12 end
  return 365 * year + floor(year / 4) - floor(year / 100) + floor(year / 400) + floor((153 * (month - 3) + 2) / 5)
    + day - 719469
end

-- Seconds since 1970; nil for what is no date.
function dates.time(text)
  for index = 1, #FORMS do
    local form = FORMS[index]
    local day, month, year, hour, minute, second = match(text, form[1])
    if form.asctime and day then day, month, hour, minute, second, year = month, day, year, hour, minute, second end
    local at = day and find(MONTHS, lower(month), 1, true)
    if at and at % 3 == 1 then
      year = tonumber(year)
      -- Two digits: the century that is not over 50 years ahead.
      if year < 100 then
        local now = tonumber(date("!%Y"))
        year = year + now - now % 100
        if year > now + 50 then year = year - 100 end
      end
      return days(year, (at + 2) / 3, tonumber(day)) * 86400 + hour * 3600 + minute * 60 + second
    end
  end
  return nil
end

return dates
