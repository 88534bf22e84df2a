"""Session keys, and the text of the session cookie.

In: the session_* fields of the Config object, keys, times.  Out: random keys, digests, complete Set-Cookie
lines.  session.py and staging.py call it.  It holds no session and reads no request; nothing here can fail.
"""
from __future__ import annotations

import os
import re
import time
from typing import Any

from ..digests import blake2b

ALPHABET = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
KEY = re.compile(rb"[A-Za-z0-9_]{1,128}")
SAME_SITE = ("Strict", "Lax", "None")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def new_key(length: int) -> bytes:
    """`length` random characters of [A-Za-z0-9_], each equally likely."""
    found = b""
    while len(found) < length:
        # One value of 64 is thrown away; `% 63` would favour the first characters.
        found += bytes([ALPHABET[byte & 63] for byte in os.urandom(length) if byte & 63 < 63])
    return found[:length]


def digest(key: bytes) -> bytes:
    """What a store knows a session by: who reads the store has no usable cookie."""
    return blake2b(key, digest_size=16).digest()


def http_date(seconds: int) -> str:
    """`seconds` since 1970 as an IMF-fixdate (RFC 9110, section 5.6.7), whatever the locale."""
    at = time.gmtime(seconds)
    return "%s, %02d %s %d %02d:%02d:%02d GMT" % (
        DAYS[at.tm_wday], at.tm_mday, MONTHS[at.tm_mon - 1], at.tm_year, at.tm_hour, at.tm_min, at.tm_sec)


class Cookie:
    """The session cookie of one configuration (RFC 6265).

    Without SessionCookieDomain there is no Domain: the cookie belongs to the host that set it.
    """

    def __init__(self, config: Any) -> None:
        self.secure: bool = config.session_cookie_secure
        parts = []
        if config.session_cookie_http_only:
            parts.append("; HttpOnly")
        if self.secure:
            parts.append("; Secure")
        if config.session_cookie_same_site in SAME_SITE:
            parts.append("; SameSite=" + config.session_cookie_same_site)
        parts.append("; Path=/")
        if config.session_cookie_domain:
            parts.append("; Domain=" + config.session_cookie_domain)
        self._head = ("Set-Cookie: %s=" % config.session_name).encode()
        self._tail = "".join(parts).encode()
        self._cached = (0, http_date(0).encode())

    def line(self, key: bytes, expires: int) -> bytes:
        """The complete header line, without CR LF; `expires` in seconds since 1970."""
        known, date = self._cached
        if known != expires:
            date = http_date(expires).encode()
            self._cached = (expires, date)
        return b"%s%s; Expires=%s%s" % (self._head, key, date, self._tail)

    def deletion(self) -> bytes:
        """The line that makes a browser forget: of the same attributes, or it takes it for another cookie."""
        return self.line(b"_", 0)
