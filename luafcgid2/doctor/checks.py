"""The table of checks, and those of them that look at the server: configuration, process, socket, Lua.

In: Facts.  Out: Findings, one sentence each.  report.py calls `examine`.  A check is a function that yields
findings and takes nothing for granted; the table gives the topic.  It changes nothing.
"""
from __future__ import annotations

import importlib.util
import os
import re
import stat
from errno import ECONNREFUSED, ENOENT
from typing import Callable, Iterator, List, Tuple

from . import ERROR, OK, WARNING, Finding
from .. import listener
from .facts import Facts
from .page import page
from .visitor import describe
from .webchecks import cookie_domain, handed_over, roots, script_names, secure_cookie, web_servers
from .why import START, why_no_answer

Check = Callable[[Facts], Iterator[Finding]]
HALF_FULL = 0.5
# A symbol that only some versions of Lua have -> which.
_SYMBOLS = {"luaL_register": "5.1", "luaL_openlib": "5.1", "lua_objlen": "5.1", "lua_setfenv": "5.1",
            "lua_getfenv": "5.1", "luaL_findtable": "5.1", "lua_newuserdatauv": "5.4 or 5.5", "lua_setiuservalue":
            "5.4 or 5.5", "lua_getiuservalue": "5.4 or 5.5", "lua_newuserdata": "5.3 or older", "luaL_setfuncs":
            "5.2 or newer", "luaL_checkversion_": "5.2 or newer", "lua_rotate": "5.3 or newer",
            "lua_isinteger": "5.3 or newer", "lua_seti": "5.3 or newer", "lua_geti": "5.3 or newer"}


def configuration(facts: Facts) -> Iterator[Finding]:
    """The file can be read, and nothing in it is odd."""
    path = facts.config.path or "the configuration"
    if facts.error:
        yield Finding(ERROR, "", facts.error.replace("\n", "; "),
                      "correct it: the server does not start so; luafcgid2ctl check tests it"
                      if os.path.exists(facts.path) else "name the right file: luafcgid2ctl -c FILE doctor")
        return
    for text in facts.config.warnings:
        yield Finding(WARNING, "", text, "correct %s" % path)
    if not facts.config.warnings:
        yield Finding(OK, "", "%s is valid" % path)


def process(facts: Facts) -> Iterator[Finding]:
    """The master and its workers run."""
    if facts.state_error:
        yield Finding(WARNING, "", "whether the server runs is not known: %s" % facts.state_error,
                      "run the doctor as root: sudo luafcgid2ctl doctor")
    elif facts.state is None:
        if not any(site.spawned for site in facts.sites):
            yield Finding(WARNING, "", "PidFile is empty, so that nobody can tell whether the server runs",
                          "set PidFile, unless the web server or systemd starts luafcgid2")
    elif not facts.running:
        left = ": pid %d left %s" % (facts.state.pid, facts.config.pid_file) if facts.state.state == "stale" else ""
        yield Finding(ERROR, "", "502: luafcgid2 is not running%s" % left, START)
    elif not facts.workers and os.path.exists("/proc/self/task/%d/children" % os.getpid()):
        yield Finding(ERROR, "", "502: the master (pid %d) has no workers" % facts.state.pid,
                      "they die as soon as they start: %s says why" % (facts.config.log_file_path or "the log"))
    else:
        yield Finding(OK, "", "luafcgid2 runs as %s (pid %d, %d worker%s)" % (
            facts.owner_name, facts.state.pid, facts.workers, "s" * (facts.workers != 1)))


def place(facts: Facts) -> Iterator[Finding]:
    """The server listens where Listen says."""
    listen = facts.config.listen
    # What nobody has written down nobody is misled by.
    if facts.inherited and "listen" in facts.config.origins and listener.parse(listen).kind in ("unix", "tcp"):
        yield Finding(WARNING, "", "it listens on %s, though Listen is %s" % (facts.target, listen),
                      "luafcgid2ctl restart, unless spawn-fcgi, lighttpd or systemd passes the socket on")


def socket_file(facts: Facts) -> Iterator[Finding]:
    """The socket's file is one, with the mode that the configuration gives it."""
    if not facts.address or facts.address.kind != "unix":
        return
    path = facts.address.path
    try:
        status = os.stat(path)
    except OSError:
        # The test request tells why.
        return
    if not stat.S_ISSOCK(status.st_mode):
        yield Finding(ERROR, "", "502: %s is not a socket" % path, "remove that file, then " + START)
        return
    mode, wanted = stat.S_IMODE(status.st_mode), int(str(facts.config.listen_mode), 8)
    if mode != wanted and facts.running:
        yield Finding(WARNING, "", "%s has mode %04o, ListenMode is %04o" % (path, mode, wanted),
                      "somebody changed it since the start: luafcgid2ctl restart")
    else:
        yield Finding(OK, "", "%s: %s" % (path, describe(path)))


def backlog(facts: Facts) -> Iterator[Finding]:
    """Connections do not pile up in front of the listener."""
    if facts.queue is None:
        return
    waiting, room = facts.queue
    where = "%d of %d connections wait at %s" % (waiting, room, facts.target)
    change = "the workers hang or are too few: look for slow scripts, set more Workers or WorkerThreads"
    if waiting >= room:
        yield Finding(ERROR, "", "502: the backlog is full: " + where, change)
    elif waiting > room * HALF_FULL:
        yield Finding(WARNING, "", "the backlog fills: " + where, change)
    else:
        yield Finding(OK, "", "the backlog has room: " + where)


def answers(facts: Facts) -> Iterator[Finding]:
    """The web server's user gets an answer to a real request."""
    for visitor, outcome in facts.answers:
        if not outcome.status and facts.state and not facts.running and outcome.errno in (ENOENT, ECONNREFUSED):
            # `process` has said so.
            continue
        if outcome.status:
            yield Finding(OK, "", "a FastCGI request of %s is answered" % visitor.user)
        else:
            yield Finding(ERROR, "", *why_no_answer(facts, visitor, facts.target, outcome))
        server = next((each for each in facts.servers if each.name == visitor.server), None)
        wanted = facts.asked.user or (server.user if server else "")
        if visitor.identity is None and wanted and wanted != visitor.user:
            why = ("there is no user %s on this machine" if os.geteuid() == 0 else "only root can become %s") % wanted
            yield Finding(WARNING, "", "the request was sent as %s, for %s" % (visitor.user, why),
                          "correct the web server's user" if os.geteuid() == 0 else "sudo luafcgid2ctl doctor")


def lua(facts: Facts) -> Iterator[Finding]:
    """The Lua version is there, and C modules load in it."""
    version = facts.config.lua_version
    if facts.modules_error:
        yield Finding(WARNING, "", facts.modules_error, "luafcgid2ctl check says whether lupa has this LuaVersion")
        return
    broken = dict(map(tuple, facts.modules.get("broken", ())))
    for name, message in broken.items():
        yield Finding(WARNING, "", '500 for scripts with require "%s": %s' % (name, _told(version, message)),
                      "install it for Lua %s (luarocks --lua-version %s), or set LuaVersion" % (
                          version, {"jit": "5.1"}.get(version, version)))
    for name, versions in facts.modules.get("elsewhere", ()):
        yield Finding(WARNING, "", '500 for scripts with require "%s": it is installed for Lua %s, not for %s' % (
            name, " and ".join(versions), version), 'set LuaVersion = "%s", or install it for Lua %s' % (
                versions[-1], version))
    good = [name for name, _ in facts.modules.get("tried", ()) if name not in broken]
    yield Finding(OK, "", "Lua %s; C modules that load: %s" % (version, ", ".join(good) or "none is installed"))


def fast_path(facts: Facts) -> Iterator[Finding]:
    """The compiled part is there, and in use."""
    if importlib.util.find_spec("luafcgid2._fastpath") is None:
        yield Finding(WARNING, "", "the fast path is not built: all is served, but takes more of the processor",
                      "sudo apt-get install gcc libc6-dev python3-dev, and install luafcgid2 again")
    elif facts.config.fast_path and not facts.config.access_log_path:
        yield Finding(OK, "", "the fast path is built, and in use")
    else:
        yield Finding(OK, "", "the fast path is built, and not used: %s" % (
            "AccessLogPath is set" if facts.config.fast_path else "FastPath is false"))


def _told(version: str, message: str) -> str:
    file = re.search(r"from file '([^']+)'", message)
    symbol = re.search(r"undefined symbol: (\w+)", message)
    if not symbol:
        return " ".join(message.split())[:300]
    of = _SYMBOLS.get(symbol[1])
    return "%s is built for %s, not for Lua %s" % (
        file[1] if file else "it", "Lua " + of if of else "another Lua (%s)" % symbol[1], version)


CHECKS: Tuple[Tuple[str, Check], ...] = (
    ("config", configuration), ("server", process), ("socket", place), ("socket", socket_file), ("socket", backlog),
    ("request", answers), ("lua", lua), ("speed", fast_path), ("web", web_servers), ("web", handed_over),
    ("web", script_names), ("web", roots), ("cookie", secure_cookie), ("cookie", cookie_domain), ("page", page),
)


def examine(facts: Facts) -> List[Finding]:
    """All findings, in the order of the table."""
    findings: List[Finding] = []
    for topic, check in CHECKS:
        try:
            findings += [found._replace(topic=topic) for found in check(facts)]
        except OSError as error:
            findings.append(Finding(WARNING, topic, "this could not be looked at: %s" % error, "try again as root"))
    return findings
