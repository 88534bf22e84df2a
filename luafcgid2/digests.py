"""Digests by Python's own code: the only import of hashlib in the server.

In: nothing.  Out: `blake2b`, `sha1` and `sha256`, as hashlib has them.  Any module of the server may call them.

hashlib prefers OpenSSL, whose library takes 3 MB of memory in a server that hashes a few hundred bytes now and then.
Where Python has code of its own for every digest, hashlib is loaded without; it says so itself by a traceback where
one is missing, so this looks first.  Who imports OpenSSL later, for TLS, gets it.
"""
from __future__ import annotations

import contextlib
import importlib.util
import sys
from typing import Iterator, Tuple

_OPENSSL = "_hashlib"
# What hashlib looks for; the last are one module since Python 3.12.
_OWN = ("_md5", "_sha1", "_sha3", "_blake2")
_SHA2 = (("_sha2",), ("_sha256", "_sha512"))


def _have(names: Tuple[str, ...]) -> bool:
    return all(importlib.util.find_spec(name) for name in names)


@contextlib.contextmanager
def _without_openssl() -> Iterator[None]:
    """As far as it is not loaded yet, and not needed."""
    alone = _OPENSSL not in sys.modules and _have(_OWN) and any(map(_have, _SHA2))
    if alone:
        # None makes an import fail.
        sys.modules[_OPENSSL] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if alone:
            del sys.modules[_OPENSSL]


with _without_openssl():
    from hashlib import blake2b, sha1, sha256

__all__ = ["blake2b", "sha1", "sha256"]
