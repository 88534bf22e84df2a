"""The words of `luafcgid2ctl doctor`: what a check finds, and what a web server's configuration says.

A check is a function of facts.Facts that yields `Finding`s; checks.py holds the table of them.  nginx.py and
lighttpd.py read a configuration into `Site`s, one for each place that hands requests to a FastCGI server.
report.py is the door: ctl.py calls its `run`.  The doctor changes nothing, on the disk or in the server.
"""
from __future__ import annotations

import re
from typing import Dict, Mapping, NamedTuple, Optional, Tuple

OK, WARNING, ERROR = "ok", "warning", "error"


class Finding(NamedTuple):
    """What one check says: `text` is one sentence, `change` what to do about it ("" with "ok")."""

    level: str
    topic: str
    text: str
    change: str = ""


class Site(NamedTuple):
    """One place of a web server's configuration that hands requests to a FastCGI server.

    `place` is "file:line location"; `names` are the server names; `plain` tells whether plain HTTP leads here.
    `addresses` are those of client.connect, more than one for an upstream of several servers.  `params` are
    FastCGI parameters in nginx's notation ("$document_root$fastcgi_script_name"); `split` is nginx's
    fastcgi_split_path_info.  `header_room` is the most bytes of a response header, 0 without a limit.
    `spawned`: the web server starts luafcgid2 itself, so Listen has no say.
    """

    server: str
    place: str
    names: Tuple[str, ...]
    plain: bool
    root: str
    addresses: Tuple[str, ...]
    params: Mapping[str, str]
    split: str = ""
    header_room: int = 0
    spawned: bool = False


_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def search(pattern: str, text: str, ignore_case: bool = False) -> Optional[re.Match[str]]:
    """re.search with a web server's regular expression; None, too, for one that Python cannot read."""
    try:
        # PCRE writes the name of a group without the P.
        return re.search(re.sub(r"\(\?<(?![=!])", "(?P<", pattern), text, re.I if ignore_case else 0)
    except re.error:
        return None


def expand(text: str, values: Mapping[str, str]) -> str:
    """`text` with its $variables and ${variables} filled in; one that is not known is ""."""
    return _VARIABLE.sub(lambda found: values.get(found[1] or found[2], ""), text)


def variables(site: Site, path: str, host: str = "") -> Dict[str, str]:
    """nginx's variables for a GET of `path`, as far as they name the script."""
    script, info = path, ""
    found = search(site.split, path) if site.split else None
    if found and len(found.groups()) > 1:
        script, info = found[1] or "", found[2] or ""
    name = host or next((name for name in site.names if name not in ("_", "") and name[0] not in "~*"), "localhost")
    return {"document_root": site.root, "realpath_root": site.root, "fastcgi_script_name": script,
            "fastcgi_path_info": info, "uri": path, "document_uri": path, "request_uri": path,
            "request_filename": site.root + path, "request_method": "GET", "scheme": "http" if site.plain else "https",
            "server_protocol": "HTTP/1.1", "remote_addr": "127.0.0.1", "remote_port": "0", "server_addr": "127.0.0.1",
            "server_port": "80", "server_name": name, "host": name, "http_host": name}


def request_params(site: Site, path: str, host: str = "") -> Dict[str, str]:
    """The FastCGI parameters that this site sends for a GET of `path`."""
    values = variables(site, path, host)
    params = {name: expand(text, values) for name, text in site.params.items()}
    return {"REQUEST_METHOD": "GET", "QUERY_STRING": "", **params}
