-- lf.escape and lf.redirect.
-- In: text of scripts.  Out: HTML text; status and Location of the response.

local import = ...
local request, response, text_of = import("request"), import("response"), import("headers").text
local byte, find, format, gsub = string.byte, string.find, string.format, string.gsub
local error, tostring = error, tostring

local ENTITIES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }
local STATUSES = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

local answers = {}

-- Text as it may stand in HTML, between tags and in quoted attributes.
function answers.escape(text)
  return (gsub(text_of(text, "lf.escape", 1), "[&<>\"']", ENTITIES))
end

local function coded(c)
  return format("%%%02X", byte(c))
end

-- To `url`, with 303 after a POST and the like (the browser asks with GET), else with 302.  The body is empty; the
-- script goes on.  Bytes that no URL has are percent-coded (RFC 3986, section 2); control characters are an error.
function answers.redirect(url, status)
  url = text_of(url, "lf.redirect", 1)
  if url == "" or find(url, "%c") then
    error(format("lf.redirect: %q is no URL", url), 2)
  end
  local method = request.env("redirect").REQUEST_METHOD
  status = status or (method == "GET" or method == "HEAD") and 302 or 303
  if not STATUSES[status] then
    error("lf.redirect: the status is 301, 302, 303, 307 or 308, not " .. tostring(status), 2)
  end
  response.reset_body()
  response.status(status)
  response.header("Location", (gsub(url, '[^!#$%%&\'()*+,/:;=?@%[%]%-._~A-Za-z0-9]', coded)))
end

return answers
