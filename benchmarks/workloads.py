"""What the compared servers are asked for: the table of workloads.

In: nothing.  Out: WORKLOADS by name, and the places of one: a server, a variant of it, and a way to connect.  bench.py
runs them, report.py and aims.py name them.  A server that cannot do a workload is named there with the reason.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Sequence, Tuple

from servers import SERVERS, Server

KEEP = "-keep"
OURS = "luafcgid2"
CONNECTIONS = 16
# nginx sends 19 variables and HTTP_HOST; with these headers there are 30.
HEADERS = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
           "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
           "Accept-Language": "en-GB,en;q=0.7,de;q=0.3", "Accept-Encoding": "identity", "Cookie": "theme=dark; seen=1",
           "Referer": "http://localhost/index.lua", "Cache-Control": "max-age=0", "Upgrade-Insecure-Requests": "1",
           "DNT": "1", "X-Forwarded-For": "192.0.2.1"}
ORDER = b'{"customer": "Ada", "items": [%s]}' % b", ".join(
    b'{"name": "article %d", "price": %d, "count": %d}' % (number, number * 3 + 1, number % 4 + 1)
    for number in range(20))
ONE_STATE = "serves one application in one Lua state a process"
NO_JSON, NO_SESSIONS = "C brings no JSON", "brings no sessions"
ONE_EACH = "a process serves one connection: idle ones that are kept hold all of them"


@dataclass(frozen=True)
class Variant:
    """One way in which a server is measured.  `settings`: lines of luafcgid2's configuration.  `idle`: connections
    that only hold on beside the load.  `many`: how many scripts are asked for in turn.  `alone`: without the slow
    requests of the workload, and with as long a wait of the client in their place."""

    key: str = ""
    title: str = ""
    settings: str = ""
    idle: int = 0
    many: int = 0
    alone: bool = False


@dataclass(frozen=True)
class Workload:
    """`script` is what is asked for, of the name of the workload unless it says otherwise.  `expects`: a regular
    expression for the whole answer.  `modes`: "" opens a connection for each request, KEEP keeps them.  `ours` and
    `others`: variants of luafcgid2 and of all others.  `without`: servers that are left out, with the reason.
    `keep_others`: whether others than luafcgid2 are measured with kept connections, too.  `on_request`: it is not one
    of --all."""

    name: str
    title: str
    expects: bytes
    script: str = ""
    slow: str = ""
    modes: Tuple[str, ...] = ("",)
    method: str = "GET"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    connections: int = CONNECTIONS
    ours: Tuple[Variant, ...] = (Variant(),)
    others: Tuple[Variant, ...] = (Variant(),)
    without: Mapping[str, str] = field(default_factory=dict)
    keep_others: bool = True
    on_request: bool = False

    @property
    def asked(self) -> str:
        """The name of the script."""
        return self.script or self.name

    def servers(self) -> List[Server]:
        """Those that run it."""
        return [server for key, server in SERVERS.items()
                if server.only in ("", self.name) and key not in self.without]


@dataclass(frozen=True)
class Place:
    """What is measured under one name: a server as `variant`, with kept connections or not."""

    server: Server
    variant: Variant
    keep: bool

    @property
    def name(self) -> str:
        """Unique within the workload; part of its URL."""
        return self.server.key + ("-" + self.variant.key if self.variant.key else "") + (KEEP if self.keep else "")

    @property
    def title(self) -> str:
        """For people."""
        return self.server.title + (", " + self.variant.title if self.variant.title else "") + (
            ", keep_conn" if self.keep else "")


def places(workload: Workload, chosen: Sequence[Server]) -> List[Place]:
    """All that is measured of `workload` with these servers."""
    return [Place(server, variant, keep == KEEP) for server in chosen for keep in workload.modes
            for variant in (workload.ours if server.key == OURS else workload.others)
            if not keep or server.keeps and (workload.keep_others or server.key == OURS)]


def _only_ours(reason: str) -> Dict[str, str]:
    return {key: reason for key in SERVERS if key not in (OURS, "redis")}


def _without(reason: str, *keys: str) -> Dict[str, str]:
    return {key: reason for key in keys}


WORKLOADS: Dict[str, Workload] = {workload.name: workload for workload in (
    Workload("hello", "Hello, world!", b"Hello, world!", modes=("", KEEP),
             ours=(Variant(), Variant("python", "without the fast path", "FastPath = false"))),
    Workload("threads", "Hello, world!, by more or fewer threads", b"Hello, world!", script="hello", modes=("", KEEP),
             ours=(Variant("1-thread", "1 thread a worker", "WorkerThreads = 1"),
                   Variant("", "4 threads a worker"),
                   Variant("16-threads", "16 threads a worker", "WorkerThreads = 16")),
             without=_only_ours("has no threads")),
    Workload("versions", "Hello, world!, by the version of Lua", b"Hello, world!", script="hello",
             ours=tuple(Variant(key, "Lua " + version if key != "jit" else "LuaJIT", 'LuaVersion = "%s"' % version)
                        for key, version in (("", "5.3"), ("51", "5.1"), ("54", "5.4"), ("55", "5.5"), ("jit", "jit"))),
             without=_only_ours("has one version of Lua")),
    Workload("env", "30 variables of the request, all read", rb"30 variables, [0-9]{3} bytes", headers=HEADERS,
             modes=("", KEEP)),
    Workload("page", "A page of 64 KB in 2,000 pieces", rb"(<li>[^<]{23}</li>\n){2000}"),
    Workload("json", "JSON: an order of 20 items decoded, an answer encoded",
             rb'\{("(total|count)":(1550|20)(\.0)?,?){2}\}', method="POST", body=ORDER,
             headers={"Content-Type": "application/json"}, without=_without(NO_JSON, "c")),
    Workload("session", "A session variable read and written", rb"visits: [0-9]+",
             without=_without(NO_SESSIONS, "c", "uwsgi", "uwsgi-fcgi", "wsapi", "nginx")),
    Workload("post", "POST of 1 MB, read by the script", rb"1048576", method="POST", body=b"0123456789abcdef" * 65536,
             headers={"Content-Type": "application/octet-stream"}),
    Workload("download", "Download of 10 MB", rb"(?:0123456789abcdef){655360}"),
    Workload("lru", "1,000 scripts of 100 lines in turn", rb"Hello, world!",
             ours=(Variant("hit", "10 scripts, always kept", many=10), Variant("", "1,000 scripts", many=1000)),
             others=(Variant("", "1,000 scripts", many=1000),),
             without={"c": "has no scripts", **_without(ONE_STATE, "uwsgi", "uwsgi-fcgi")}),
    Workload("idle", "Beside idle connections", b"Hello, world!", script="hello", modes=("", KEEP),
             ours=tuple(Variant(str(idle or ""), "{:,} idle connections".format(idle), "MaxConnections = 8192", idle)
                        for idle in (0, 100, 1000, 5000)),
             without={**_only_ours(ONE_EACH), "nginx": "is the web server, whose clients are another measure"}),
    Workload("mixed", "Hello, world! beside a script that waits 100 ms, 10 to 1", b"Hello, world!", script="hello",
             slow="sleep", modes=("", KEEP), connections=6, keep_others=False,
             ours=(Variant("alone", "alone", alone=True), Variant()),
             others=(Variant("alone", "alone", alone=True), Variant()),
             without=_without("has no scripts", "c")),
    Workload("cpu", "A script that computes (spectral norm of 100)", rb"1\.274219991", connections=4,
             ours=(Variant("1-thread", "1 worker of 1 thread", "Workers = 1\nWorkerThreads = 1"),
                   Variant("2-threads", "1 worker of 2 threads", "Workers = 1\nWorkerThreads = 2"),
                   Variant("jit", "1 worker of 1 thread, LuaJIT",
                           'Workers = 1\nWorkerThreads = 1\nLuaVersion = "jit"')),
             without=_without("has no scripts", "c")),
    Workload("footprint", "At rest", b"", script="hello", without=_only_ours("not looked at")),
    Workload("table", "A page of 100 rows, escaped", rb"(?s)<!DOCTYPE html>.*</table>\n", on_request=True,
             without=_without("not written for it", "c", "uwsgi", "uwsgi-fcgi", "wsapi", "nginx")),
    Workload("large", "1 MB in one piece", rb"(?:0123456789abcdef){65536}", on_request=True,
             without=_without("not written for it", "c", "uwsgi", "uwsgi-fcgi", "wsapi", "nginx")),
)}
