-- Configuration of luafcgid2.
-- This file is a Lua 5.3 program; what it leaves in these global variables counts.  Lines commented out
-- show the defaults, or an example where the default is empty.  To test it:  luafcgid2 -t config.lua
-- Made from the table of options by  python -m luafcgid2.reference sample

---- Processes

-- Worker processes; 0 is one for each core. Each runs WorkerThreads requests at a time. With a
-- ProcessManager other than static: at most so many.
Workers = 0

-- Threads in each worker process: this many of its requests can wait for a database or compute.
WorkerThreads = 4

-- batch: a worker lets the web server finish what it does before it takes the processor, which saves
-- both of them switches; where other programs compute without end its answers may take some
-- milliseconds longer. normal: as other programs. One of "batch", "normal".
-- Scheduling = "batch"

-- Serve usual requests by compiled code, where it was built when this was installed; false: all of
-- them by Python, which does the same and takes longer. With AccessLogPath all go by Python.
-- FastPath = true

-- How many workers there are: always Workers; as many as the load asks for, with some to spare; or
-- none until a request comes (a small machine with few visitors). One of "static", "dynamic",
-- "ondemand".
-- ProcessManager = "static"

-- dynamic: workers at the start; 0 is halfway between MinSpareWorkers and MaxSpareWorkers.
-- StartWorkers = 0

-- dynamic: when fewer workers than this have nothing to do, more are started.
-- MinSpareWorkers = 1

-- dynamic: when more workers than this have nothing to do, some leave at once.
-- MaxSpareWorkers = 3

-- dynamic, ondemand: a worker without a request for so long leaves; dynamic keeps MinSpareWorkers. In
-- seconds.
-- IdleTimeout = 10

-- A worker that has served about so many requests is replaced, its successor first; 0: never.
-- MaxRequests = 0

-- MaxRequests is raised by up to so much, differently for each worker, so that not all go at once.
-- MaxRequestsJitter = 0

-- A worker whose resident memory passes this, in bytes or as "96M", is replaced between requests; 0:
-- never. It begins at about 25M, most of it shared with the other workers.
-- MaxWorkerMemory = 0

-- Account that the workers run as when the master is started by root; empty: stay who we are.
-- User = "www-data"

-- Group that the workers run as; empty: the first group of User.
-- Group = "www-data"

-- File that holds the master's process id, locked while it runs; empty: none.
-- PidFile = "/var/tmp/luafcgid2.pid"

-- A graceful stop waits this long for requests under way before it kills. In seconds.
-- StopTimeout = 30

-- So many dead workers within RestartInterval, and the master waits before it starts the next.
-- RestartLimit = 10

-- The time over which RestartLimit counts dead workers. In seconds.
-- RestartInterval = 60

---- Listener

-- Where the web server reaches us: a socket path, ":9000", "127.0.0.1:9000", "[::1]:9000", "fd:0" for
-- an inherited descriptor, "systemd". The C++ luafcgid2 read only this spelling, though its sample
-- file wrote listen; both are read now.
Listen = "/var/tmp/luafcgid2.sock"

-- File mode of a unix socket, in octal: "0660", or the number 0660 or 660.
-- ListenMode = "0660"

-- Owner of a unix socket, set when the master is started by root; empty: User.
-- ListenOwner = "www-data"

-- Group of a unix socket: the web server's; empty: Group, or the first group of User.
-- ListenGroup = "www-data"

-- Connections that may wait to be accepted; 0 and -1 are the default.
-- ListenBacklog = 1024

-- Connections that one worker keeps open at most, idle ones of fastcgi_keep_conn included.
-- MaxConnections = 1024

-- A connection that the web server keeps is closed after so many requests; 0: never. A web server may
-- have sent the next one by then, and nginx does not repeat a POST.
-- MaxRequestsPerConnection = 0

-- Web servers that may connect when we listen on TCP; others are closed at once. Empty: all. As php-
-- fpm's listen.allowed_clients, with networks too; a unix socket has ListenMode instead.
-- AllowedClients = {"127.0.0.1", "192.0.2.0/24"}

-- A connection may take this long to send all parameters (headers) of a request, however they trickle,
-- or a new one to begin; 0: no limit. In seconds.
-- HeaderTimeout = 60

-- A connection whose unfinished request has not moved on by at least 1,024 bytes for so long is
-- closed: neither silence nor a trickle holds it; 0: no limit. In seconds.
-- ReadTimeout = 60

-- A connection may take this long to accept more of an answer; 0: no limit. No thread waits for it but
-- that of a script that sends in pieces. In seconds.
-- SendTimeout = 60

-- Once a script has sent more than this it leaves, as if the script had called Flush(), instead of
-- waiting in memory until the script returns; 0: all of it waits. In bytes.
-- MaxBufferSize = 8388608

-- The header by which SendFile() asks the web server to send the file: nginx's or lighttpd's; empty:
-- the worker sends it. One of "", "X-Accel-Redirect", "X-Sendfile".
-- SendFileHeader = "X-Accel-Redirect"

-- Which names the web server has for files of a folder: nginx needs it, with an internal location of
-- that name. Files elsewhere the worker sends itself.
-- SendFileMap = "/srv/files=/protected"

-- Answers that wait for slow readers take about so much memory of a worker; further ones go to
-- temporary files in TempDir. In bytes.
-- SendMemory = 16777216

---- Lua states

-- The Lua that runs the scripts. This file is always read by Lua 5.3. One of "5.1", "5.2", "5.3",
-- "5.4", "5.5", "jit".
-- LuaVersion = "5.3"

-- Lua states that a worker makes when a script is first asked for.
-- LuaStates = 3

-- Lua states of one script that a worker keeps at most; beyond it a state serves one request.
-- LuaMaxStates = 5

-- Lua states of all scripts that a worker keeps at most; the least recently used goes first.
-- LuaTotalStates = 64

-- Put before package.path, in its notation.
-- LuaPath = "/srv/lua/?.lua"

-- Put before package.cpath, in its notation.
-- LuaCPath = "/srv/lua/?.so"

-- Load C modules from the document root, as the C++ luafcgid2 did.
-- AllowLocalCModules = false

---- Scripts

-- The global function that is called for each request.
Entrypoint = "main"

-- The script whose function authorize answers requests of the FastCGI role Authorizer, as lighttpd's
-- authorizer mode sends them, for whatever file; empty: the script that SCRIPT_FILENAME names.
-- AuthorizerScript = "/etc/luafcgid2/authorizer.lua"

-- A Lua file that each new state runs before the script.
-- StartupScript = "/etc/luafcgid2/startup.lua"

-- A script is taken as unchanged for this long; 0: always look. SIGHUP makes all look at once. In
-- milliseconds.
-- MinFileInfoTime = 5000

-- Compare the content of a file whose time, size or inode changed before reloading it.
-- UseFileChecksum = true

-- When an edited script does not load: serve the last good version, or answer 500. One of "last-good",
-- "error".
-- OnReloadError = "last-good"

-- Scripts must lie below one of these; empty: below the request's DOCUMENT_ROOT.
-- ScriptRoots = {"/var/www"}

-- Names of scripts must end in one of these; {}: any name. Files that end in .op are Orbit's pages,
-- those in .lp CGILua's; anything else is Lua.
-- ScriptExtensions = {".lua"}

---- Requests

-- Largest request body: over it the answer is 413 and no script runs; 0: no limit. The C++ luafcgid2
-- read this key and never used it. In bytes.
-- MaxPostSize = 4194304

-- A larger request body goes to a temporary file in TempDir. In bytes.
-- BodyMemory = 1048576

-- Request bodies of more than 64 KB that are in memory take about so much of a worker; further ones go
-- to temporary files. In bytes.
-- ReceiveMemory = 16777216

-- Directory for such files and for those of forms; empty: the system's.
-- TempDir = "/var/tmp"

-- Largest file of a form that lf.form() reads: over it the answer is 413, as it is over the next
-- three; 0: any that MaxPostSize lets in. In bytes.
-- FormMaxFileSize = 0

-- Files of one form together; 0: as MaxPostSize lets in. They are written to TempDir, and removed
-- after the request unless the script saves them. In bytes.
-- FormMaxSize = 0

-- Fields and files of one form; 0: any number.
-- FormMaxParts = 1000

-- Fields of one form together, and the body that lf.post() or lf.json() reads, since they are kept in
-- memory; 0: no limit. In bytes.
-- FormMemory = 1048576

-- Largest sum of a request's FastCGI parameters (its headers): over it the answer is 431. In bytes.
-- MaxParamsSize = 262144

-- Most parameters of a request: over it the answer is 431.
-- MaxParams = 4096

---- Supervision

-- A script that runs longer gets a Lua error and its client a 504, and the worker lives; 0: no limit.
-- A web server waits 60 seconds unless it is told otherwise. Loops that LuaJIT has compiled cannot be
-- interrupted, see RequestTerminateTimeout; with jit.off() in StartupScript there are none. In
-- seconds.
-- RequestTimeout = 0

-- A script that runs longer and cannot be interrupted, as in a blocking C call, costs its worker: that
-- finishes its other requests and is killed; 0: RequestTimeout and 5 seconds, none without
-- RequestTimeout. In seconds.
-- RequestTerminateTimeout = 0

-- Memory of each Lua state: a script that wants more gets Lua's error "not enough memory" and its
-- client a 500, its state is closed, and the worker lives; empty: no limit. A script file may be as
-- large. Garbage counts until it is collected: allow twice what a script needs.
-- ScriptMaxMemory = "32M"

-- A script that times out, overruns its memory or brings a worker down so many times within
-- QuarantineInterval is answered 503 for a while, and the rest of the site lives; 0: never. Its file
-- is served again as soon as it is changed, and everything after a reload.
-- QuarantineStrikes = 3

-- The time over which QuarantineStrikes counts. In seconds.
-- QuarantineInterval = 60

-- How long the first quarantine lasts. Then one request is tried; when that does harm again, the next
-- one lasts twice as long. In seconds.
-- QuarantineTime = 10

-- The longest quarantine. In seconds.
-- QuarantineMaxTime = 3600

-- Memory of the master and all workers together; empty: no bound. From 80 % of it, or of what the
-- machine can still give, idle Lua states are closed; from 90 % the largest worker is replaced; from
-- 100 % new requests are answered 503 until it is below 90 % again.
-- MemoryBudget = "128M"

---- Responses

-- Status of an answer that does not set one.
-- DefaultHttpStatus = "200 OK"

-- Content-Type of an answer that does not set one.
-- DefaultContentType = "text/html"

-- Headers added to every answer, each line ended by \r\n.
-- DefaultHeaders = "X-Powered-By: luafcgid2\r\n"

-- Send X-ElapsedTime: the script's run time in milliseconds.
-- ElapsedTimeHeader = true

-- Show message, traceback and source lines on the 500 page. Not for the public.
-- ShowErrors = false

-- A Lua script that renders the page of a request that failed (403, 404, 413, 500...):
-- Env.ERROR_STATUS says how; with ShowErrors it has ERROR_MESSAGE and ERROR_TRACEBACK, too. Empty: a
-- built-in page.
-- ErrorScript = "/etc/luafcgid2/error.lua"

---- Sessions

-- Where sessions and Shared live, so that all workers have the same and a restart keeps them: a file,
-- "sqlite:///path", or a Redis or Valkey, which several machines can use:
-- "redis://:password@host:6379/0", "rediss://..." for TLS, "unix:///path/to/socket"; these take
-- ?timeout=2&prefix=luafcgid2, rediss also ca=, cert=, key= (PEM files) and verify=no.
-- SessionStore = "sqlite:///var/lib/luafcgid2/state.db"

-- Name of the session cookie.
-- SessionName = "XLuaSession"

-- A session unused for this long is forgotten. In seconds.
-- SessionTime = 3600

-- Length of a session key; below 16 it could be guessed. In characters.
-- SessionKeyLen = 24

-- Send the session cookie over https only; set false for a site on plain http.
-- SessionCookieSecure = true

-- Hide the session cookie from JavaScript.
-- SessionCookieHttpOnly = true

-- SameSite attribute of the session cookie; empty: none sent. One of "", "Strict", "Lax", "None".
-- SessionCookieSameSite = ""

-- Domain attribute of the session cookie; empty: none, so only this host gets it.
-- SessionCookieDomain = "example.org"

-- Points that a request must reach to use a session; 0 or less: no check.
-- SessionTargetScore = 3

-- Points for the same client address.
-- SessionIpScore = 3

-- Points for the same User-Agent.
-- SessionUserAgentScore = 2

-- Points for the same Accept-Language.
-- SessionLanguageScore = 1

-- A session that was reached takes on the visitor's present address, browser and language; false:
-- those it began with count for ever.
-- SessionFollowIdentity = true

---- Shared

-- Keys and values of Shared together, in SessionStore; beyond it what was not used for longest goes. A
-- Redis is bounded by its own maxmemory and maxmemory-policy instead. In bytes.
-- SharedMaxBytes = 8388608

---- Log

-- The log; SIGUSR1 opens it anew. "syslog": the system's log. Empty or "stderr": standard error, for
-- systemd's journal with the priority that it knows.
LogFilePath = "/var/log/luafcgid2/luafcgid2.log"

-- The least level that is logged. One of "debug", "info", "warning", "error", "critical".
-- LogLevel = "info"

-- text: time, pid, level, message; json: the same as one object a line, with a script's name, a URI
-- and seconds in fields of their own. One of "text", "json".
-- LogFormat = "text"

-- The facility of events in syslog. One of "daemon", "user", "local0", "local1", "local2", "local3",
-- "local4", "local5", "local6", "local7".
-- SyslogFacility = "daemon"

-- The socket of syslog.
-- SyslogSocket = "/dev/log"

-- A request that runs for so long is logged, once, with script, URI, seconds and the Lua traceback of
-- that moment; 0: none is. In seconds.
-- SlowLogTime = 0

-- The file of such entries; empty: the log.
-- SlowLogPath = "/var/log/luafcgid2/slow.log"

-- So many of the last requests whose script failed are kept in memory, up to 32 KB each, for
-- `luafcgid2ctl failed` and `replay`; cookies and credentials are masked, bodies are not. 0: none.
-- KeepFailedRequests = 20

-- The access log: a line for each request, written in batches; SIGUSR1 opens it anew. Empty: none.
-- AccessLogPath = "/var/log/luafcgid2/access.log"

-- text: the common log format, then milliseconds, milliseconds of CPU and KB of the Lua state; json:
-- one object a line. One of "text", "json".
-- AccessLogFormat = "text"

---- Status

-- The SCRIPT_NAME of the status page; empty: none. It shows what visitors ask for: let the web server
-- refuse it to others.
-- StatusPath = "/luafcgid2-status"

-- The SCRIPT_NAME of a page that says PingResponse, for a monitor; empty: none.
-- PingPath = "/luafcgid2-ping"

-- What PingPath says.
-- PingResponse = "pong"

---- Data for scripts

-- Your own table: scripts see a copy as Config, and Config[SERVER_NAME] as LocalConfig.
Config = {
  greeting = "Hello",
  -- what the virtual host blog.example.org sees as LocalConfig
  ["blog.example.org"] = { title = "Blog" },
}
