"""Checks that look at the web servers' configuration: where requests go, which file they name, cookies.

In: Facts.  Out: Findings.  checks.py has them in its table.  They look at sites, and at directories as the
server's user; no request is sent.
"""
from __future__ import annotations

import os
import re
from typing import Iterator, List

from . import ERROR, OK, WARNING, Finding, Site, request_params, search, variables
from .facts import Facts, is_about_lua
from .visitor import describe, obstacle

RIGHT = '"fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;"'
HELP = {"nginx": 'write "include snippets/luafcgid2.conf;" into the server block of your site, and reload nginx',
        "lighttpd": "sudo lighty-enable-mod luafcgid2, and restart lighttpd"}
# A request as any other.
SCRIPT = "/x.lua"
# Where a list of places would not end.
SHOWN = 3


def web_servers(facts: Facts) -> Iterator[Finding]:
    """There is a web server, it runs, and its configuration can be read."""
    if facts.servers_error:
        yield Finding(WARNING, "", facts.servers_error, "pip install 'luafcgid2[doctor]'")
    elif not facts.servers:
        yield Finding(WARNING, "", "neither nginx nor lighttpd is configured on this machine",
                      "name its file with --nginx or --lighttpd, if one is here")
    for server in facts.servers:
        for problem in server.problems:
            # It runs: it was started with what the file said then, or it knows its file better than we do.
            yield Finding(WARNING if server.running else ERROR, "",
                          "%s has a mistake: %s" % (server.name, " ".join(problem.split())),
                          {"nginx": "nginx -t", "lighttpd": "lighttpd -tt -f " + server.file}[server.name]
                          + " says what is wrong; run the doctor as root")
        if not server.running:
            yield Finding(ERROR, "", "%s does not run with %s, so no page comes" % (server.name, server.file),
                          "sudo service %s start" % server.name)


def handed_over(facts: Facts) -> Iterator[Finding]:
    """Requests for scripts go to where luafcgid2 listens."""
    ours = facts.sites
    for server in facts.servers:
        for site in server.sites:
            if is_about_lua(site) and not facts.is_ours(site) and "$" not in "".join(site.addresses):
                yield _elsewhere(facts, site, bool(ours))
    if ours:
        yield Finding(OK, "", "requests come here from %s" % _places(ours))
        return
    for server in facts.servers:
        if not any(map(is_about_lua, server.sites)) and not server.problems:
            yield Finding(ERROR, "", "404, or the source as text: nothing in %s hands requests to %s" % (
                server.file, facts.target or "luafcgid2"), HELP[server.name])


def _elsewhere(facts: Facts, site: Site, others: bool) -> Finding:
    to = ", ".join(site.addresses) or "nobody"
    gone = all(text.startswith("/") and not os.path.exists(text) for text in site.addresses)
    text = "%s goes to %s, but Listen is %s" % (site.place, to, facts.target)
    unix = facts.address is not None and facts.address.kind == "unix"
    line = ('"fastcgi_pass %s%s;"' % ("unix:" * unix, facts.target) if site.server == "nginx"
            else '"socket" => "%s"' % facts.target if unix else '"host" and "port" of %s' % facts.target)
    bad = "502: " if site.server == "nginx" else "503: "
    return Finding(ERROR if gone or not others else WARNING, "", bad * (gone or not others) + text,
                   "write %s there, or set Listen to what it names" % line)


def _places(sites: List[Site]) -> str:
    shown = list(dict.fromkeys(site.place for site in sites))
    more = " and %d more" % (len(shown) - SHOWN) if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more


def script_names(facts: Facts) -> Iterator[Finding]:
    """SCRIPT_FILENAME and DOCUMENT_ROOT are sent, and the one lies below the other."""
    for site in facts.sites:
        if _is_ours(facts, site):
            continue
        missing = [name for name in ("SCRIPT_FILENAME", "DOCUMENT_ROOT") if not site.params.get(name)]
        if missing:
            line = RIGHT if "SCRIPT_FILENAME" in missing else '"fastcgi_param DOCUMENT_ROOT $document_root;"'
            yield Finding(ERROR, "", "500: %s sends no %s" % (site.place, " and no ".join(missing)),
                          "write %s there: a level with a fastcgi_param of its own inherits none" % line)
        elif known(site):
            yield from _outside(facts, site)


def _is_ours(facts: Facts, site: Site) -> bool:
    """Whether the place is for StatusPath or PingPath only, which no script answers."""
    paths = [path for path in (facts.config.status_path, facts.config.ping_path) if path]
    location = re.search(r"\(location (~\*?) (\S+)\)$", site.place)
    if location:
        kind, pattern = location.groups()
        return any(search(pattern, path, kind == "~*") for path in paths) and not search(pattern, SCRIPT, kind == "~*")
    return any(re.search(r"[= ]\s*%s\b" % re.escape(path), site.place) for path in paths)


def known(site: Site) -> bool:
    """Whether all variables in the site's file names are nginx's own, so that their values can be told."""
    text = site.root + site.params.get("SCRIPT_FILENAME", "") + site.params.get("DOCUMENT_ROOT", "")
    return "$" not in site.root and set(re.findall(r"\$\{?(\w+)", text)) <= set(variables(site, "/"))


def _outside(facts: Facts, site: Site) -> Iterator[Finding]:
    params = request_params(site, SCRIPT)
    name, root = params["SCRIPT_FILENAME"], params["DOCUMENT_ROOT"]
    allowed = facts.config.script_roots or (root,)
    real = os.path.realpath(name)
    if not name.startswith("/"):
        yield Finding(ERROR, "", "404: %s names scripts as %s, which is no absolute path" % (site.place, name),
                      "write %s and an absolute root there" % RIGHT)
    elif not any(real.startswith(os.path.realpath(each).rstrip("/") + "/") for each in allowed):
        yield Finding(ERROR, "", "403: %s names scripts as %s, outside of %s" % (
            site.place, name, ", ".join(allowed)),
            'write %s there, or set ScriptRoots = {"%s"}' % (RIGHT, os.path.dirname(name)))


def roots(facts: Facts) -> Iterator[Finding]:
    """The document roots exist, and the server's user may enter them."""
    found = dict.fromkeys(site.root for site in facts.sites if site.root.startswith("/") and "$" not in site.root)
    for root in found:
        kind, part = obstacle(facts.owner, root, os.X_OK)
        if kind == "missing":
            yield Finding(ERROR, "", "404: there is no document root %s: %s is missing" % (root, part),
                          "correct root (lighttpd: server.document-root), or make the directory")
        elif kind:
            yield Finding(ERROR, "", "403: %s, who runs the scripts, may not enter %s (%s)" % (
                facts.reader, part, describe(part)), "chmod o+x %s" % part)
        else:
            yield Finding(OK, "", "%s may enter the document root %s" % (facts.reader, root))


def secure_cookie(facts: Facts) -> Iterator[Finding]:
    """A Secure session cookie is not sent where plain HTTP leads."""
    plain = [site for site in facts.sites if site.plain]
    if facts.config.session_cookie_secure and plain:
        yield Finding(WARNING, "", "SessionCookieSecure is true, but %s is reached by plain HTTP: browsers drop the "
                      "session cookie there" % _places(plain),
                      "set SessionCookieSecure = false, or serve https; behind a TLS proxy all is well")


def cookie_domain(facts: Facts) -> Iterator[Finding]:
    """SessionCookieDomain fits the server names."""
    domain = facts.config.session_cookie_domain.lstrip(".")
    if not domain:
        return
    for site in facts.sites:
        names = [name for name in site.names if name not in ("_", "")]
        strangers = [name for name in names if not (name.lstrip("*.") == domain or name.endswith("." + domain))
                     and not name.startswith("~")]
        if not names:
            named = 'server_name _' if "_" in site.names else "no server name"
            yield Finding(WARNING, "", "SessionCookieDomain is %s, but %s has %s: who comes by another name, or by the "
                          "address, gets no session" % (domain, site.place, named),
                          'write "server_name %s;" there, or SessionCookieDomain = ""' % domain)
        elif strangers:
            yield Finding(WARNING, "", "browsers refuse a cookie for %s from %s (%s)" % (
                domain, ", ".join(strangers), site.place), 'set SessionCookieDomain = ""')
