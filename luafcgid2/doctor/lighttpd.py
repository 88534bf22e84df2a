"""Reads lighttpd's configuration, as `lighttpd -p -f FILE` prints it with all includes done.

In: that text.  Out: a `Lighttpd`: its user, its `Site`s, and what it does with a path.  machine.py makes it, the
checks ask it.  Conditions on host, url and scheme are followed; others ($SERVER["socket"], remote address) only
make a site of their own.  Rewrites are not followed.
"""
from __future__ import annotations

import itertools
import os
import re
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from . import Site, search

ROOT, HANDLERS = "server.document-root", "fastcgi.server"
# What lighttpd's mod_fastcgi sends, in nginx's notation.
PARAMS = {"SCRIPT_FILENAME": "$document_root$fastcgi_script_name", "SCRIPT_NAME": "$fastcgi_script_name",
          "PATH_INFO": "$fastcgi_path_info", "DOCUMENT_ROOT": "$document_root", "REQUEST_METHOD": "$request_method",
          "REQUEST_URI": "$request_uri", "SERVER_PROTOCOL": "$server_protocol", "SERVER_NAME": "$server_name",
          "REMOTE_ADDR": "$remote_addr", "GATEWAY_INTERFACE": "CGI/1.1", "REDIRECT_STATUS": "200"}
_CONDITION = re.compile(r'^\s*(?:else )?\$(\w+\["[^"]*"\]) (==|!=|=~|!~|=\^|=\$) "(.*)" \{$')
_SETTING = re.compile(r"^\s*([\w.-]+)\s+= (.*)$")
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(-?\d+)|(=>|[(),])|#.*')
_TESTS: Dict[str, Callable[[str, str], bool]] = {
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "=^": str.startswith, "=$": str.endswith,
          "=~": lambda a, b: bool(search(b, a)), "!~": lambda a, b: not search(b, a)}


class Block(NamedTuple):
    """Settings under a chain of conditions (key, operator, value); the global block has none."""

    conditions: Tuple[Tuple[str, str, str], ...]
    settings: Dict[str, Any]


def blocks(text: str) -> List[Block]:
    """The blocks of what `lighttpd -p` prints, in its order."""
    found = [Block((), {})]
    open_blocks = [found[0]]
    lines = iter(text.splitlines())
    for line in lines:
        condition, setting = _CONDITION.match(line), _SETTING.match(line)
        if condition or line.strip() == "else {":
            words = (condition[1], condition[2], condition[3]) if condition else ("else", "==", "")
            chain = (*open_blocks[-1].conditions, words)
            found.append(Block(chain, {}))
            open_blocks.append(found[-1])
        elif setting:
            open_blocks[-1].settings[setting[1]] = _value(setting[2], lines)
        elif line.strip().startswith("}") and len(open_blocks) > 1:
            open_blocks.pop()
    return found


def _value(text: str, lines: Iterator[str]) -> Any:
    """The value that opens with `text`; takes more lines while its parentheses are open."""
    return _parse(_tokens(itertools.chain([text], lines)))


def _tokens(lines: Iterable[str]) -> Iterator[Tuple[Any, str]]:
    """(value, "") for strings and numbers, (None, mark) for the rest, up to the line that closes all
    parentheses."""
    depth = 0
    for line in lines:
        for match in _TOKEN.finditer(line):
            literal, number, mark = match.groups()
            depth += (mark == "(") - (mark == ")")
            if mark:
                yield None, mark
            elif number or literal is not None:
                yield int(number) if number else re.sub(r"\\(.)", r"\1", literal), ""
        if depth <= 0:
            return


def _parse(tokens: Iterator[Tuple[Any, str]]) -> Any:
    value, mark = next(tokens, (None, ""))
    return _list(tokens) if mark == "(" else value


def _list(tokens: Iterator[Tuple[Any, str]]) -> Any:
    """What follows an opening parenthesis: a list, or a dictionary where every entry has a key."""
    items: List[Any] = []
    for value, mark in tokens:
        if mark == ")":
            break
        if mark == "(":
            items.append(_list(tokens))
        elif mark == "=>":
            items[-1] = (items[-1], _parse(tokens))
        elif mark != ",":
            items.append(value)
    pairs = [item for item in items if isinstance(item, tuple)]
    return dict(pairs) if pairs and len(pairs) == len(items) else items


class Lighttpd:
    """lighttpd as its configuration says; `problems` are what could not be read of it."""

    name = "lighttpd"

    def __init__(self, file: str, text: str, problems: Tuple[str, ...] = ()) -> None:
        self.file, self.problems, self.running = file, problems, False
        self._blocks = blocks(text)
        settings = self._blocks[0].settings
        self.user, self.group = settings.get("server.username", ""), settings.get("server.groupname", "")
        self._redirects = any("url.redirect" in block.settings and ('HTTP["scheme"]', "==", "http") in block.conditions
                              for block in self._blocks)
        self.sites: List[Site] = []
        for block in self._blocks:
            if not block.conditions or {ROOT, HANDLERS, "ssl.engine"} & set(block.settings):
                for site in self._sites(block):
                    if site not in self.sites:
                        self.sites.append(site)

    def _sites(self, block: Block) -> Iterator[Site]:
        settings: Dict[str, Any] = {}
        for other in self._blocks:
            if other.conditions == block.conditions[:len(other.conditions)]:
                settings.update(other.settings)
        names = tuple(value for key, test, value in block.conditions if key == 'HTTP["host"]' and test == "==")
        for pattern, hosts in _pairs(settings.get(HANDLERS)):
            yield self._site(settings, names, pattern, hosts)

    def _site(self, settings: Dict[str, Any], names: Tuple[str, ...], pattern: str,
              hosts: List[Dict[str, Any]]) -> Site:
        plain = settings.get("ssl.engine") != "enable" and not self._redirects
        return Site("lighttpd", '%s (fastcgi.server "%s")' % (self.file, pattern), names, plain,
                    str(settings.get(ROOT, "")).rstrip("/"), tuple(filter(None, map(_address, hosts))), PARAMS,
                    r"^(.+?%s)(/.*)$" % re.escape(pattern) if pattern.startswith(".") else "",
                    spawned=any("bin-path" in host for host in hosts))

    def find(self, host: str, path: str) -> Tuple[Optional[Site], str, str]:
        """(site, path, reason): the site that gets `path` (an index file for a directory), or why none does."""
        settings: Dict[str, Any] = {}
        facts = {'HTTP["host"]': host, 'HTTP["url"]': path, 'HTTP["scheme"]': "http"}
        for block in self._blocks:
            if all(key in facts and _TESTS[test](facts[key], value) for key, test, value in block.conditions):
                settings.update(block.settings)
        root = str(settings.get(ROOT, "")).rstrip("/")
        if path.endswith("/"):
            path = next((path + name for name in settings.get("index-file.names", ())
                         if os.path.isfile(root + path + name)), path)
        for pattern, hosts in _pairs(settings.get(HANDLERS)):
            if path.startswith(pattern) if pattern.startswith("/") else re.search(re.escape(pattern) + "(/|$)", path):
                return self._site(settings, (host,) if host else (), pattern, hosts), path, ""
        return None, path, "no fastcgi.server of %s takes %s, so lighttpd sends it as a plain file, or 404" % (
            self.file, path)


def _pairs(handlers: Any) -> Iterator[Tuple[str, List[Dict[str, Any]]]]:
    """(extension or prefix, its hosts); lighttpd takes a list or a table of hosts."""
    for pattern, hosts in (handlers.items() if isinstance(handlers, dict) else ()):
        members = hosts.values() if isinstance(hosts, dict) else hosts if isinstance(hosts, list) else ()
        yield pattern, [host for host in members if isinstance(host, dict)]


def _address(host: Dict[str, Any]) -> str:
    if "socket" in host:
        # mod_fastcgi numbers the sockets of the processes that it starts.
        return str(host["socket"]) + "-0" * ("bin-path" in host)
    return "%s:%s" % (host.get("host") or "127.0.0.1", host["port"]) if "port" in host else ""
