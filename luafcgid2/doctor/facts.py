"""What the checks look at: the configuration, the running server, the web servers, and answers to test requests.

In: the path of config.lua and what was asked on the command line.  Out: `Facts`, which `gather` fills once; a
test may fill one by hand.  report.py calls it.  Nothing is judged here, and a part that cannot be had is left
empty with the reason beside it.
"""
from __future__ import annotations

import contextlib
import json
import os
import subprocess
from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .. import config as configuration
from .. import listener, pidfile, privileges, rerun
from ..check import check
from ..errors import ConfigError, ListenError
from ..listener import Address
from ..pidfile import Probe
from ..privileges import Identity
from . import Site, machine, request_params
from .visitor import Outcome, ask, user_name

TEST_PATH = "/luafcgid2-doctor-asks.lua"
MODULES_SECONDS = 60.0


class Asked(NamedTuple):
    """The command line: `url` is a path or an address with a host, `script` a file; `seconds` is the longest
    wait for an answer."""

    url: str = ""
    script: str = ""
    user: str = ""
    nginx: str = ""
    lighttpd: str = ""
    seconds: float = 5.0


class Visitor(NamedTuple):
    """Whom a test request is sent as: the user of the web server `server` ("" for --user).

    identity: None when this process cannot become anybody; then `user` is who it is.
    """

    user: str
    identity: Optional[Identity]
    server: str = ""


@dataclass
class Facts:
    """See the module's contract.  `error` and its like hold why a part is missing.

    `address` is where the server listens: on what Listen says, or, if `inherited`, elsewhere."""

    config: Any
    asked: Asked = Asked()
    path: str = ""
    error: str = ""
    address: Optional[Address] = None
    inherited: bool = False
    state: Optional[Probe] = None
    state_error: str = ""
    workers: int = 0
    owner: Optional[Identity] = None
    owner_name: str = ""
    servers: List[machine.WebServer] = field(default_factory=list)
    servers_error: str = ""
    visitors: List[Visitor] = field(default_factory=list)
    queue: Optional[Tuple[int, int]] = None
    answers: List[Tuple[Visitor, Outcome]] = field(default_factory=list)
    modules: Dict[str, List] = field(default_factory=dict)
    modules_error: str = ""

    @property
    def running(self) -> bool:
        """Whether the master runs."""
        return self.state is not None and self.state.state == "running"

    @property
    def reader(self) -> str:
        """Whom files are looked at as: the server's user, or who we are if we cannot become them."""
        return self.owner_name if self.owner else user_name(os.geteuid())

    @property
    def target(self) -> str:
        """The listener's address for client.connect; "" when only the parent process knows it."""
        return target_of(self.address)

    @property
    def sites(self) -> List[Site]:
        """Every site of every web server that leads to this server."""
        return [site for server in self.servers for site in server.sites if self.is_ours(site)]

    def is_ours(self, site: Site) -> bool:
        """Whether the site hands its requests to this server, as far as addresses tell."""
        if not self.address or site.spawned:
            return is_about_lua(site)
        return any(same_address(self.address, text) for text in site.addresses)


def target_of(address: Optional[Address]) -> str:
    """An Address as client.connect takes it; "" for an inherited one."""
    if address is None:
        return ""
    host = address.host or "127.0.0.1"
    return address.path or "%s:%d" % ("[%s]" % host if ":" in host else host, address.port)


def is_about_lua(site: Site) -> bool:
    """Whether the site is meant for Lua scripts, by its pattern or by the name of its socket."""
    return "lua" in (site.place.partition(" (")[2] + " ".join(site.addresses)).lower()


def same_address(address: Address, text: str) -> bool:
    """Whether `text`, from a web server's configuration, leads to `address`."""
    if address.kind == "unix":
        return text.startswith("/") and os.path.realpath(text) == os.path.realpath(address.path)
    host, _, port = text.rpartition(":")
    host = {"localhost": "127.0.0.1", "": "127.0.0.1"}.get(host.strip("[]"), host.strip("[]"))
    # B104: these words are compared with, nothing is bound.
    every = ("0.0.0.0", "::", "", "*")  # nosec B104
    return port == str(address.port) and (address.host in (*every, host) or host in every)


def gather(path: str, asked: Asked) -> Facts:
    """Ask the machine.  ConfigError for a --user that does not exist."""
    facts = _configured(path, asked)
    _look_at_server(facts)
    try:
        facts.servers = machine.web_servers(asked.nginx, asked.lighttpd)
    except ConfigError as error:
        facts.servers_error = str(error)
    if not facts.inherited and (facts.address is None or not facts.running and any(
            site.spawned for site in facts.sites)):
        # Listen does not tell, so the web server has to.
        with contextlib.suppress(ListenError):
            facts.address = next((listener.parse(text) for site in facts.sites for text in site.addresses), None)
    facts.visitors = _visitors(facts)
    if facts.address:
        facts.queue = machine.queue(facts.address)
        params = _test_params(facts)
        facts.answers = [(each, ask(each.identity, facts.target, params, asked.seconds)) for each in facts.visitors]
    _try_modules(facts)
    return facts


def _configured(path: str, asked: Asked) -> Facts:
    try:
        facts = Facts(configuration.load(path), asked, path)
        try:
            check(path)
        except (ConfigError, ListenError) as error:
            facts.error = str(error)
    except ConfigError as error:
        try:
            facts = Facts(configuration.load(path, lenient=True), asked, path, str(error))
        except ConfigError:
            facts = Facts(configuration.defaults(), asked, path, str(error))
    try:
        address = listener.parse(facts.config.listen)
        facts.address = address if address.kind in ("unix", "tcp") else None
    except ListenError:
        # check() has said why.
        facts.address = None
    return facts


def _look_at_server(facts: Facts) -> None:
    user = facts.config.user
    try:
        facts.state = pidfile.probe(facts.config.pid_file) if facts.config.pid_file else None
    except OSError as error:
        facts.state_error = "%s: %s" % (facts.config.pid_file, error.strerror)
    if facts.running and facts.state.pid:
        pid = facts.state.pid
        facts.workers = len(machine.children(pid))
        if os.path.exists("/proc/%d" % pid):
            user = user_name(os.stat("/proc/%d" % pid).st_uid)
        _look_where_it_listens(facts, machine.listens(pid))
    facts.owner = _identity(user, facts.config.group)
    facts.owner_name = user or user_name(os.geteuid())


def _look_where_it_listens(facts: Facts, found: List[str]) -> None:
    """`found` is what the kernel says: a parent process, or a change since the start, goes before Listen."""
    own = facts.address
    # A TCP address may be written as a name.
    if not found or own and any(same_address(own, text) or own.kind == "tcp" and text.endswith(":%d" % own.port)
                                for text in found):
        return
    with contextlib.suppress(ListenError):
        facts.address = listener.parse(found[0])
        facts.inherited = True


def _identity(user: str, group: str = "") -> Optional[Identity]:
    """None for an unknown name, too: the checks tell."""
    try:
        return privileges.resolve(user, group)
    except ConfigError:
        return None


def _visitors(facts: Facts) -> List[Visitor]:
    if facts.asked.user:
        wanted = [(facts.asked.user, privileges.resolve(facts.asked.user, ""), "")]
    else:
        wanted = [(server.user, _identity(server.user, server.group), server.name) for server in facts.servers]
        wanted = list({user: (user, identity, name) for user, identity, name in reversed(wanted)}.values())[::-1]
    me = user_name(os.geteuid())
    return [Visitor(user if identity else me, identity, name)
            for user, identity, name in wanted or [(me, None, "")]]


def _test_params(facts: Facts) -> Dict[str, str]:
    """A request that any server answers, if only with 404."""
    if facts.sites:
        return request_params(facts.sites[0], TEST_PATH)
    root = facts.config.script_roots[0] if facts.config.script_roots else "/var/www/html"
    return {"SCRIPT_FILENAME": root + TEST_PATH, "DOCUMENT_ROOT": root, "REQUEST_METHOD": "GET", "QUERY_STRING": ""}


def _try_modules(facts: Facts) -> None:
    wanted = json.dumps([facts.config.lua_version, facts.config.lua_cpath, facts.owner])
    try:
        # B603: a module of ours; what it shall try is data to it.
        done = subprocess.run(rerun.module("luafcgid2.doctor.modules"), input=wanted, text=True,  # nosec B603
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=MODULES_SECONDS, check=False)
        facts.modules = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        facts.modules_error = "Lua %s could not be tried" % facts.config.lua_version
