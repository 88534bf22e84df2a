-- A blog in the style of public WSAPI applications: lua-wsapi's request and response, SQLite through LuaSQL.

local request, response, util = require("wsapi.request"), require("wsapi.response"), require("wsapi.util")
local sqlite = require("luasql.sqlite3")

local connection

local function database(env)
  if not connection then
    connection = assert(sqlite.sqlite3():connect(env.APP_PATH .. "/data/blog.db"))
    assert(connection:execute("PRAGMA busy_timeout = 10000")):close()
    assert(connection:execute("CREATE TABLE IF NOT EXISTS posts (id INTEGER PRIMARY KEY, title TEXT, text TEXT)"))
  end
  return connection
end

local function rows(db, query)
  local cursor = assert(db:execute(query))
  return function()
    local row = cursor:fetch({}, "a")
    if not row then cursor:close() end
    return row
  end
end

local actions = {}

actions["GET/"] = function(env, req, res)
  res:write("<h1>Blog of ", util.sanitize(req.cookies.author or "nobody"), "</h1>\n")
  for post in rows(database(env), "SELECT * FROM posts ORDER BY id") do
    res:write({ "<h2><a href='", req:link("/post", { id = post.id }), "'>", util.sanitize(post.title), "</a></h2>\n" })
  end
end

actions["GET/post"] = function(env, req, res)
  local id = math.floor(tonumber(req.GET.id) or 0)
  local post = rows(database(env), ("SELECT * FROM posts WHERE id = %d"):format(id))()
  if not post then
    res.status = 404
    return res:write("no such post")
  end
  res:write("<h1>", util.sanitize(post.title), "</h1><p>", util.sanitize(post.text), "</p>")
end

actions["POST/post"] = function(env, req, res)
  local db = database(env)
  assert(db:execute(("INSERT INTO posts (title, text) VALUES ('%s', '%s')"):format(
    db:escape(req.POST.title), db:escape(req.POST.text))))
  res:set_cookie("author", { value = req.POST.author, path = "/" })
  res:set_cookie("last", "post")
  res:redirect(req:link("/"))
end

actions["POST/upload"] = function(env, req, res)
  local file = req.POST.file
  env.error:write("upload of " .. file.name .. "\n")
  res:content_type("text/plain")
  res:write(file.name, " ", file["content-type"], " ", #file.contents)
end

return { run = function(env)
  local req, res = request.new(env), response.new()
  local action = actions[env.REQUEST_METHOD .. env.PATH_INFO]
  if action then
    action(env, req, res)
  else
    res.status = "404 Not Found"
  end
  return res:finish()
end }
