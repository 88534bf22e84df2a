"""AllowedClients: who may connect over TCP, as php-fpm's listen.allowed_clients.

In: a listening socket, addresses and networks.  Out: an object that accepts as the socket does, but closes
connections of others at once.  worker.py makes it, for TCP only, so a unix socket pays nothing; poller.py accepts
by it.  It looks up no names.
"""
from __future__ import annotations

import os
import socket
from typing import Any, Dict, Mapping, Sequence, Tuple

from .complaints import Complaints
from .errors import ListenError

# Clients remembered; web servers are few.
MOST_KNOWN = 256
# Refused connections in one go, before others get their turn.
BURST = 64


def clients(configured: Sequence[str], environ: Mapping[str, str]) -> Sequence[str]:
    """Those of AllowedClients; without any, those of FCGI_WEB_SERVER_ADDRS, which a web server may set for what it
    starts (FastCGI 1.0, section 3.2).  ListenError when that holds something else."""
    if configured:
        return configured
    value = environ.get("FCGI_WEB_SERVER_ADDRS", "")
    found = [item for item in value.split(",") if item.strip()]
    try:
        networks(found)
    except ValueError as error:
        raise ListenError("FCGI_WEB_SERVER_ADDRS = %r: %s" % (value, error)) from None
    return found


def networks(allowed: Sequence[str]) -> Tuple[Any, ...]:
    """Addresses ("192.0.2.1", "::1") and networks ("192.0.2.0/24") as objects.  Raises ValueError."""
    if not allowed:
        return ()
    # It takes memory, and few set it.
    import ipaddress
    return tuple(ipaddress.ip_network(item.strip(), strict=False) for item in allowed)


class Allowed:
    """See the module's contract.  Raises ValueError."""

    def __init__(self, listener: socket.socket, allowed: Sequence[str], complaints: Complaints) -> None:
        self._listener, self._networks, self._complaints = listener, networks(allowed), complaints
        self._known: Dict[str, bool] = {}

    def accept(self) -> Tuple[int, Any]:
        """As socket._accept: (descriptor, address).  BlockingIOError when nobody is left, ConnectionAbortedError
        after BURST refused ones."""
        for _ in range(BURST):
            # Which types do not know: accept() without its new object.
            fd, peer = self._listener._accept()  # type: ignore[attr-defined]
            if self._known.get(peer[0]) or self._may(peer[0]):
                return fd, peer
            os.close(fd)
            self._complaints.say("allowed", "connection closed: %s is not in AllowedClients" % peer[0])
        raise ConnectionAbortedError("too many clients that are not in AllowedClients")

    def _may(self, host: str) -> bool:
        if host not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            # A link-local IPv6 address names its interface; a listener for both kinds shows IPv4 as ::ffff:1.2.3.4.
            import ipaddress
            address: Any = ipaddress.ip_address(host.partition("%")[0])
            address = getattr(address, "ipv4_mapped", None) or address
            self._known[host] = any(address in network for network in self._networks)
        return self._known[host]
