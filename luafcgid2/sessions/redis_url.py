"""The address of a Redis server: from the text of SessionStore to what a connection needs.

In: `redis://[[user]:password@]host[:port][/db]`, `rediss://` (TLS, the same) or
`unix://[[user]:password@]/path/to/socket`, each with options behind `?`.  Out: an `Address`, or ConfigError.
redis_store.py calls it.  It opens nothing and does not need the redis package.  The password is in
`arguments` only: no message and no name holds it.
"""
from __future__ import annotations

import math
import os
import re
import socket
from typing import Any, Callable, Dict, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from ..errors import ConfigError

TCP, TLS, UNIX = "redis", "rediss", "unix"
PORT = 6379
TIMEOUT = 2.0
PREFIX = "luafcgid2"
# A connection that a firewall forgot is found dead after about a minute and a half, not after two hours.
ALIVE = {getattr(socket, name): value for name, value in
         (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)) if hasattr(socket, name)}


class Address(NamedTuple):
    """`kind` is TCP, TLS or UNIX; `arguments` go to the connection class of that kind.

    `name` goes into messages; `prefix` begins the name of every key.
    """

    kind: str
    arguments: Dict[str, Any]
    name: str
    prefix: bytes


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and 0.05 <= seconds <= 60):
        raise ValueError("must be 0.05 to 60 seconds")
    return seconds


def _prefix(text: str) -> str:
    # Without colons inside, no key of one prefix can be a key of another.
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}:?", text):
        raise ValueError("must be 1 to 64 letters, digits, dots, - or _")
    return text.rstrip(":")


def _db(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise ValueError("must be the number of a database")
    return int(text)


def _file(text: str) -> str:
    if not os.path.isabs(text):
        raise ValueError("must be a file's absolute path")
    return text


def _verify(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError('must be "yes" or "no"')
    return text == "yes"


# Option behind "?" -> what reads its value, and which kinds of address know it.
OPTIONS: Dict[str, Any] = {
    "timeout": (_seconds, (TCP, TLS, UNIX)), "prefix": (_prefix, (TCP, TLS, UNIX)), "db": (_db, (UNIX,)),
    "ca": (_file, (TLS,)), "cert": (_file, (TLS,)), "key": (_file, (TLS,)), "verify": (_verify, (TLS,)),
}


def parse(url: str) -> Address:
    """The address that `url` names.

    Options: `timeout` in seconds (2) for connecting and for each answer; `prefix` (luafcgid2), so that
    several sites share a server; for unix `db`; for TLS `ca`, `cert` and `key` (PEM files) and `verify=no`,
    which lets anybody pass for the server.  Raises ConfigError, whose message hides user and password.
    """
    try:
        return _parse(url)
    except ValueError as error:
        raise ConfigError("SessionStore %s: %s" % (hidden(url), error)) from None


def hidden(url: str) -> str:
    """`url` without user and password, for messages."""
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.rpartition("@")[2]


def _parse(url: str) -> Address:
    if "#" in url:
        raise ValueError('"#" must be written %23')
    parts = urlsplit(url)
    options = _options(parts.scheme, parts.query)
    user, colon, password = parts.netloc.rpartition("@")[0].partition(":")
    timeout = options.get("timeout", TIMEOUT)
    arguments: Dict[str, Any] = {
        "username": unquote(user) or None, "password": unquote(password) or None, "socket_timeout": timeout,
    }
    if user and not colon:
        raise ValueError('a password stands between ":" and "@"')
    find: Callable[..., str] = _unix if parts.scheme == UNIX else _tcp
    name = find(parts, options, arguments)
    if parts.scheme == TLS:
        _tls(options, arguments)
    return Address(parts.scheme, arguments, name, options.get("prefix", PREFIX).encode() + b":")


def _options(kind: str, query: str) -> Dict[str, Any]:
    known = [name for name, (_, kinds) in OPTIONS.items() if kind in kinds]
    found: Dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
        if name not in known:
            raise ValueError("option %r is not known; known are %s" % (name, ", ".join(known)))
        try:
            found[name] = OPTIONS[name][0](text)
        except ValueError as error:
            raise ValueError("%s=%s: %s" % (name, text, error)) from None
    return found


def _unix(parts: Any, options: Dict[str, Any], arguments: Dict[str, Any]) -> str:
    path = unquote(parts.path)
    if parts.netloc.rpartition("@")[2] or not os.path.isabs(path) or path.endswith("/"):
        raise ValueError("must name a socket by its absolute path, as in unix:///run/redis/redis-server.sock")
    arguments.update(path=path, db=options.get("db", 0))
    return path


def _tcp(parts: Any, options: Dict[str, Any], arguments: Dict[str, Any]) -> str:
    host, port = parts.hostname, parts.port or PORT
    if not host:
        raise ValueError("must name a host, as in %s://redis.example.org:6379/0" % parts.scheme)
    arguments.update(host=host, port=port, db=_db(parts.path.strip("/") or "0"), socket_keepalive=True,
                     socket_connect_timeout=arguments["socket_timeout"], socket_keepalive_options=ALIVE)
    return "%s:%d" % ("[%s]" % host if ":" in host else host, port)


def _tls(options: Dict[str, Any], arguments: Dict[str, Any]) -> None:
    if ("cert" in options) != ("key" in options):
        raise ValueError("cert and key go together")
    verify = options.get("verify", True)
    # Said aloud: older clients do not check the host's name of themselves.
    arguments.update(ssl_cert_reqs="required" if verify else "none", ssl_check_hostname=verify,
                     ssl_ca_certs=options.get("ca"), ssl_certfile=options.get("cert"),
                     ssl_keyfile=options.get("key"))
