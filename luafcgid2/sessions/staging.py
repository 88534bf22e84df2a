"""A session as one request sees it: what was loaded, under what the request has changed.

In: what a store loaded, the calls of session.py.  Out: answers as if the changes were made; at the end a
`Change` for the store.  It calls no store and knows no cookie; values are opaque bytes.
Realm "*" means every realm that exists, as in the C++ ancestor.
"""
from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from . import Change, Loaded, Realms
from .cookie import digest

ALL = b"*"


class StagedSession:
    """`key` as in the cookie, `identity` as the store keeps it, `expires` in seconds since 1970.

    `loaded` is None for a new session.  `header` says that key, identity or expires are to be written.
    """

    __slots__ = ("key", "identity", "expires", "header", "handle", "_expected", "_realms", "_clears", "_sets")

    def __init__(self, key: bytes, identity: bytes, expires: int, loaded: Optional[Loaded] = None) -> None:
        self.key = key
        self.identity = identity
        self.expires = expires
        self.header = loaded is None
        self.handle = loaded.handle if loaded else None
        self._expected = digest(key)
        self._realms: Realms = loaded.realms if loaded else {}
        self._clears: Dict[bytes, bool] = {}
        self._sets: Dict[Tuple[bytes, Optional[bytes]], Optional[bytes]] = {}

    def realms(self, realm: bytes) -> List[bytes]:
        """The existing realms that `realm` means, in the order in which look-ups try them."""
        if realm == ALL:
            return sorted(self._realms)
        return [realm] if realm in self._realms else []

    def variables(self, realm: bytes) -> Dict[bytes, bytes]:
        """The variables of an existing realm, not to be changed."""
        return self._realms[realm]

    def get(self, realm: bytes, name: bytes) -> Optional[bytes]:
        """The value in the first realm that has `name`, or None."""
        for each in self.realms(realm):
            if name in self._realms[each]:
                return self._realms[each][name]
        return None

    def set(self, realm: bytes, name: bytes, value: Optional[bytes]) -> None:
        """Store `value`, or erase if it is None.  Only storing makes a realm."""
        if realm != ALL and value is not None and realm not in self._realms:
            self._realms[realm] = {}
            self._sets[realm, None] = None
        for each in self.realms(realm):
            variables = self._realms[each]
            # What is stored already is not written again: an SD card counts its writes.
            if variables.get(name) == value:
                continue
            self._sets[each, name] = value
            if value is None:
                del variables[name]
            else:
                variables[name] = value

    def clear(self, realm: bytes) -> None:
        """Empty realms; they stay known unless no other realm is left (ancestor: session.cpp)."""
        chosen = self.realms(realm)
        stays = len(chosen) < len(self._realms)
        for each in chosen:
            for staged in [pair for pair in self._sets if pair[0] == each]:
                if staged[1] is not None or not stays:
                    del self._sets[staged]
            self._clears[each] = stays
            if stays:
                self._realms[each] = {}
            else:
                del self._realms[each]

    def stage(self, change: Change) -> bool:
        """Put what is to be written into `change`; whether there is anything."""
        if not (self.header or self._clears or self._sets):
            return False
        change.handle, change.expected, change.key = self.handle, self._expected, digest(self.key)
        change.identity, change.expires, change.header = self.identity, self.expires, self.header
        change.clears, change.sets = self._clears, self._sets
        return True

    def written(self, handle: object) -> None:
        """The staged changes are in the store now, under `handle`."""
        self.handle, self.header, self._expected = handle, False, digest(self.key)
        self._clears, self._sets = {}, {}
