-- lf.get, lf.post and lf.json: what the client sent, as tables.
-- In: the request.  Out: tables, the same one for each call within a request.  What cannot be used ends the
-- request with 400 or 413.

local import, host = ...
local request, values, lf = import("request"), import("values"), import("lf")
local error, type, gsub, format = error, type, string.gsub, string.format

local inputs = {}

-- The table; or, for a name, its first value: text or nil, whatever a client repeats.
local function answer(found, name, key)
  if key == nil then return found end
  if type(key) ~= "string" then error(format("lf.%s: a name is a string, not a %s", name, type(key)), 3) end
  local value = found[key]
  if type(value) == "table" then return value[1] end
  return value
end

-- Fields of the query string: name -> value, or -> the list of its values.
function inputs.get(key)
  local env = request.env("get")
  local results = request.remember(env)
  if not results.get then results.get = lf.parse(env.QUERY_STRING) end
  return answer(results.get, "get", key)
end

local function parsed(name)
  local text = request.body(name, 5)
  local limit, _, count = host.settings.form_parts, gsub(text, "&", "")
  if limit > 0 and count >= limit then
    request.refuse(413, format("the form has over %d fields (FormMaxParts)", limit))
  end
  return lf.parse(text)
end

-- Fields of a form that was posted without files, as get; none if the body is something else.
function inputs.post(key)
  local env = request.env("post")
  local results = request.remember(env)
  if not results.post then
    results.post = request.kind(env) == "application/x-www-form-urlencoded" and parsed("post") or {}
  end
  return answer(results.post, "post", key)
end

-- The body, parsed as JSON whatever its content type says.  null is nil: no entry in a table; or options.null.
function inputs.json(options)
  local results = request.remember(request.env("json"))
  if results.json == nil then
    local null = options and options.null
    local null_bytes, problem = "", nil
    if null ~= nil then null_bytes, problem = values.encode(null) end
    if problem then error("lf.json: null: " .. problem, 2) end
    local bytes, message = host.json(request.body("json", 4), null_bytes)
    if type(bytes) == "number" then request.refuse(bytes, message) end
    if not bytes then error("lf.json: " .. message, 2) end
    -- In a table of its own, since it may be nil.
    results.json = {}
    if bytes ~= "" then results.json[1] = values.decode(bytes) end
  end
  return results.json[1]
end

return inputs
