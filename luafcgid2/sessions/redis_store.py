"""Sessions in Redis or Valkey, shared by all workers of all machines: the connections, and the store on them.

In: the URL out of SessionStore (see redis_url.py), calls of the Store protocol.  Out: the protocol's answers,
or SessionError that names the server.  session.py calls it.  A look-up is one round trip, a commit another
one.  It keeps one connection per thread, made on first use and never carried over a fork; the server removes
what expired.  Each commit is one script there, so that it happens as a whole.

What was acknowledged is in the server's memory; how much of it a power cut costs, its own configuration says
(appendonly, appendfsync).  Needs Redis 6 or any Valkey.  Redis Cluster and Sentinel are not supported: a
session's keys are not in one slot, and a new master is found by the name of the host only.
"""
from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from typing import Any, List, Optional, Tuple

try:
    import redis
except ImportError:
    redis = None  # type: ignore[assignment]

from ..errors import ConfigError, SessionError
from . import Change, Loaded, Store, redis_scripts
from .redis_scripts import Script
from .redis_shared import RedisShared
from .redis_url import TCP, TLS, UNIX, Address, hidden, parse
from .shared_store import SharedStore

CLASSES = {TCP: "Connection", TLS: "SSLConnection", UNIX: "UnixDomainSocketConnection"}
# After a time-out all are refused this long: each thread would wait in its turn, and scripts without a
# session would find no thread.
REST_SECONDS = 1.0


class RedisStore(Store):
    """Sessions in the server that `rest`, what follows the scheme in the URL, names.

    Raises ConfigError if it cannot be understood.
    """

    scheme = TCP

    def __init__(self, rest: str, logger: logging.Logger) -> None:
        url = "%s://%s" % (self.scheme, rest)
        if redis is None:
            raise ConfigError("SessionStore %s: the Python package redis is not installed; "
                              "pip install \"luafcgid2[redis]\", or apt install python3-redis" % hidden(url))
        address = parse(url)
        self._prefix = address.prefix
        self._sessions = address.prefix + b"s:"
        self._server = Server(address)

    def check(self) -> None:
        # A replica, a full or a protected server would answer to PING.
        self._server.call(b"SET", self._prefix + b"check", b"", b"PX", b"1000")

    def load(self, key: bytes, now: int) -> Optional[Loaded]:
        found = self._server.call(b"HGETALL", self._sessions + key)
        # By the version of the protocol it is a table already, or a list.
        fields = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2]))
        return redis_scripts.loaded(fields, key, now)

    def commit(self, change: Change) -> Tuple[str, object]:
        arguments, handle = redis_scripts.commit_arguments(change, self._prefix, secrets.token_bytes(12),
                                                           time.time())
        status = self._server.run(redis_scripts.COMMIT, b"0", *arguments).decode()
        return status, None if status == "gone" else handle

    def sweep(self, now: int, limit: int, every: int) -> int:
        return 0

    def shared(self, max_bytes: int) -> SharedStore:
        """The dictionary; `max_bytes` is not looked at, see redis_shared.py."""
        return RedisShared(self._server, self._prefix)

    def close(self) -> None:
        self._server.close()


class TlsRedisStore(RedisStore):
    """The same over TLS."""

    scheme = TLS


class UnixRedisStore(RedisStore):
    """The same over a unix socket."""

    scheme = UNIX


class Server:
    """Commands to one server, over a connection per thread."""

    def __init__(self, address: Address) -> None:
        self.name = "redis server " + address.name
        self._class = getattr(redis, CLASSES[address.kind])
        self._arguments = address.arguments
        self._local = threading.local()
        self._lock = threading.Lock()
        self._all: List[Any] = []
        self._rest_until, self._problem = 0.0, ""

    def run(self, script: Script, *arguments: bytes, again: bool = True) -> Any:
        """`call` of a script: the number of keys, the keys, other arguments."""
        return self.call(b"EVALSHA", script.sha, *arguments, again=again, source=script.text)

    def call(self, *command: bytes, again: bool = True, source: bytes = b"") -> Any:
        """The answer to one command; SessionError if there is none, or an error.

        A command that a lost connection left unanswered is sent once more, unless `again` is false because it
        must not take effect twice.  `source` is of the script that EVALSHA runs.
        """
        if self._rest_until and time.monotonic() < self._rest_until:
            raise SessionError(self._problem)
        try:
            try:
                return self._exchange(command, again)
            except redis.exceptions.NoScriptError:
                if not source:
                    raise
                return self._exchange((b"EVAL", source) + command[2:], again)
        except (redis.RedisError, OSError, UnicodeError) as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Close the connections of this process; a parent's stay open."""
        own = os.getpid()
        with self._lock:
            closing = [known for known in self._all if known.pid == own]
            self._all = []
            self._local = threading.local()
        for known in closing:
            known.disconnect()

    def _exchange(self, command: Tuple[bytes, ...], again: bool) -> Any:
        connection = self._connection(look=not again)
        try:
            connection.send_command(*command)
            answer = connection.read_response()
        except redis.ConnectionError:
            if not again:
                raise
            self._drop(connection)
            connection = self._connection()
            connection.send_command(*command)
            answer = connection.read_response()
        self._rest_until = 0.0
        return answer

    def _connection(self, look: bool = False) -> Any:
        """This thread's connection; `look` finds out first whether the server has closed it."""
        known = getattr(self._local, "known", None)
        if known is not None and known.pid == os.getpid():
            if not look or self._usable(known):
                return known
            self._drop(known)
        known = self._class(**self._arguments)
        known.connect()
        self._local.known = known
        with self._lock:
            self._all.append(known)
        return known

    @staticmethod
    def _usable(connection: Any) -> bool:
        try:
            # Nothing can have come that nobody asked for.
            return not connection.can_read(0)
        except redis.RedisError:
            return False

    def _drop(self, connection: Any) -> None:
        self._local.known = None
        with self._lock:
            if connection in self._all:
                self._all.remove(connection)
        connection.disconnect()

    def _failed(self, error: BaseException) -> SessionError:
        """What to raise; the next call begins with a new connection, which may lead to another server."""
        known = getattr(self._local, "known", None)
        if known is not None:
            self._drop(known)
        problem = "%s: %s" % (self.name, error)
        if self._arguments["password"]:
            # A server that does not know a command quotes its arguments.
            problem = problem.replace(self._arguments["password"], "...")
        if isinstance(error, (redis.TimeoutError, TimeoutError)):
            self._rest_until, self._problem = time.monotonic() + REST_SECONDS, problem
        return SessionError(problem)
