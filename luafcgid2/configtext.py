"""The effective settings as text for people: what `luafcgid2 -t` and `luafcgid2ctl migrate` print.

In: a Config.  Out: text.  config.py and migrate.py call it; it checks and changes nothing.
"""
from __future__ import annotations

import re
from typing import Any, List

from .options import OPTIONS, Option, show


def describe(config: Any) -> str:
    """The effective socket, every setting with where it came from, the warnings and the notes."""
    lines = ["Configuration file: %s" % (config.path or "none, built-in defaults"),
             "Effective socket:   %s" % effective_socket(config), ""]
    lines += settings(config)
    for title, texts in (("Warnings", config.warnings), ("Notes", config.notes)):
        if texts:
            lines += ["", title]
            lines += ["  " + text for text in texts]
    return "\n".join(lines) + "\n"


def settings(config: Any, only_given: bool = False) -> List[str]:
    """One line for each setting, below a title for each group; `only_given` leaves the defaults out."""
    lines: List[str] = []
    group, width = "", max(len(option.name) for option in OPTIONS)
    for option in OPTIONS:
        if not option.field or (only_given and option.field not in config.origins):
            continue
        if option.group != group:
            group = option.group
            lines.append(group)
        lines.append("  %-*s = %-42s %s" % (width, option.name, _value(config, option), _origin(config, option)))
    return lines


def effective_socket(config: Any) -> str:
    """Where the web server must connect, in words."""
    address = config.listen
    inherited = {"stdin": "the inherited descriptor 0", "systemd": "the socket that systemd passes"}
    if address in inherited:
        where = inherited[address]
    elif re.fullmatch(r"fd:\d+", address):
        where = "the inherited descriptor " + address[3:]
    elif ":" in address and "/" not in address:
        where = "TCP " + address
    else:
        where = "unix socket %s, mode %s" % (address, config.listen_mode)
    origin = config.origins.get("listen")
    return "%s (%s)" % (where, "from " + origin if origin else "default")


def _value(config: Any, option: Option) -> str:
    value = getattr(config, option.field)
    if isinstance(value, str):
        # Never a store's password on a terminal or in a bug report.
        value = re.sub(r"(?<=://)([^/@:]*):[^@/]*@", r"\1:***@", value)
    return show(value)


def _origin(config: Any, option: Option) -> str:
    origin: str = config.origins.get(option.field, "default")
    if origin == option.name:
        origin = "the file"
    words = origin if origin == "default" else "from " + origin
    if option.name == "Workers" and not config.workers:
        words += ", one for each core: %d" % config.worker_count
    return words
