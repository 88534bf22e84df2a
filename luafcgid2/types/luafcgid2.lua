---@meta luafcgid2
-- What scripts see, for editors: lua-language-server (LuaLS) completes and explains it.  It is never run.
-- docs/_ext/annotations.py makes the API reference of it: a comment of one `--` that ends in `:` opens a section.

-- The request:

---The request's variables, by the names of CGI: `Env.REQUEST_METHOD`, `Env.QUERY_STRING`, `Env.HTTP_ACCEPT`. They come
---as the web server sends them; a variable that was not sent is nil.
---@class luafcgid2.Env
---@field REQUEST_METHOD string `GET`, `POST`, ...
---@field QUERY_STRING string what follows the `?`, as it came
---@field REQUEST_URI string path and query as the client wrote them
---@field SCRIPT_NAME string the part of the path that leads to the script
---@field SCRIPT_FILENAME string the script's file
---@field DOCUMENT_ROOT string the folder of the site
---@field PATH_INFO? string what follows the script's name
---@field CONTENT_TYPE? string of the body
---@field CONTENT_LENGTH? string of the body, in bytes
---@field REMOTE_ADDR string the client's address
---@field REMOTE_USER? string who has logged in with the web server
---@field SERVER_NAME string the name of the virtual host
---@field SERVER_PORT string
---@field SERVER_PROTOCOL string `HTTP/1.1`, ...
---@field FCGI_ROLE string `RESPONDER`; `AUTHORIZER` where the script is asked whether somebody may
---@field HTTPS? string `on` behind TLS
---@field HTTP_HOST? string the header `Host`; each header of the request has such a name
---@field HTTP_COOKIE? string the header `Cookie`; `Cookies` has it as a table
---@field HTTP_USER_AGENT? string
---@field HTTP_ACCEPT? string
---@field ERROR_STATUS? string in an `ErrorScript` only: the status of the request that failed
---@field ERROR_SCRIPT? string in an `ErrorScript` only: the script's file
---@field ERROR_MESSAGE? string in an `ErrorScript` only, with `ShowErrors`
---@field ERROR_TRACEBACK? string in an `ErrorScript` only, with `ShowErrors`
---@field [string] string? whatever else the web server sends

---@type luafcgid2.Env
Env = {}

---The request's cookies: name to value, as they came.
---@type { [string]: string }
Cookies = {}

---Who serves this request.
---@class luafcgid2.Info
---@field State integer the number of the Lua state in its worker
---@field Thread integer the number of the thread in its worker

---@type luafcgid2.Info
Info = {}

---A copy of the table `Config` of config.lua; an empty table if there is none.
---@type table
Config = {}

---`Config[Env.SERVER_NAME]`: what config.lua has for this virtual host.
---@type any
LocalConfig = nil

---The request's body: all that is left of it, or the next `n` bytes. `""` at its end. A body can be read once: by this,
---or by `lf.post`, `lf.form` or `lf.json`.
---@param n? number so many bytes
---@return string bytes
function Receive(n) end

-- The answer:

---Adds to the page. Numbers are taken as text; other types are an error.
---@param text string|number
function Send(text) end

---Adds a header; replaces one of `DefaultHeaders`. A line break in it is an error. A `Location` without a status makes
---the answer a 302.
---@param name string
---@param value string|number
function Header(name, value) end

---The status of the answer: `RespStatus(404)`, `RespStatus(Response[404])`.
---@param status integer|string
function RespStatus(status) end

---The content type, instead of `DefaultContentType`.
---@param content_type string
function RespContentType(content_type) end

---Forgets what was sent and the headers; status and content type stay.
function Reset() end

---Sends the head and what the page has so far; each further call sends what was added since. If the client has gone
---this is an error, which ends the script. After the first call headers and status can no longer be changed.
function Flush() end

---Answers with a file; after `Flush`, adds it to the page. The web server sends it where `SendFileHeader` says so, else the
---worker does, in pieces. A relative path begins at the script's folder. The content type comes from the file's name
---unless it was set.
---@param path string
---@return true? done nil if the file cannot be read
---@return string? message why not
function SendFile(path) end

---Status lines by their numbers: `Response[404]` is `"404 Not Found"`.
---@type { [integer]: string }
Response = {}

-- Log and surroundings:

---A line in the log, with the script's name. `print` does the same with any values.
---@param text string|number
function Log(text) end

---The folder of the script.
---@return string path
function Dir() end

---How many Lua states this worker has of each script.
---@return { [string]: integer } states path to number
function ThreadData() end

---True here and in the C luafcgid.
---@type boolean
LUAFCGID = true

---The version of the API.
---@type integer
LUAFCGID_VERSION = 2

-- Forms, cookies and texts:

---Helpers. Most of them are loaded when a script first asks for them. `require "luafcgid"` gives the same table.
---@class luafcgid2.lf
lf = {}

---The query string as a table. A repeated name has the list of its values.
---With a name: its first value.
---@param name string
---@return string? value
---@overload fun(): { [string]: string|string[] }
function lf.get(name) end

---A posted form without files as a table, like `lf.get`. The body is read into memory, `FormMemory` at most.
---@param name string
---@return string? value
---@overload fun(): { [string]: string|string[] }
function lf.post(name) end

---The body as JSON, whatever its content type says. Broken JSON ends the request with a 400.
---@param options? { null: any } what stands for `null`, nil unless given: `lf.json { null = false }`
---@return any value
function lf.json(options) end

---A file of a form. It lies in `TempDir` until the request ends.
---@class luafcgid2.File
---@field name string the name of the form's field
---@field filename string what the client calls the file, without folders; never make it a path
---@field type string the content type that the client gives
---@field size integer in bytes
---@field path string where it lies
local File = {}

---Moves the file, across file systems, too; what is there is replaced in one step. A relative path begins at the
---script's folder. It is an error if it cannot be written.
---@param path string
---@return true
function File:save(path) end

---@class luafcgid2.Form
---@field fields { [string]: string|string[] } like `lf.post()`
---@field files { [integer]: luafcgid2.File, [string]: luafcgid2.File } in their order, and the first of each name

---A form with its files, which are streamed to `TempDir`. Too much of it ends the request with a 413.
---@return luafcgid2.Form form
function lf.form() end

---@class luafcgid2.CookieOptions
---@field path? string|false `/` unless given
---@field domain? string
---@field max_age? integer seconds
---@field expires? number a time, as `os.time()` gives it
---@field secure? boolean over https only
---@field httponly? boolean hidden from JavaScript: true unless given
---@field samesite? "Strict"|"Lax"|"None"|false `Lax` unless given
---@field partitioned? boolean

---Sets a cookie; without a value it deletes it. What a browser would drop is an error.
---@param name string
---@param value? string|number bytes that no cookie may have go through `lf.urlencode`
---@param options? luafcgid2.CookieOptions
function lf.cookie(name, value, options) end

---Sends the browser elsewhere. The body is forgotten; the script goes on.
---@param url string
---@param status? 301|302|303|307|308 unless given 302, after a POST 303
function lf.redirect(url, status) end

---Text that is safe in HTML, between tags and in quoted attributes.
---@param text string|number
---@return string html
function lf.escape(text) end

---Which of these content types the client likes best, by its `Accept`. Send `Vary: Accept` with it.
---@param content_type string
---@param ... string
---@return string? best nil if it takes none of them
function lf.accepts(content_type, ...) end

---Sets `ETag` and `Last-Modified`, and answers 304 for who has the page already, or 412 for an `If-Match` that fails.
---@param tag? string|number names this version of the page
---@param time? number when it changed, as `os.time()` gives it
---@return boolean done true: the answer is made, the script has nothing to send
function lf.conditional(tag, time) end

---A query string or form as a table; a repeated name has the list of its values.
---@param text? string
---@return { [string]: string|string[] } values
function lf.parse(text) end

---Name and value of `name=value`, decoded.
---@param pair? string
---@return string? name
---@return string? value
function lf.parse_pair(pair) end

---Text as forms and query strings have it: a space is `+`.
---@param text? string|number
---@return string? coded nil for nil
function lf.urlencode(text) end

---The opposite of `lf.urlencode`.
---@param text? string|number
---@return string? text nil for nil
function lf.urldecode(text) end

---A Lua value as text that `load("return " .. text)` reads. Functions become nil. A table within itself is an error.
---@param value any
---@return string source
function lf.serialize(value) end

-- Sessions:

---@alias luafcgid2.Value boolean|number|string|table

---Variables of one visitor. All workers see them, and they survive a restart.
---@class luafcgid2.Session
Session = {}

---Stores a variable. nil deletes it.
---@param realm string a name for what belongs together
---@param key string
---@param value luafcgid2.Value?
---@return boolean done false if such a value cannot be stored
---@return string? message why not
function Session.SetVar(realm, key, value) end

---A variable, or nil.
---@param realm string
---@param key string
---@return any value
function Session.GetVar(realm, key) end

---All variables of a realm; an empty table if there are none.
---@param realm string `"*"`: of all realms, a table of tables
---@return table values
function Session.GetAll(realm) end

---Whether the session has such a realm.
---@param realm string
---@return boolean
function Session.HasRealm(realm) end

---Forgets a realm.
---@param realm string
function Session.Clear(realm) end

---Begins a session, as the first `SetVar` does by itself.
---@return true
function Session.Start() end

---Forgets the session, and deletes its cookie.
function Session.Delete() end

---The key of the session, or nil.
---@return string? key
function Session.Id() end

---A new key for the same session. Call it when somebody logs in: it makes planted cookies worthless.
---@return string? key nil without a session
function Session.Regenerate() end

-- What all workers share:

---A dictionary for all workers and visitors. A call takes effect at once.
---@class luafcgid2.Shared
Shared = {}

---A value, or nil.
---@param key string|number
---@return any value
function Shared.Get(key) end

---Stores a value; nil deletes.
---@param key string|number
---@param value luafcgid2.Value?
---@param ttl? number seconds; for ever unless given
---@return true
function Shared.Set(key, value, ttl) end

---Stores a value if there is none.
---@param key string|number
---@param value luafcgid2.Value
---@param ttl? number seconds
---@return boolean done
---@return "exists"? why false if there was one
function Shared.Add(key, value, ttl) end

---Adds to a number. No count is lost, however many ask at once.
---@param key string|number
---@param by? number 1 unless given
---@param init? number where it starts if there is none
---@param ttl? number seconds, for a new one
---@return number? sum
---@return "not found"? why nil if there is none, and no `init`
function Shared.Incr(key, by, init, ttl) end

---@param key string|number
---@return boolean existed
function Shared.Delete(key) end

---The keys that begin with a prefix.
---@param prefix? string
---@param max? integer 1,024 unless given; 0: all
---@return string[] keys
function Shared.Keys(prefix, max) end

---Seconds that an entry has left, 0 for ever.
---@param key string|number
---@return number? seconds
---@return "not found"? why
function Shared.Ttl(key) end

-- The connection:

---The second argument of the entry point, as scripts of the C luafcgid use it: `function main(env, con)`.
---@class luafcgid2.Connection
local con = {}

---As `Header`.
---@param name string
---@param value string|number
function con:header(name, value) end

---As `Send`.
---@param value string|number
function con:puts(value) end

---As `Receive()`.
---@return string body
function con:gets() end

---As `Flush`.
function con:flush() end

---Forgets what was sent; headers stay.
function con:reset() end

---As `Log`.
---@param message string|number
function con:log(message) end

---`Config[name]`.
---@param name string
---@return any value
function con:config(name) end
