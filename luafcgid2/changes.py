"""What a user of the C++ luafcgid2 can notice after the move, as data.

In: nothing.  Out: CHANGES, one row for each behaviour that differs on purpose.  migrate.py prints the rows,
reference.py makes the README's table of them.  `id` is stable, so that a row can be talked about.
"""
from __future__ import annotations

from typing import NamedTuple, Tuple


class Change(NamedTuple):
    """`before` is what the C++ luafcgid2 did, `now` what this server does, `advice` what to do, or ""."""

    id: str
    area: str
    before: str
    now: str
    advice: str = ""


CHANGES: Tuple[Change, ...] = (
    Change("R3", "Answers", "a small Send could overtake earlier ones: the body came out in the wrong order",
           "the body has the order of the Send calls",
           "remove BodySectors = 1 if you had set it as a cure"),
    Change("R4", "Answers", "a Lua error sent nothing: the web server answered 502",
           "a Lua error is a 500 page; the traceback is in our log and in the web server's",
           "ShowErrors = true shows it on the page; change error_page 502 to 500 if you relied on it"),
    Change("R5", "Answers", "a 404 page told the file's path, with the content type text-plain",
           "a 404 page is text/plain and tells the path only with ShowErrors"),
    Change("R2", "Answers",
           "headers were sent as given: CR and LF in a value made new headers, Content-Type set by Header() "
           "came twice, DefaultHeaders without its line end fused with the next header",
           "CR, LF and NUL are a Lua error, Header() replaces the defaults, lines are ended"),
    Change("R7", "Answers",
           "a Location header without a status was sent with 200, a status like \"Not Found\" as it was",
           "Location alone is a 302; what is no status is a Lua error"),
    Change("R6", "Answers", "HEAD, 204 and 304 were answered with a body", "they have none"),
    Change("C3", "Start",
           "a missing or broken configuration file was ignored: the server ran on its defaults",
           "the server does not start: file, line and reason are printed, exit code 78",
           "luafcgid2 -t CONFIG tests a file"),
    Change("C5", "Start", "a value of the wrong type was ignored", "it is an error that names the key"),
    Change("C1", "Start", "listen and entrypoint, as the sample file wrote them, had no effect",
           "they have: Listen and listen, Entrypoint and entrypoint are the same keys",
           "see above which socket and entry point are in force now"),
    Change("C4", "Start", "the configuration file had no standard library", "it has all of it"),
    Change("C6", "Start", "without a Config table the first request crashed the server",
           "Config is an empty table then, LocalConfig is nil"),
    Change("C8", "Start", "any argument was taken for the configuration file's name",
           "the file's name is still the first argument; there are real options, see luafcgid2 --help"),
    Change("C9", "Start", "the socket file of a running server was taken away; a failed bind left no trace",
           "a live socket is never touched: the start fails and names its owner; ListenMode is its mode"),
    Change("C10", "Log", "lines had neither time nor process, the file was never opened anew",
           "each line has both; SIGUSR1 opens the file anew, so logrotate works"),
    Change("C11", "Scripts",
           "StartupScript was read once; a missing one went unnoticed, its line numbers were wrong",
           "it is read again on reload, a missing one is reported, lines are right"),
    Change("L1", "Signals", "SIGHUP killed the server", "SIGHUP reloads all scripts and loses no request"),
    Change("L2", "Signals",
           "SIGTERM was noticed with the next request only, which could crash; the socket stayed",
           "SIGTERM finishes requests under way, at most StopTimeout, and removes the socket"),
    Change("L4", "Serving", "an idle kept connection, or a slow client, blocked all threads",
           "neither an idle one nor one that is slow to send holds a thread",
           "fastcgi_keep_conn on is safe now, and faster"),
    Change("P1", "Serving", "one process with WorkerThreads threads",
           "Workers processes with WorkerThreads threads each: a global variable of a script lives in one "
           "Lua state of one process", "Workers = 1 comes nearest to the old layout"),
    Change("L5", "Scripts", "os.exit() in a script ended the server; print went nowhere",
           "os.exit() ends the request with what was sent so far; print goes to the log"),
    Change("S1", "Scripts", "states were never unloaded: memory grew with the number of scripts",
           "LuaTotalStates is the most that a worker keeps, the least recently used goes"),
    Change("S3", "Scripts", "after one edit a script was compiled and set up anew for every request",
           "an edited script is loaded once"),
    Change("S4", "Scripts", "the file was read and hashed on each request, despite MinFileInfoTime",
           "its time, size and inode are looked at, at most every MinFileInfoTime"),
    Change("S5", "Scripts", "without UseFileChecksum an edit of the same size was never seen",
           "it is: time and inode count too"),
    Change("S6", "Scripts", "a syntax error in an edited script cost one Lua state for ever",
           "the last good version goes on serving, or 500: OnReloadError"),
    Change("S7", "Scripts", "a deleted script went on being served", "it is 404 after MinFileInfoTime"),
    Change("S9", "Scripts", "any readable file could be run as a script, whatever its name and place",
           "a script lies below DOCUMENT_ROOT or ScriptRoots and ends in one of ScriptExtensions",
           "set ScriptRoots and ScriptExtensions if yours lie or are named otherwise"),
    Change("S10", "Scripts", "C modules were loaded from the document root; edited modules needed a restart",
           "C modules come from the system's directories; an edit of a required file is noticed",
           "AllowLocalCModules = true brings the old search back"),
    Change("S11", "Scripts",
           "messages read [string \"/path/x.lua\"]:5:, without a traceback; bytecode was run",
           "messages read /path/x.lua:5:, with a traceback; BOM and #! are skipped; bytecode is refused"),
    Change("S8", "Speed", "a full garbage collection ran before each answer", "none runs before an answer"),
    Change("A1", "Script API", "type(Send) was \"userdata\"; one argument too many was an error",
           "they are functions; further arguments are let pass"),
    Change("A4", "Script API", "MaxPostSize was read and never used",
           "a larger request gets 413 and no script runs; Receive(n) reads in pieces",
           "see MaxPostSize above"),
    Change("A6", "Script API",
           "lf.parse(\"a\") and lf.parse(nil) raised an error, a=b=c gave \"b\", lf.serialize wrote arrays "
           "that do not load", "they give {a = \"\"}, {}, \"b=c\", and arrays that load"),
    Change("A7", "Script API", "a comma separated cookies; Cookies[\"\"] could exist",
           "only a semicolon does; there is no empty name"),
    Change("N1", "Sessions", "GetVar on a miss returned no value at all", "it returns nil"),
    Change("N2", "Sessions", "integers came back as floats; a table or function erased the variable",
           "integers stay integers, tables are stored; a function is refused with false and erases nothing"),
    Change("N5", "Sessions", "an expired session could come back to life for a minute", "it is gone"),
    Change("N6", "Sessions",
           "the cookie's Domain was the server's name, which browsers refuse for \"_\", localhost, addresses",
           "no Domain is sent unless SessionCookieDomain is set",
           "SessionCookieSecure = false is still needed on plain http"),
    Change("N7", "Sessions", "a deleted session's cookie stayed in the browser", "it is deleted"),
    Change("N8", "Sessions",
           "sessions lived in the memory of one process; keys came from a predictable generator",
           "sessions are shared by all workers and survive a restart; keys are random"),
)
