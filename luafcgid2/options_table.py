"""The configuration keys as data: one row each, in the order of the sample file.

In: nothing.  Out: rows() yields the keyword arguments of options.Option.  Only options.py calls it.  Defaults
of the keys of luafcgid2 are those of the C++ program's code, not of its sample file.
"""
from __future__ import annotations

from typing import Any, Dict, Tuple
from collections.abc import Iterator

from .options_logs import LOGS
from .options_processes import LISTENER, PROCESSES

CPP, C = "luafcgid2", "luafcgid"
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # nosec B105  # of RFC 6265, no password
_BIG = 1 << 40

STATES = (
    dict(name="LuaVersion", field="lua_version", kind="version", default="5.3", fixed=True,
         choices=("5.1", "5.2", "5.3", "5.4", "5.5", "jit"),
         doc="The Lua that runs the scripts. This file is always read by Lua 5.3."),
    dict(name="LuaStates", field="lua_states", kind="int", default=3, since=CPP, minimum=1, maximum=4096,
         clamp=True,
         doc="Lua states that a worker makes when a script is first asked for."),
    dict(name="LuaMaxStates", field="lua_max_states", kind="int", default=5, since=CPP, minimum=1,
         maximum=4096,
         clamp=True, aliases=("clones",),
         doc="Lua states of one script that a worker keeps at most; beyond it a state serves one request."),
    dict(name="LuaTotalStates", field="lua_total_states", kind="int", default=64, minimum=1, maximum=1000000,
         aliases=("states",),
         doc="Lua states of all scripts that a worker keeps at most; the least recently used goes first."),
    dict(name="LuaPath", field="lua_path", kind="string", default="", example="/srv/lua/?.lua",
         doc="Put before package.path, in its notation."),
    dict(name="LuaCPath", field="lua_cpath", kind="string", default="", example="/srv/lua/?.so",
         doc="Put before package.cpath, in its notation."),
    dict(name="AllowLocalCModules", field="allow_local_c_modules", kind="bool", default=False,
         doc="Load C modules from the document root, as the C++ luafcgid2 did."),
)
SCRIPTS = (
    dict(name="Entrypoint", field="entrypoint", kind="string", default="main", since=CPP,
         aliases=("entrypoint", "handler"), pattern=r"[A-Za-z_][A-Za-z0-9_]*",
         allowed_text="a Lua name as a string",
         active=True, doc="The global function that is called for each request."),
    dict(name="AuthorizerScript", field="authorizer_script", kind="path", default="",
         example="/etc/luafcgid2/authorizer.lua",
         doc="The script whose function authorize answers requests of the FastCGI role Authorizer, as lighttpd's "
             "authorizer mode sends them, for whatever file; empty: the script that SCRIPT_FILENAME names."),
    dict(name="StartupScript", field="startup_script", kind="path", default="", since=CPP,
         example="/etc/luafcgid2/startup.lua", doc="A Lua file that each new state runs before the script."),
    dict(name="MinFileInfoTime", field="min_file_info_time", kind="ms", default=5000, since=CPP, minimum=0,
         maximum=86400000, clamp=True, unit="milliseconds", aliases=("sweep",),
         doc="A script is taken as unchanged for this long; 0: always look. SIGHUP makes all look at once."),
    dict(name="UseFileChecksum", field="use_file_checksum", kind="bool", default=True, since=CPP,
         doc="Compare the content of a file whose time, size or inode changed before reloading it."),
    dict(name="OnReloadError", field="on_reload_error", kind="string", default="last-good",
         choices=("last-good", "error"),
         doc="When an edited script does not load: serve the last good version, or answer 500."),
    dict(name="ScriptRoots", field="script_roots", kind="paths", default=(), pattern=r"/.*",
         example=("/var/www",),
         allowed_text="a table of absolute paths",
         doc="Scripts must lie below one of these; empty: below the request's DOCUMENT_ROOT."),
    dict(name="ScriptExtensions", field="script_extensions", kind="strings", default=(".lua",),
         pattern=r"\.[^/]+", allowed_text="a table of extensions such as {\".lua\"}",
         doc="Names of scripts must end in one of these; {}: any name. Files that end in .op are Orbit's pages, those "
             "in .lp CGILua's; anything else is Lua."),
)
REQUESTS = (
    dict(name="MaxPostSize", field="max_post_size", kind="bytes", default=4 << 20, since=CPP, minimum=0,
         maximum=_BIG, clamp=True, unit="bytes", aliases=("maxpost",),
         doc="Largest request body: over it the answer is 413 and no script runs; 0: no limit. "
             "The C++ luafcgid2 read this key and never used it."),
    dict(name="BodyMemory", field="body_memory", kind="bytes", default=1 << 20, minimum=0, maximum=1 << 30,
         unit="bytes", doc="A larger request body goes to a temporary file in TempDir."),
    dict(name="ReceiveMemory", field="receive_memory", kind="bytes", default=16 << 20, minimum=0, maximum=_BIG,
         unit="bytes",
         doc="Request bodies of more than 64 KB that are in memory take about so much of a worker; further ones go to "
             "temporary files."),
    dict(name="TempDir", field="temp_dir", kind="path", default="", example="/var/tmp",  # nosec B108  # files without a name
         doc="Directory for such files and for those of forms; empty: the system's."),
    dict(name="FormMaxFileSize", field="form_max_file_size", kind="bytes", default=0, minimum=0, maximum=_BIG,
         unit="bytes",
         doc="Largest file of a form that lf.form() reads: over it the answer is 413, as it is over the next three; "
             "0: any that MaxPostSize lets in."),
    dict(name="FormMaxSize", field="form_max_size", kind="bytes", default=0, minimum=0, maximum=_BIG, unit="bytes",
         doc="Files of one form together; 0: as MaxPostSize lets in. They are written to TempDir, and removed after "
             "the request unless the script saves them."),
    dict(name="FormMaxParts", field="form_max_parts", kind="int", default=1000, minimum=0, maximum=1000000,
         doc="Fields and files of one form; 0: any number."),
    dict(name="FormMemory", field="form_memory", kind="bytes", default=1 << 20, minimum=0, maximum=1 << 30,
         unit="bytes",
         doc="Fields of one form together, and the body that lf.post() or lf.json() reads, since they are kept in "
             "memory; 0: no limit."),
    dict(name="MaxParamsSize", field="max_params_size", kind="bytes", default=262144, minimum=4096,
         maximum=1 << 26, unit="bytes",
         doc="Largest sum of a request's FastCGI parameters (its headers): over it the answer is 431."),
    dict(name="MaxParams", field="max_params", kind="int", default=4096, minimum=64, maximum=1 << 25,
         doc="Most parameters of a request: over it the answer is 431."),
)
SUPERVISION = (
    dict(name="RequestTimeout", field="request_timeout", kind="seconds", default=0, minimum=0, maximum=86400,
         unit="seconds", aliases=("ScriptMaxTime",),
         doc="A script that runs longer gets a Lua error and its client a 504, and the worker lives; 0: no limit. "
             "A web server waits 60 seconds unless it is told otherwise. Loops that LuaJIT has compiled cannot be "
             "interrupted, see RequestTerminateTimeout; with jit.off() in StartupScript there are none."),
    dict(name="RequestTerminateTimeout", field="request_terminate_timeout", kind="seconds", default=0, minimum=0,
         maximum=86400, unit="seconds",
         doc="A script that runs longer and cannot be interrupted, as in a blocking C call, costs its worker: that "
             "finishes its other requests and is killed; 0: RequestTimeout and 5 seconds, none without "
             "RequestTimeout."),
    dict(name="ScriptMaxMemory", field="script_max_memory", kind="size", default=0, minimum=1 << 20, maximum=_BIG,
         example="32M",
         allowed_text='a size of at least 1 MB as a string, such as "32M", or ""',
         doc="Memory of each Lua state: a script that wants more gets Lua's error \"not enough memory\" and its "
             "client a 500, its state is closed, and the worker lives; empty: no limit. A script file may be as large. "
             "Garbage counts until it is collected: allow twice what a script needs."),
    dict(name="QuarantineStrikes", field="quarantine_strikes", kind="int", default=3, minimum=0, maximum=1000,
         doc="A script that times out, overruns its memory or brings a worker down so many times within "
             "QuarantineInterval is answered 503 for a while, and the rest of the site lives; 0: never. Its file is "
             "served again as soon as it is changed, and everything after a reload."),
    dict(name="QuarantineInterval", field="quarantine_interval", kind="seconds", default=60, minimum=1, maximum=86400,
         unit="seconds", doc="The time over which QuarantineStrikes counts."),
    dict(name="QuarantineTime", field="quarantine_time", kind="seconds", default=10, minimum=1, maximum=86400,
         unit="seconds",
         doc="How long the first quarantine lasts. Then one request is tried; when that does harm again, the next "
             "one lasts twice as long."),
    dict(name="QuarantineMaxTime", field="quarantine_max_time", kind="seconds", default=3600, minimum=1,
         maximum=604800, unit="seconds", doc="The longest quarantine."),
    dict(name="MemoryBudget", field="memory_budget", kind="size", default=0, minimum=16 << 20, maximum=_BIG,
         example="128M",
         allowed_text='a size of at least 16 MB as a string, such as "128M" or "1G", or ""',
         doc="Memory of the master and all workers together; empty: no bound. From 80 % of it, or of what the machine "
             "can still give, idle Lua states are closed; from 90 % the largest worker is replaced; from 100 % new "
             "requests are answered 503 until it is below 90 % again."),
)
RESPONSES = (
    dict(name="DefaultHttpStatus", field="default_http_status", kind="string", default="200 OK", since=CPP,
         pattern=r"[1-5][0-9][0-9]( [^\x00-\x1f\x7f]*)?",
         allowed_text='a status as a string, such as "200 OK"',
         aliases=("httpstatus",), doc="Status of an answer that does not set one."),
    dict(name="DefaultContentType", field="default_content_type", kind="string", default="text/html",
         since=CPP,
         pattern=r"[^\x00-\x1f\x7f]+", allowed_text='a content type as a string, such as "text/html"',
         aliases=("contenttype",), doc="Content-Type of an answer that does not set one."),
    dict(name="DefaultHeaders", field="default_headers", kind="headers",
         default="X-Powered-By: luafcgid2\r\n",
         since=CPP, aliases=("headers",), doc="Headers added to every answer, each line ended by \\r\\n."),
    dict(name="ElapsedTimeHeader", field="elapsed_time_header", kind="bool", default=True,
         doc="Send X-ElapsedTime: the script's run time in milliseconds."),
    dict(name="ShowErrors", field="show_errors", kind="bool", default=False, aliases=("showerrors",),
         doc="Show message, traceback and source lines on the 500 page. Not for the public."),
    dict(name="ErrorScript", field="error_script", kind="path", default="", aliases=("OnError",),
         example="/etc/luafcgid2/error.lua",
         doc="A Lua script that renders the page of a request that failed (403, 404, 413, 500...): Env.ERROR_STATUS "
             "says how; with ShowErrors it has ERROR_MESSAGE and ERROR_TRACEBACK, too. Empty: a built-in page."),
)
SESSIONS = (
    dict(name="SessionStore", field="session_store", kind="string",
         default="sqlite:///var/lib/luafcgid2/state.db",
         pattern=r"[a-z][a-z0-9+.-]*:.*", allowed_text='a store\'s address, such as "sqlite:///path/to/file"',
         doc="Where sessions and Shared live, so that all workers have the same and a restart keeps them: a file, "
             "\"sqlite:///path\", or a Redis or Valkey, which several machines can use: "
             "\"redis://:password@host:6379/0\", \"rediss://...\" for TLS, \"unix:///path/to/socket\"; these take "
             "?timeout=2&prefix=luafcgid2, rediss also ca=, cert=, key= (PEM files) and verify=no."),
    dict(name="SessionName", field="session_name", kind="string", default="XLuaSession", since=CPP,
         pattern=_TOKEN,
         allowed_text="a cookie name (letters, digits, - and _)", doc="Name of the session cookie."),
    dict(name="SessionTime", field="session_time", kind="int", default=3600, since=CPP, minimum=1,
         maximum=315360000, clamp=True, unit="seconds", doc="A session unused for this long is forgotten."),
    dict(name="SessionKeyLen", field="session_key_len", kind="int", default=24, since=CPP, minimum=16,
         maximum=128,
         clamp=True, unit="characters", doc="Length of a session key; below 16 it could be guessed."),
    dict(name="SessionCookieSecure", field="session_cookie_secure", kind="bool", default=True, since=CPP,
         doc="Send the session cookie over https only; set false for a site on plain http."),
    dict(name="SessionCookieHttpOnly", field="session_cookie_http_only", kind="bool", default=True, since=CPP,
         doc="Hide the session cookie from JavaScript."),
    dict(name="SessionCookieSameSite", field="session_cookie_same_site", kind="string", default="", since=CPP,
         choices=("", "Strict", "Lax", "None"),
         doc="SameSite attribute of the session cookie; empty: none sent."),
    dict(name="SessionCookieDomain", field="session_cookie_domain", kind="string", default="",
         pattern=r"[A-Za-z0-9.-]*", allowed_text="a host name as a string", example="example.org",
         doc="Domain attribute of the session cookie; empty: none, so only this host gets it."),
) + tuple(
    dict(name="Session%sScore" % word, field="session_%s_score" % field, kind="int", default=default,
         since=CPP,
         minimum=-1000000, maximum=1000000, doc=doc)
    for word, field, default, doc in (
        ("Target", "target", 3, "Points that a request must reach to use a session; 0 or less: no check."),
        ("Ip", "ip", 3, "Points for the same client address."),
        ("UserAgent", "user_agent", 2, "Points for the same User-Agent."),
        ("Language", "language", 1, "Points for the same Accept-Language."),
    )) + (
    dict(name="SessionFollowIdentity", field="session_follow_identity", kind="bool", default=True,
         doc="A session that was reached takes on the visitor's present address, browser and language; false: "
             "those it began with count for ever."),
)
SHARED = (
    dict(name="SharedMaxBytes", field="shared_max_bytes", kind="bytes", default=8 << 20, minimum=65536,
         maximum=1 << 30, unit="bytes",
         doc="Keys and values of Shared together, in SessionStore; beyond it what was not used for longest goes. "
             "A Redis is bounded by its own maxmemory and maxmemory-policy instead."),
)
_OWN_PATH = dict(kind="string", default="", pattern=r"(/[^\x00-\x20\x7f?#]*)?",
                 allowed_text='a path that begins with "/", as a string, or ""')
STATUS = (
    dict(_OWN_PATH, name="StatusPath", field="status_path", example="/luafcgid2-status",
         doc="The SCRIPT_NAME of the status page; empty: none. It shows what visitors ask for: let the web server "
             "refuse it to others."),
    dict(_OWN_PATH, name="PingPath", field="ping_path", example="/luafcgid2-ping",
         doc="The SCRIPT_NAME of a page that says PingResponse, for a monitor; empty: none."),
    dict(name="PingResponse", field="ping_response", kind="string", default="pong", doc="What PingPath says."),
)
SCRIPT_DATA = (
    dict(name="Config", field="", kind="table", default={}, since=CPP, allowed_text="a table",
         doc="Your own table: scripts see a copy as Config, and Config[SERVER_NAME] as LocalConfig."),
)
_GROUPS = (
    ("Processes", PROCESSES), ("Listener", LISTENER), ("Lua states", STATES), ("Scripts", SCRIPTS),
    ("Requests", REQUESTS), ("Supervision", SUPERVISION), ("Responses", RESPONSES), ("Sessions", SESSIONS),
    ("Shared", SHARED), ("Log", LOGS), ("Status", STATUS),
    ("Data for scripts", SCRIPT_DATA),
)
# Accepted so that old files start; (name, aliases, who read it, why it does nothing here).
_IGNORED: Tuple[Tuple[str, Tuple[str, ...], str, str], ...] = (
    ("LuaMaxSearchRetries", ("retries",), CPP, "a free state is found at once, there is no search to repeat"),
    ("HeadersSize", ("headersize",), CPP, "the header buffer grows by itself"),
    ("BodySize", ("bodysize",), CPP, "the body buffer grows by itself"),
    ("BodySectors", (), CPP, "the body is one buffer, in the order of the Send calls"),
    ("watchdog", (), C, "the C luafcgid read it and never used it"),
    ("maxcount", (), C, "the C luafcgid read it and never used it"),
    ("buffering", (), C, "an answer leaves when the script ends, or at con:flush()"),
    ("daemonize", (), C, "luafcgid2ctl start runs the server in the background"),
)


def rows() -> Iterator[Dict[str, Any]]:
    """Keyword arguments of Option, one dictionary for each key."""
    for group, members in _GROUPS:
        for row in members:
            yield dict(row, group=group)
    for name, aliases, since, reason in _IGNORED:
        yield dict(name=name, field="", kind="ignored", default=None, group="Without meaning now",
                   since=since, aliases=aliases, effect="ignored", doc="Accepted and ignored: %s." % reason)
