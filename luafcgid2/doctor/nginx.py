"""Reads nginx's configuration: which location hands which requests to a FastCGI server, and how.

In: the path of nginx.conf, or the tree that crossplane makes of it.  Out: an `Nginx`: its user, its `Site`s,
and what it does with a path.  machine.py makes it, the checks ask it.  The rules are nginx's: fastcgi_param is
inherited only where a level has none of its own, and a location is chosen as its documentation says
(ngx_http_core_module, "location").  Rewrites, maps and variables of the user's own are not followed.
"""
from __future__ import annotations

import os
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from . import Site, expand, search, variables
from ..errors import ConfigError

Tree = List[Dict[str, Any]]
PREFIX = "/usr/share/nginx"     # Debian's --prefix: what a relative root is relative to
BUFFER = 4096                   # fastcgi_buffer_size: one page
REDIRECTS = 5
_SIZES = {"k": 1024, "m": 1 << 20}


class Level(NamedTuple):
    """What a block hands down to the blocks in it."""

    root: str = PREFIX + "/html"
    params: Tuple[Tuple[str, str], ...] = ()
    indexes: Tuple[str, ...] = ("index.html",)
    split: str = ""
    header_room: int = BUFFER


class Location:
    """A location, an `if`, or the server block itself (modifier "server")."""

    def __init__(self, entry: Dict[str, Any], level: Level) -> None:
        words = entry["args"]
        self.modifier = words[0] if len(words) > 1 else ""
        self.pattern = words[-1] if words else ""
        if entry["directive"] != "location":
            self.modifier, self.pattern = entry["directive"], ""
        self.place = "%s:%d" % (entry["file"], entry["line"])
        self.title = " ".join([entry["directive"], *words])
        self.block: Tree = entry.get("block", [])
        self.level = _descend(level, self.block)
        self.inner = [Location(each, self.level) for each in self.block if each["directive"] in ("location", "if")]

    def first(self, name: str) -> Tuple[str, ...]:
        """The arguments of the directive `name` in this block itself; () without it."""
        return next((tuple(each["args"]) for each in self.block if each["directive"] == name), ())

    def matches(self, path: str) -> bool:
        """Whether this regular expression location takes `path`."""
        return bool(search(self.pattern, path, self.modifier == "~*"))

    def choose(self, path: str) -> Location:
        """The location in here that nginx picks for `path`; this one when none does."""
        prefix: Optional[Location] = None
        for each in self.inner:
            if each.modifier == "=" and each.pattern == path:
                return each
            if (each.modifier in ("", "^~") and path.startswith(each.pattern)
                    and len(each.pattern) > len(prefix.pattern if prefix else "")):
                prefix = each
        deeper = prefix.choose(path) if prefix else None
        if deeper and (deeper is not prefix or prefix.modifier == "^~"):
            return deeper
        for each in self.inner:
            if each.modifier in ("~", "~*") and each.matches(path):
                return each.choose(path)
        return deeper or self


def _descend(level: Level, block: Tree) -> Level:
    params = []
    for entry in block:
        name, words = entry["directive"], entry["args"]
        if name in ("root", "alias") and words:
            level = level._replace(root=os.path.join(PREFIX, words[0]).rstrip("/") or "/")
        elif name == "index":
            level = level._replace(indexes=tuple(words))
        elif name == "fastcgi_split_path_info" and words:
            level = level._replace(split=words[0])
        elif name == "fastcgi_buffer_size" and words:
            level = level._replace(header_room=_size(words[0]))
        elif name == "fastcgi_param" and len(words) > 1:
            params.append((words[0], words[1]))
    return level._replace(params=tuple(params)) if params else level


def _size(text: str) -> int:
    number = text.rstrip("kKmM")
    return int(number) * _SIZES.get(text[-1:].lower(), 1) if number.isdigit() else BUFFER


class ServerBlock(Location):
    """One `server { }`: a root location with names and ports."""

    def __init__(self, entry: Dict[str, Any], level: Level) -> None:
        super().__init__(entry, level)
        self.names = tuple(name for each in self.block if each["directive"] == "server_name" for name in each["args"])
        listens = [each["args"] for each in self.block if each["directive"] == "listen"] or [["80"]]
        secure = "on" in self.first("ssl")
        self.plain = not secure and any("ssl" not in words and "quic" not in words for words in listens)
        self.default = any("default_server" in words for words in listens)

    def takes(self, host: str) -> bool:
        """Whether one of the names is `host`, or stands for it."""
        for name in self.names:
            if name == host or name[:1] == "." and (host == name[1:] or host.endswith(name)):
                return True
            if name.startswith("*.") and host.endswith(name[1:]) or name.endswith(".*") and host.startswith(name[:-1]):
                return True
            if name.startswith("~") and search(name[1:], host):
                return True
        return False


class Nginx:
    """nginx as its configuration says; `problems` are what could not be read of it."""

    name = "nginx"

    def __init__(self, file: str, tree: Tree, problems: Tuple[str, ...] = ()) -> None:
        self.file, self.problems, self.running = file, problems, False
        user = next((each["args"] for each in tree if each["directive"] == "user"), ())
        self.user, self.group = (*user[:2], "", "")[:2]
        self._upstreams: Dict[str, Tuple[str, ...]] = {}
        self.blocks: List[ServerBlock] = []
        for http in (each for each in tree if each["directive"] == "http"):
            level = _descend(Level(), http["block"])
            for entry in http["block"]:
                if entry["directive"] == "upstream":
                    self._upstreams[entry["args"][0]] = tuple(
                        address_of(each["args"][0]) for each in entry["block"] if each["directive"] == "server")
                elif entry["directive"] == "server":
                    self.blocks.append(ServerBlock(entry, level))
        self.sites = [site for block in self.blocks for site in self._sites(block, block)]

    def _sites(self, block: ServerBlock, location: Location) -> List[Site]:
        own = [self._site(block, location)] if location.first("fastcgi_pass") else []
        return own + [site for inner in location.inner for site in self._sites(block, inner)]

    def _site(self, block: ServerBlock, location: Location) -> Site:
        target, level = location.first("fastcgi_pass")[0], location.level
        return Site("nginx", "%s (%s)" % (location.place, location.title), block.names, block.plain, level.root,
                    self._upstreams.get(target) or (address_of(target),), dict(level.params), level.split,
                    level.header_room)

    def find(self, host: str, path: str) -> Tuple[Optional[Site], str, str]:
        """(site, path, reason): the site that gets `path` and the path after internal redirects, or why none
        does.  Without a host the first server block with such a site is taken."""
        named = [block for block in self.blocks if host and block.takes(host)]
        default = [block for block in self.blocks if block.default]
        candidates = named[:1] or (default or self.blocks)[:1] if host else self.blocks
        reason = "%s has no server block" % self.file
        for block in candidates:
            site, found, said = self._follow(block, path)
            if site:
                return site, found, ""
            reason = said if block is candidates[0] else reason
        return None, path, reason

    def _follow(self, block: ServerBlock, path: str) -> Tuple[Optional[Site], str, str]:
        for _ in range(REDIRECTS):
            location = block.choose(path)
            where = "%s (%s)" % (location.place, location.title)
            if location.first("return"):
                return None, path, "%s answers by itself: return %s" % (where, " ".join(location.first("return")))
            site = self._site(block, location) if location.first("fastcgi_pass") else None
            target, said = _try_files(location, site or _file_site(block, location), path)
            if said:
                return None, path, "%s: %s" % (where, said)
            if target == path and path.endswith("/") and not site:
                target = _index(location, path)
            if target == path:
                return site, path, "" if site else (
                    "%s has no fastcgi_pass, so nginx sends %s as a plain file, or 404" % (where, path))
            path = target
        return None, path, "%s leads in a circle" % block.place


def _file_site(block: ServerBlock, location: Location) -> Site:
    return Site("nginx", "", block.names, block.plain, location.level.root, (), {}, location.level.split)


def _index(location: Location, path: str) -> str:
    for name in location.level.indexes:
        if os.path.isfile(location.level.root + path + name):
            return path + name
    return path


def _try_files(location: Location, site: Site, path: str) -> Tuple[str, str]:
    """(the path to go on with, why the request ends here)."""
    words = location.first("try_files")
    if not words:
        return path, ""
    values = variables(site, path)
    for word in words[:-1]:
        name = expand(word, values)
        if name.endswith("/") and os.path.isdir(site.root + name) or os.path.isfile(site.root + name):
            return name, ""
    last = expand(words[-1], values)
    if last.startswith("="):
        return path, "try_files finds no %s and answers %s" % (site.root + expand(words[0], values), last[1:])
    return last.partition("?")[0] or path, ""


def address_of(text: str) -> str:
    """An address as client.connect takes it, from nginx's `unix:/path`, `localhost:9000` or `host:9000`."""
    if text.startswith("unix:"):
        return text[len("unix:"):]
    return "127.0.0.1:" + text[len("localhost:"):] if text.startswith("localhost:") else text


def read(file: str) -> Nginx:
    """The nginx of a configuration file.  ConfigError when the reader, crossplane, is not installed."""
    try:
        import crossplane
    except ImportError:
        raise ConfigError("%s is not read: the Python package crossplane is not installed" % file) from None
    # It knows how many words a directive takes; where it errs, by its age, what it read must not be lost.
    payload = crossplane.parse(file, combine=True, check_ctx=False, check_args=False)
    strict = crossplane.parse(file, combine=True, check_ctx=False)
    problems = tuple("%s: %s" % (each["file"], each["error"]) for each in strict["errors"] or payload["errors"])
    return Nginx(file, payload["config"][0]["parsed"] if payload["config"] else [], problems)
