"""The listener: the one socket that the workers accept from.

In: the text of `Listen` (a unix path, `:port`, `*:port`, `host:port`, `[v6]:port`, `fd:0` or `stdin`,
`systemd`), or a socket that the parent process left open: descriptor 0 (FastCGI 1.0, section 2.2: spawn-fcgi,
lighttpd's bin-path) or those of LISTEN_FDS/LISTEN_PID (sd_listen_fds(3)).  Out: a `Listener` whose `socket`
listens, does not block and is closed on exec.  The master opens it before it forks.  This module accepts no
connection, and removes no socket file but its own or one that nobody listens on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import stat
import time
from typing import Any, NamedTuple, Optional, Tuple

from . import privileges, socketfile
from .errors import ConfigError, ListenError

UNIX_PATH_MAX = 107             # bytes: sun_path of unix(7) less its terminating zero
SYSTEMD_FIRST_FD = 3            # SD_LISTEN_FDS_START
SOMAXCONN_FILE = "/proc/sys/net/core/somaxconn"


class Address(NamedTuple):
    """Where to listen.  kind: "unix" (path), "tcp" (host, port), "fd" (fd) or "systemd"."""

    kind: str
    path: str = ""
    host: str = ""
    port: int = 0
    fd: int = -1

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix socket {self.path}"
        if self.kind == "tcp":
            host = f"[{self.host}]" if ":" in self.host else self.host or "*"
            return f"TCP {host}:{self.port}"
        return f"inherited descriptor {self.fd}" if self.kind == "fd" else "systemd's socket"


def parse(text: str) -> Address:
    """Read a `Listen` value; ListenError names the value and what is allowed.

    The forms are libfcgi's (no colon: a unix path; else host:port, IPv4 when the host is empty or `*`), plus
    `[v6]:port`, a `unix:` prefix as nginx writes it, and the words for inherited sockets.
    """
    if text == "systemd":
        return Address("systemd")
    if text == "stdin":
        return Address("fd", fd=0)
    head, colon, tail = text.rpartition(":")
    if head == "fd" and tail.isdigit():
        return Address("fd", fd=int(tail))
    if text.startswith("unix:"):
        text, colon = text[len("unix:"):], ""
    if not text or "\0" in text or text.isdigit():
        raise ListenError(f"Listen = {text!r}: write a path, ':port', 'host:port' or '[v6]:port'")
    if "/" in text or not colon:
        length = len(os.fsencode(os.path.abspath(text)))
        if length > UNIX_PATH_MAX:
            raise ListenError(f"Listen = {text!r}: a unix socket's path of {length} bytes is too long; "
                              f"at most {UNIX_PATH_MAX} are allowed")
        return Address("unix", path=os.path.abspath(text))
    bracketed = head.startswith("[") and head.endswith("]")
    if not (tail.isdigit() and int(tail) <= 65535):
        raise ListenError(f"Listen = {text!r}: {tail!r} is not a port; 0 to 65535 are allowed")
    if ":" in head and not bracketed:
        raise ListenError(f"Listen = {text!r}: write an IPv6 address in brackets: [{head}]:{tail}")
    host = head[1:-1] if bracketed else head
    return Address("tcp", host="" if host == "*" else host, port=int(tail))


class Listener:
    """A listening socket and what must be removed with it.

    socket: listening, non-blocking, close-on-exec.  path: the socket file that is ours to remove, or "".
    """

    def __init__(self, sock: socket.socket, text: str, path: str = "") -> None:
        self.socket = sock
        self._text = text
        self.own(path)
        sock.setblocking(False)
        sock.set_inheritable(False)

    def describe(self) -> str:
        """What to tell an administrator, e.g. "unix socket /run/x.sock"."""
        return self._text

    def own(self, path: str) -> None:
        """Remove the socket file `path` at the end, as it is now; "" for none."""
        self.path = path
        self._file = socketfile.identify(path) if path else None

    def close(self, unlink: bool) -> None:
        """Close this process's descriptor; unlink: also remove the socket file, if it still is ours.

        A file that cannot be removed (the directory is not ours any more after dropping privileges) stays:
        nobody listens on it, so the next start replaces it.
        """
        path, self.path = self.path, ""
        # While our socket is open its inode cannot be used anew; later the number may be another file's.
        if unlink and path and self.socket.fileno() >= 0:
            with contextlib.suppress(OSError):
                if socketfile.identify(path) == self._file:
                    os.unlink(path)
        self.socket.close()


def open_listener(config: Any, logger: logging.Logger) -> Listener:
    """Open what `config` asks for, or take what the parent process left; ListenError when that fails.

    An inherited socket goes before `Listen`, with a line in the log.  Uses config.listen, listen_mode,
    listen_owner, listen_group, listen_backlog, allowed_clients, user and group.
    """
    address = parse(config.listen)
    inherited = _inherited(address, logger)
    if inherited is not None:
        listener = inherited
        if address.kind in ("unix", "tcp"):
            logger.info("listening on the %s; Listen = %r is not used", listener.describe(), config.listen)
        return listener
    if address.kind == "unix":
        listener = _open_unix(address, config, logger)
    else:
        listener = _open_tcp(address, config)
        if not address.host and not config.allowed_clients:
            logger.warning("%s: every machine that reaches this port can run any script with any parameters; listen "
                           "on an address or a unix socket that only the web server reaches, or set AllowedClients",
                           address)
    limit = _somaxconn()
    if config.listen_backlog > limit:
        logger.warning("ListenBacklog = %d: the kernel cuts it to %d (net.core.somaxconn)",
                       config.listen_backlog, limit)
    return listener


def adopt(fd: int, text: str) -> Listener:
    """The listener that the master before us had as descriptor `fd` and described as `text`; its socket file, if
    there is one, is not ours before `Listener.own`.  ListenError when that is none."""
    if not is_listening(fd):
        raise ListenError(f"the descriptor {fd} that the running master passed is not a listening stream socket")
    return Listener(socket.socket(fileno=fd), text)


def _somaxconn() -> int:
    try:
        with open(SOMAXCONN_FILE, "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 2 ** 31


# --- inherited sockets

def is_listening(fd: int) -> bool:
    """Whether descriptor `fd` is a stream socket that listens."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        with socket.socket(fileno=os.dup(fd)) as sock:
            return (sock.type == socket.SOCK_STREAM
                    and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1)
    except OSError:
        return False


def _inherited(address: Address, logger: logging.Logger) -> Optional[Listener]:
    count = _systemd_count()
    if address.kind == "systemd" and not count:
        raise ListenError("Listen = 'systemd': the environment holds no LISTEN_FDS for this process")
    if count:
        if count > 1:
            logger.warning("systemd passed %d sockets; only the first is used", count)
        for extra in range(SYSTEMD_FIRST_FD + 1, SYSTEMD_FIRST_FD + count):
            os.set_inheritable(extra, False)
        return _take(SYSTEMD_FIRST_FD, "socket passed by systemd")
    if address.kind == "fd":
        return _take(address.fd, f"inherited descriptor {address.fd}")
    return _take(0, "inherited descriptor 0") if is_listening(0) else None


def _systemd_count() -> int:
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    return int(count) if pid == str(os.getpid()) and count.isdigit() else 0


def _take(fd: int, text: str) -> Listener:
    if not is_listening(fd):
        raise ListenError(f"the {text} is not a listening stream socket")
    sock = socket.socket(fileno=fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, SYSTEMD_FIRST_FD))
    # Programs that scripts start must not inherit the listener under its old number.
    if fd <= 2:
        with open(os.devnull, "r+b", buffering=0) as null:
            os.dup2(null.fileno(), fd)
    else:
        os.close(fd)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Listener(sock, f"{text} ({_name(sock)})")


def _name(sock: socket.socket) -> str:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix socket {os.fsdecode(name)}"
    return str(Address("tcp", host=name[0], port=name[1]))


# --- TCP

def _open_tcp(address: Address, config: Any) -> Listener:
    family = socket.AF_INET6 if ":" in address.host else (0 if address.host else socket.AF_INET)
    try:
        found = socket.getaddrinfo(address.host or None, address.port, family, socket.SOCK_STREAM, 0,
                                   socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ListenError(f"{address}: {error.strerror or error}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it: no setsockopt per connection.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _bind(sock, where)
        sock.listen(config.listen_backlog)
    except OSError as error:
        sock.close()
        raise ListenError(f"{address}: {error.strerror or error}") from error
    return Listener(sock, _name(sock))


def _bind(sock: socket.socket, where: Tuple[Any, ...]) -> None:
    """Bind; a port in use may be that of workers that have yet to notice that their master was killed."""
    deadline = time.monotonic() + socketfile.ORPHAN_SECONDS
    while True:
        try:
            sock.bind(where)
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
        time.sleep(socketfile.STEP_SECONDS)


# --- unix sockets

def _open_unix(address: Address, config: Any, logger: logging.Logger) -> Listener:
    mode, uid, gid = _rights(config)
    sock = socketfile.bind(address.path, mode, uid, gid, config.listen_backlog, logger)
    return Listener(sock, str(address), address.path)


def _rights(config: Any) -> Tuple[int, int, int]:
    try:
        mode = int(str(config.listen_mode), 8)
    except ValueError:
        raise ListenError(f"ListenMode = {config.listen_mode!r}: write octal digits, as '0660'") from None
    try:
        # Without an owner of its own the socket belongs to whom the workers become.
        identity = privileges.resolve(config.user, config.group)
        uid, gid = (identity.uid, identity.gid) if identity else (-1, -1)
        if config.listen_owner:
            uid = privileges.user_id(config.listen_owner)
        if config.listen_group:
            gid = privileges.group_id(config.listen_group)
    except ConfigError as error:
        raise ListenError(str(error)) from error
    return mode, uid, gid
