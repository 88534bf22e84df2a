"""What an option is, and the OPTIONS table with the ways to look options up and to check a value.

In: a value as Lua gave it (bool, int, float, str, tuple for a Lua array, Opaque for any other Lua value).
Out: the value that the server uses, with remarks for the user, or a ValueError that says what is allowed.
config.py, migrate.py and reference.py call this; it reads no file and runs no Lua.  The table's data is in
options_table.py; nobody else imports that.
"""
from __future__ import annotations

import math
import os
import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from . import options_table


class Opaque:
    """A Lua value that no option takes: its Lua type name stands for it."""

    __slots__ = ("type",)

    def __init__(self, type: str) -> None:
        self.type = type

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and other.type == self.type

    def __hash__(self) -> int:
        return hash(self.type)

    def __repr__(self) -> str:
        return "Opaque(%r)" % self.type


class Option(NamedTuple):
    """One key of the configuration file.

    `name` is the Lua name, `field` the attribute of Config ("" for a key that sets none), `kind` a key of
    CHECKS.  `minimum` and `maximum` are in `unit`; `clamp` moves a value below the minimum up to it, as the
    C++ luafcgid2 did, where it would be an error otherwise.  `aliases` are the older spellings, `stands_for`
    pairs (written, used).  `effect` is "used" or "ignored", `since` "luafcgid2", "luafcgid" or "new".
    `example` is what the sample file shows, commented out, instead of an empty default; `active` sample
    lines are not commented out.  `fixed`: a running master cannot change it; a reload keeps the old value.
    """

    name: str
    field: str
    kind: str
    default: Any
    group: str
    doc: str
    since: str = "new"
    minimum: Any = None
    maximum: Any = None
    clamp: bool = False
    choices: Tuple[str, ...] = ()
    pattern: str = ""
    allowed_text: str = ""
    aliases: Tuple[str, ...] = ()
    stands_for: Tuple[Tuple[Any, Any], ...] = ()
    unit: str = ""
    effect: str = "used"
    example: Any = None
    active: bool = False
    fixed: bool = False

    def allowed(self) -> str:
        """What may be written, as words that follow "allowed is"."""
        if self.allowed_text:
            return self.allowed_text
        if self.choices:
            return "one of " + ", ".join(show(choice) for choice in self.choices)
        words = _KIND_WORDS[self.kind]
        if self.minimum is not None and self.kind != "size":
            words += " from %s to %s" % (show(self.minimum), show(self.maximum))
        return words + (" (%s)" % self.unit if self.unit else "")

    def check(self, value: Any) -> Tuple[Any, List[str]]:
        """The value to use for `value`, and remarks.  Raises ValueError(what is allowed)."""
        remarks: List[str] = []
        return CHECKS[self.kind](self, value, remarks), remarks


def show(value: Any) -> str:
    """`value` as Lua source would write it, for messages."""
    if isinstance(value, str):
        escaped = re.sub(r'[\\"]', lambda m: "\\" + m.group(), value)
        escaped = escaped.replace("\r", "\\r").replace("\n", "\\n")
        control = r"[\x00-\x1f\x7f\udc80-\udcff]"
        return '"%s"' % re.sub(control, lambda m: "\\%03d" % (ord(m.group()) & 0xff), escaped)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return "{%s}" % ", ".join(show(item) for item in value)
    if isinstance(value, Opaque):
        return "a " + value.type
    return "nil" if value is None else repr(value)


def lua_type(value: Any) -> str:
    """The Lua type name of a value that came from the file."""
    if isinstance(value, Opaque):
        return value.type
    names = ((bool, "boolean"), ((int, float), "number"), (str, "string"), ((tuple, list), "table"))
    for kind, name in names:
        if isinstance(value, kind):
            return name
    return "nil"


def find(name: str) -> Optional[Option]:
    """The option that the file's global `name` (a Lua name or an alias) sets; None if there is none."""
    return BY_KEY.get(name)


def find_field(name: str) -> Optional[Option]:
    """The option with this Config attribute or Lua name, for settings given in Python or on a command line.

    Not the aliases: `workers` is the attribute of Workers here, in a file it is the C luafcgid's threads.
    """
    return BY_FIELD.get(name)


def nearest(name: str) -> Optional[str]:
    """The known Lua name that looks most like `name`, or None."""
    # Only a mistake needs it, and it takes memory.
    import difflib
    folded = {option.name.lower(): option.name for option in OPTIONS}
    close = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.7)
    return folded[close[0]] if close else None


def _number(option: Option, value: Any, remarks: List[str]) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(option.allowed())
    if isinstance(value, float) and value == int(value):
        value = int(value)
    value = dict(option.stands_for).get(value, value)
    if option.minimum is not None and value < option.minimum and option.clamp:
        remarks.append("%s is below the least value: %s is used" % (show(value), show(option.minimum)))
        value = option.minimum
    if (option.minimum is not None and value < option.minimum) or (
            option.maximum is not None and value > option.maximum):
        raise ValueError(option.allowed())
    return value


def _whole(option: Option, value: Any, remarks: List[str]) -> int:
    # The C++ ancestor converted to a C int, which truncates.
    if isinstance(value, float) and math.isfinite(value) and value != int(value):
        remarks.append("%s is not whole: %d is used" % (show(value), int(value)))
        value = int(value)
    found: int = _number(option, value, remarks)
    return found


def _size(option: Option, value: Any, remarks: List[str]) -> int:
    # Bytes, or digits with a unit: "128M", "1.5G", "512 kB"; "" and 0 are none, whatever the minimum is.
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:i?B)?|B)?\s*|", value, re.IGNORECASE)
        if not match:
            raise ValueError(option.allowed())
        value = int(float(match[1] or 0) * _UNITS[(match[2] or "").upper()])
    return 0 if value == 0 and value is not False else _whole(option, value, remarks)


def _bool(option: Option, value: Any, remarks: List[str]) -> bool:
    if not isinstance(value, bool):
        raise ValueError(option.allowed())
    return value


def _string(option: Option, value: Any, remarks: List[str]) -> str:
    if not isinstance(value, str) or re.search(r"[\x00\r\n]", value):
        raise ValueError(option.allowed())
    if option.choices:
        folded = {choice.lower(): choice for choice in option.choices}
        if value.lower() not in folded:
            raise ValueError(option.allowed())
        return folded[value.lower()]
    if option.pattern and not re.fullmatch(option.pattern, value):
        raise ValueError(option.allowed())
    return value


def _path(option: Option, value: Any, remarks: List[str]) -> str:
    # Made absolute now: the master may change its directory later; the ancestors' were relative to the cwd.
    path = _string(option, value, remarks)
    return os.path.abspath(path) if path else ""


def _log(option: Option, value: Any, remarks: List[str]) -> str:
    return value if value in ("syslog", "stderr", "-") else _path(option, value, remarks)


def _address(option: Option, value: Any, remarks: List[str]) -> str:
    # The forms of libfcgi, and what listener.py adds to them; which socket it is shall be known here already.
    address = _string(option, value, remarks)
    if address in ("stdin", "systemd") or re.fullmatch(r"fd:\d+", address):
        return address
    port = re.fullmatch(r"(?:\[[^\]/]+\]|[^:/]*):(\d{1,5})", address)
    if port and int(port.group(1)) <= 65535:
        return address
    path = address[5:] if address.startswith("unix:") else address
    if port or not path or path.isdigit() or (":" in path and "/" not in path):
        raise ValueError(option.allowed())
    return os.path.abspath(path)


def _account(option: Option, value: Any, remarks: List[str]) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        value = str(value)
    return _string(option, value, remarks)


def _version(option: Option, value: Any, remarks: List[str]) -> str:
    if isinstance(value, float):
        value = repr(value)
    return _string(option, "jit" if value == "luajit" else value, remarks)


def _octal(option: Option, value: Any, remarks: List[str]) -> str:
    # Lua reads 0660 as the decimal 660, so the decimal digits are what the user wrote.
    digits = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"(0o?)?[0-7]{3}", digits):
        raise ValueError(option.allowed())
    return "0" + digits[-3:]


def _strings(option: Option, value: Any, remarks: List[str]) -> Tuple[str, ...]:
    items = (value,) if isinstance(value, str) else value
    if not isinstance(items, (tuple, list)):
        raise ValueError(option.allowed())
    return tuple(_string(option, item, remarks) for item in items)


def _paths(option: Option, value: Any, remarks: List[str]) -> Tuple[str, ...]:
    return tuple(os.path.abspath(item) for item in _strings(option, value, remarks))


def _clients(option: Option, value: Any, remarks: List[str]) -> Tuple[str, ...]:
    if isinstance(value, str):
        value = tuple(filter(str.strip, value.split(",")))
    items = tuple(item.strip() for item in _strings(option, value, remarks))
    if items:
        import ipaddress
    for item in items:
        try:
            ipaddress.ip_network(item, strict=False)
        except ValueError:
            raise ValueError(option.allowed()) from None
    return items


def _headers(option: Option, value: Any, remarks: List[str]) -> str:
    # One line each, all ended by CR LF: unended lines fused with the next header.
    if not isinstance(value, str):
        raise ValueError(option.allowed())
    lines = [line for line in re.split(r"\r?\n", value) if line.strip()]
    for line in lines:
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00\r]*", line):
            raise ValueError(option.allowed())
    return "".join(line + "\r\n" for line in lines)


def _table(option: Option, value: Any, remarks: List[str]) -> Any:
    if lua_type(value) != "table":
        raise ValueError(option.allowed())
    return value


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
CHECKS: Dict[str, Callable[[Option, Any, List[str]], Any]] = {
    "int": _whole, "ms": _whole, "bytes": _whole, "size": _size, "seconds": _number, "bool": _bool, "string": _string,
    "path": _path, "log": _log, "address": _address, "account": _account, "version": _version, "octal": _octal,
    "strings": _strings, "paths": _paths, "clients": _clients, "headers": _headers, "table": _table,
}
_KIND_WORDS = {
    "size": "a size in bytes or as a string such as \"128M\" or \"1G\"",
    "int": "a whole number", "ms": "a whole number", "bytes": "a whole number", "seconds": "a number",
    "bool": "true or false, without quotes", "string": "a string on one line",
    "path": "a path as a string, or \"\"", "log": "a path as a string, \"syslog\", \"stderr\" or \"\"",
    "address": "an address as a string",
    "account": "a name or a number", "version": "a version",
    "octal": "a file mode in octal, such as \"0660\"",
    "strings": "a table of strings", "paths": "a table of paths", "clients": "a table of addresses",
    "headers": "a string of header lines, each \"Name: value\" and ended by \"\\r\\n\"",
    "table": "a table", "ignored": "anything",
}

OPTIONS: Tuple[Option, ...] = tuple(Option(**row) for row in options_table.rows())
BY_KEY: Dict[str, Option] = {key: option for option in OPTIONS for key in (option.name,) + option.aliases}
BY_FIELD: Dict[str, Option] = {
    key: option for option in OPTIONS if option.field for key in (option.field, option.name)}
