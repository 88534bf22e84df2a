"""One concrete page: what the web server makes of it, what luafcgid2 answers, and why.

In: Facts whose `asked` names a URL or a script.  Out: one Finding or two.  checks.py has `page` in its table.
The request is a real one, sent as the web server's user to the address that the web server would take.  The
script runs: a page that has effects has them.
"""
from __future__ import annotations

import os
from typing import Dict, Iterator, List, Optional, Tuple
from urllib.parse import unquote, urlsplit

from ..errors import Error
from ..script import Resolver
from . import ERROR, OK, Finding, Site, request_params
from .facts import Facts, Visitor
from .visitor import SLACK_SECONDS, Outcome, as_user, ask, describe, obstacle
from .webchecks import HELP, RIGHT
from .why import why_no_answer

FASTCGI_HEADER = 8
# Statuses that only the server itself gives, and what to do then.
_CHANGES = {413: "set MaxPostSize", 503: "wait until it has recovered: {log} says from what",
            504: "make the script faster: {log} says more", 507: "make room in TempDir"}


def page(facts: Facts) -> Iterator[Finding]:
    """The page that was asked for."""
    if facts.asked.script:
        path = os.path.abspath(facts.asked.script)
        site, params = _of_script(facts, path)
        yield from _ask(facts, facts.visitors[:1], site, facts.target, params, path)
    elif facts.asked.url:
        yield from _of_url(facts)


def _of_script(facts: Facts, path: str) -> Tuple[Optional[Site], Dict[str, str]]:
    """The site that the script lies in, and a request for it."""
    sites = [site for site in facts.sites if path.startswith(site.root.rstrip("/") + "/")]
    site = max(sites, key=lambda each: len(each.root), default=None)
    if site:
        return site, dict(request_params(site, path[len(site.root.rstrip("/")):]), SCRIPT_FILENAME=path)
    roots = [each.root for each in facts.sites] or list(facts.config.script_roots) or [os.path.dirname(path)]
    return None, {"SCRIPT_FILENAME": path, "DOCUMENT_ROOT": roots[0], "REQUEST_METHOD": "GET", "QUERY_STRING": "",
                  "SCRIPT_NAME": "/" + os.path.basename(path)}


def _of_url(facts: Facts) -> Iterator[Finding]:
    parts = urlsplit(facts.asked.url)
    path = unquote(parts.path) or "/"
    reasons = []
    for server in facts.servers:
        site, found, reason = server.find(parts.hostname or "", path)
        if not site:
            reasons.append(Finding(ERROR, "", "%s: %s" % (path, reason), HELP[server.name]))
            continue
        params = dict(request_params(site, found, parts.hostname or ""), QUERY_STRING=parts.query)
        visitors = [each for each in facts.visitors if each.server in ("", server.name)] or facts.visitors
        yield from _ask(facts, visitors[:1], site, site.addresses[0] if site.addresses else "", params, found)
        return
    yield from reasons
    if not facts.servers:
        yield Finding(ERROR, "", "no configuration of a web server was read, so %s has no script" % path,
                      "name the file instead: luafcgid2ctl doctor --script FILE")


def _ask(facts: Facts, visitors: List[Visitor], site: Optional[Site], address: str, params: Dict[str, str],
         path: str) -> Iterator[Finding]:
    for visitor in visitors:
        if not address:
            yield Finding(ERROR, "", "502: where %s goes is not known" % path, "set Listen to an address")
            return
        outcome = ask(visitor.identity, address, params, facts.asked.seconds)
        if not outcome.status:
            text, change = why_no_answer(facts, visitor, address, outcome)
            yield Finding(ERROR, "", "%s is %s" % (path, text), change)
        elif outcome.status < 400:
            yield from _good(site, path, outcome)
        else:
            text, change = why(facts, params, outcome)
            yield Finding(ERROR, "", "%s is %d: %s" % (path, outcome.status, text), change)


def _good(site: Optional[Site], path: str, outcome: Outcome) -> Iterator[Finding]:
    room = site.header_room if site else 0
    if room and outcome.head_size + FASTCGI_HEADER > room:
        text = "%s is 502: its header of %d bytes is over fastcgi_buffer_size (%d)" % (path, outcome.head_size, room)
        yield Finding(ERROR, "", text, 'write "fastcgi_buffer_size 16k; fastcgi_buffers 16 16k;" in %s' % site.place)
    else:
        yield Finding(OK, "", "%s is %d, with %d bytes of body" % (path, outcome.status, outcome.body_size))


def why(facts: Facts, params: Dict[str, str], outcome: Outcome) -> Tuple[str, str]:
    """Why luafcgid2 answers with a status of 400 and above, and what to change."""
    log = facts.config.log_file_path or "the log"
    name, root = params.get("SCRIPT_FILENAME", ""), params.get("DOCUMENT_ROOT", "")
    if not name or not root:
        return "the web server sends no %s" % ("DOCUMENT_ROOT" if name else "SCRIPT_FILENAME"), (
            "write %s there" % (RIGHT if not name else '"fastcgi_param DOCUMENT_ROOT $document_root;"'))
    if outcome.status in (403, 404):
        roots, extensions = tuple(facts.config.script_roots), tuple(facts.config.script_extensions)
        kind, said = as_user(facts.owner, SLACK_SECONDS, _judge, roots, extensions, name, root)
        if kind:
            return _file_trouble(facts, name, root, kind, said)
    elif outcome.status in _CHANGES:
        return _first_line(outcome.stderr) or "the server refuses it", _CHANGES[outcome.status].format(log=log)
    elif outcome.stderr:
        return _first_line(outcome.stderr), "correct the script; the whole traceback is in %s" % log
    return "the script itself answers so", "look at what %s does with RespStatus" % name


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _judge(roots: Tuple[str, ...], extensions: Tuple[str, ...], name: str, root: str) -> Tuple[str, str]:
    """What the server's own rules say of a script: ("", "") when it may run.  Runs as the server's user."""
    try:
        script = Resolver(roots, extensions, 0).resolve(os.fsencode(name), os.fsencode(root), 0, 0)
        with open(script.real, "rb"):
            return "", ""
    except Error as error:
        return type(error).__name__, str(error)
    except OSError as error:
        return "ScriptForbidden", "script %s: %s" % (name, error.strerror)


def _file_trouble(facts: Facts, name: str, root: str, kind: str, said: str) -> Tuple[str, str]:
    problem, part = obstacle(facts.owner, os.path.realpath(name), os.R_OK)
    extensions = tuple(facts.config.script_extensions)
    if problem == "missing":
        return "there is no %s" % part, (
            "put the script there, or correct the path" if part == os.path.realpath(name)
            else "correct root (lighttpd: server.document-root), which is %s" % root)
    if kind == "ScriptForbidden" and extensions and not name.endswith(extensions):
        return said, "rename the script, or add its extension to ScriptExtensions"
    if problem == "closed":
        return "%s, who runs the scripts, may not enter %s (%s)" % (facts.reader, part, describe(part)), (
            "chmod o+x %s" % part)
    if problem == "denied":
        return "%s, who runs the scripts, may not read %s (%s)" % (facts.reader, part, describe(part)), (
            "chmod o+r %s" % part)
    if kind == "ScriptForbidden":
        return said, 'move the script, correct root, or set ScriptRoots = {"%s"}' % os.path.dirname(name)
    return said, "correct root or SCRIPT_FILENAME: " + RIGHT
