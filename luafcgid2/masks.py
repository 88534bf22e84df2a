"""Hides what proves who a visitor is, before it is kept or shown: pure functions.

In: a request's decoded params.  Out: the same, with the values of cookies, of Authorization headers and of names
that speak of a secret replaced.  kept.py and details.py call it.  What a visitor writes into a URL or a body is
not looked at.
"""
from __future__ import annotations

import re
from typing import Dict, Mapping

MASK = b"***"
_SECRET = re.compile(rb"COOKIE|AUTHORIZATION|PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|AUTH_PW|CREDENTIAL", re.IGNORECASE)
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9-]* ")


def masked(params: Mapping[bytes, bytes]) -> Dict[bytes, bytes]:
    """A copy of `params` without secrets.  The names of cookies and the scheme of an Authorization stay."""
    return {name: _mask(name, value) if value and _SECRET.search(name) else value for name, value in params.items()}


def _mask(name: bytes, value: bytes) -> bytes:
    if b"COOKIE" in name.upper():
        return b"; ".join(pair.partition(b"=")[0].strip() + b"=" + MASK if b"=" in pair else MASK
                          for pair in value.split(b";"))
    scheme = _SCHEME.match(value) if b"AUTHORIZATION" in name.upper() else None
    return (scheme.group() if scheme else b"") + MASK
