"""Sessions as scripts use them: identity, expiry, one commit per request.

In: the Config object, a store; from session.lua the request's cookie and identity as plain bytes.  Out:
bytes, booleans or None for Lua; a Set-Cookie line.  A worker makes one SessionService; state.py takes `for_state()`
once per Lua state and hands its methods, named in HOST_CALLS, to the prelude.  Errors are SessionError.
Values are opaque here (values.lua encodes them); nothing is written before `commit`.
"""
from __future__ import annotations

import logging
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..digests import blake2b
from ..errors import SessionError
from . import GONE, STORED, Change, Store
from .cookie import KEY, Cookie, digest, new_key
from .staging import ALL, StagedSession

# Name of the host function -> method of SessionCalls.
HOST_CALLS = {
    "session_open": "open", "session_start": "start", "session_has_realm": "has_realm",
    "session_delete": "delete", "session_clear": "clear", "session_set": "set", "session_get": "get",
    "session_get_all": "get_all", "session_id": "id", "session_regenerate": "regenerate",
    "session_commit": "commit",
}
TRACE = 8            # bytes of one identity field's digest
SWEEP_EVERY = 60     # seconds
SWEEP_BATCH = 200    # sessions in one transaction
Identity = Tuple[Optional[bytes], Optional[bytes], Optional[bytes]]


class SessionService:
    """The sessions of one worker.

    `config` gives the session_* fields; `clock` returns seconds since 1970.
    """

    def __init__(self, config: Any, store: Store, logger: Optional[logging.Logger] = None,
                 clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self.logger = logger or logging.getLogger("luafcgid2")
        self.clock = clock
        self.cookie = Cookie(config)
        self.lifetime: int = config.session_time
        self.key_length: int = config.session_key_len
        self.target: int = config.session_target_score
        self.scores = (config.session_ip_score, config.session_user_agent_score,
                       config.session_language_score)
        # The ancestor lets a session follow its visitor from identity to identity; so it is by default.
        self.follow: bool = config.session_follow_identity
        self.used = False
        self._warned = False
        self._next_sweep = 0

    def for_state(self) -> SessionCalls:
        """The host functions of one Lua state, which serves one request at a time, from any thread."""
        return SessionCalls(self)

    def check(self) -> bool:
        """Whether the store can be used; if not, an error in the log.  The server runs on: not all scripts use it.

        Closes the store, so that no connection stays open for nothing: not for a service that serves already.
        """
        try:
            self.store.check()
            self.store.close()
        except SessionError as error:
            self.logger.error("scripts that use Session or Shared will fail: %s", error)
            return False
        return True

    def sweep(self) -> int:
        """Remove a batch of expired sessions; the number removed.  For a worker with nothing better to do.

        While it returns more than 0, call it again when idle.  Otherwise it does something at most once a
        minute, of all workers only one, and only where scripts use sessions at all.  A store that fails is
        logged, never raised.
        """
        now = int(self.clock())
        # A gate further away than it can be comes from a clock that was set back.
        if not self.used or now < self._next_sweep <= now + SWEEP_EVERY:
            return 0
        try:
            removed = self.store.sweep(now, SWEEP_BATCH, SWEEP_EVERY)
        except SessionError as error:
            self.logger.warning("expired sessions are not removed: %s", error)
            removed = 0
        if removed < SWEEP_BATCH:
            self._next_sweep = now + SWEEP_EVERY
        return removed

    def identity(self, key: bytes, fields: Identity) -> bytes:
        """A digest of each field.  Keyed, so that the store tells nobody who the visitor was."""
        return b"".join([blake2b(field or b"", digest_size=TRACE, key=key[:64]).digest()
                         for field in fields])

    def score(self, known: bytes, given: bytes) -> int:
        """The points that `given` earns by its fields that equal those of `known`."""
        return sum(points for at, points in zip(range(0, 3 * TRACE, TRACE), self.scores)
                   if known[at:at + TRACE] == given[at:at + TRACE])

    def warn_insecure(self, https: Optional[bytes]) -> None:
        """Once per worker: browsers drop a Secure cookie that comes over plain HTTP."""
        if self.cookie.secure and not self._warned and (https or b"off").lower() == b"off":
            self._warned = True
            self.logger.warning("a session cookie marked Secure was sent over plain HTTP (HTTPS is not "
                                "\"on\"): browsers drop it; use HTTPS or set SessionCookieSecure = false")


class SessionCalls:
    """The session of the request that one Lua state serves now.

    `open` comes first in every request that touches Session, and forgets the request before.  Arguments are
    bytes or None.
    """

    def __init__(self, service: SessionService) -> None:
        self._service = service
        self._session: Optional[StagedSession] = None
        self._fields: Identity = (None, None, None)
        self._https: Optional[bytes] = None
        self._deletes: List[object] = []
        self._forget = False

    def open(self, cookie: Optional[bytes], address: Optional[bytes], agent: Optional[bytes],
             language: Optional[bytes], https: Optional[bytes]) -> None:
        """Begin a request: the session cookie's value, REMOTE_ADDR, User-Agent, Accept-Language, HTTPS."""
        self._service.used = True
        self._session, self._deletes = None, []
        self._fields, self._https = (address, agent, language), https
        # A cookie that leads to no session shall be deleted in the browser.
        self._forget = bool(cookie)
        if cookie and KEY.fullmatch(cookie):
            self._session = self._find(cookie)

    def _find(self, key: bytes) -> Optional[StagedSession]:
        service = self._service
        now = int(service.clock())
        loaded = service.store.load(digest(key), now)
        if loaded is None:
            return None
        identity = service.identity(key, self._fields)
        if identity != loaded.identity and service.target > 0:
            points = service.score(loaded.identity, identity)
            if points < service.target:
                service.logger.info("session %s...: not given to %s: %d points of %d", key[:4].decode(),
                                    (self._fields[0] or b"?").decode("ascii", "backslashreplace"),
                                    points, service.target)
                return None
        session = StagedSession(key, loaded.identity, loaded.expires, loaded)
        if service.follow and identity != loaded.identity:
            session.identity, session.header = identity, True
        # An SD card counts its writes: a tenth of the lifetime is near enough.
        if (now + service.lifetime - loaded.expires) * 10 >= service.lifetime:
            session.expires, session.header = now + service.lifetime, True
        return session

    def start(self) -> bool:
        """Make a session unless there is one.  The key is always ours, never the client's."""
        self._started()
        return True

    def _started(self) -> StagedSession:
        if self._session is None:
            service = self._service
            key = new_key(service.key_length)
            expires = int(service.clock()) + service.lifetime
            self._session = StagedSession(key, service.identity(key, self._fields), expires)
        return self._session

    def has_realm(self, realm: bytes) -> bool:
        return self._session is not None and bool(self._session.realms(realm))

    def delete(self) -> None:
        if self._session is not None:
            if self._session.handle is not None:
                self._deletes.append(self._session.handle)
                self._forget = True
            self._session = None

    def clear(self, realm: bytes) -> None:
        if self._session is not None:
            self._session.clear(realm)

    def set(self, realm: bytes, name: bytes, value: Optional[bytes]) -> bool:
        """Store an encoded value, or erase.  Storing starts a session."""
        if value is not None:
            self._started()
        if self._session is not None:
            self._session.set(realm, name, value)
        return True

    def get(self, realm: bytes, name: bytes) -> Optional[bytes]:
        return None if self._session is None else self._session.get(realm, name)

    def get_all(self, realm: bytes) -> bytes:
        """The realm's variables as one encoded table; for "*", a table of realms of such."""
        if self._session is None:
            return b"{}"
        tables: Dict[bytes, bytes] = {each: _table(self._session.variables(each))
                                      for each in self._session.realms(realm)}
        return _table(tables) if realm == ALL else tables.get(realm, b"{}")

    def id(self) -> Optional[bytes]:
        return None if self._session is None else self._session.key

    def regenerate(self) -> Optional[bytes]:
        """Give the session a new key; the old one is worth nothing once this is committed."""
        session, service = self._session, self._service
        if session is None:
            return None
        session.key = new_key(service.key_length)
        session.identity = service.identity(session.key, self._fields)
        session.expires = int(service.clock()) + service.lifetime
        session.header = True
        return session.key

    def commit(self) -> Optional[bytes]:
        """Write what was staged, in one transaction; the Set-Cookie line, or None.  May come again."""
        session, change = self._session, Change()
        change.deletes = self._deletes
        dirty = session is not None and session.stage(change)
        if dirty or change.deletes:
            status, handle = self._service.store.commit(change)
            self._deletes = []
            if status != STORED:
                self._overtaken(session, status)
                return None
            if session is not None:
                session.written(handle)
        if session is not None:
            self._service.warn_insecure(self._https)
            return self._service.cookie.line(session.key, session.expires)
        return self._service.cookie.deletion() if self._forget else None

    def _overtaken(self, session: Optional[StagedSession], status: str) -> None:
        """Another request deleted the session or changed its key; the cookie is its business too."""
        self._service.logger.info("session %s...: another request %s it meanwhile",
                                  session.key[:4].decode() if session else "",
                                  "deleted" if status == GONE else "regenerated")
        self._session, self._forget = None, False


def _table(items: Dict[bytes, bytes]) -> bytes:
    """The table encoding of values.lua: `{`, then keys (`s<length>:<bytes>`) and values in turn, then `}`."""
    return b"{%s}" % b"".join([b"s%d:%s%s" % (len(name), name, value) for name, value in items.items()])
