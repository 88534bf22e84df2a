"""The text of `luafcgid2ctl migrate CONFIG`: what becomes of an ancestor's configuration file.

In: a Config of config.load(path, lenient=True), or the path.  Out: text.  ctl.py calls it.  It changes no
file and asks no running server.
"""
from __future__ import annotations

import math
from typing import Any, List, Tuple

from . import config as configuration
from .changes import CHANGES
from .configtext import effective_socket, settings
from .options import BY_KEY, Option, lua_type, show

CPP, C, NEITHER = "the C++ luafcgid2", "the C luafcgid", "this server"
# Keys that the C++ luafcgid2 knew by another spelling only, or read and never used.
_DEAD_SPELLINGS = {"listen": "Listen", "entrypoint": "Entrypoint"}
# Lua types that the C++ luafcgid2 took for each kind of value; all others it ignored.
_TAKEN = {"bool": "boolean", "int": "number", "ms": "number", "bytes": "number", "string": "string",
          "path": "string", "log": "string", "address": "string", "headers": "string"}


def report_file(path: str) -> str:
    """The report for the file at `path`.  Raises ConfigError for a file that does not run at all."""
    return report(configuration.load(path, lenient=True))


def report(config: Any) -> str:
    """The whole report: written for whom, effective settings, dead keys, wrong types, what changes."""
    family = written_for(config)
    lines = ["Migrating %s" % (config.path or "the built-in defaults"),
             "This file was written for %s." % family,
             "Effective socket: %s" % effective_socket(config)]
    lines += _section("Settings that this file makes, as they are in force now",
                      settings(config, only_given=True) or ["none"])
    lines += _section("Values that must be corrected before this server starts", config.problems)
    if family == CPP:
        lines += _section("The old server did not run this file", _bare(config))
        lines += _section("Keys that never had an effect in %s" % CPP, _dead(config))
        lines += _section("Values that %s ignored silently, for their type" % CPP, _ignored_types(config))
    lines += _section("Keys that mean nothing any more", _meaningless(config))
    lines += _section("Warnings", config.warnings)
    lines += _section("Notes", [note for note in config.notes if "ccepted and ignored" not in note])
    if family == C:
        lines += _section("What differs from %s" % C, _c_differences(config))
    else:
        lines += _section("What changes for scripts and operation", _changes())
    return "\n".join(lines) + "\n"


def written_for(config: Any) -> str:
    """CPP, C or NEITHER: whose keys the file uses."""
    keys = [key for key in config.given if key != "Config"]
    capitalised = [key for key in keys if key[:1].isupper() and BY_KEY[key].since == "luafcgid2"]
    if capitalised or set(keys) & set(_DEAD_SPELLINGS) == set(keys) and keys:
        return CPP
    return C if any(key[:1].islower() for key in keys) else NEITHER


def _section(title: str, lines: Any) -> List[str]:
    return ["", title] + ["  " + line for line in lines] if lines else []


def _bare(config: Any) -> List[str]:
    if not config.bare_error:
        return []
    return [config.bare_error,
            "It had no standard library there, so that the old server silently ran on its built-in defaults.",
            "This server has it: every setting of the file comes into force now."]


def _dead(config: Any) -> List[str]:
    lines = []
    for key, name in _DEAD_SPELLINGS.items():
        if key not in config.given:
            continue
        option, value = BY_KEY[name], config.given[key]
        text = "%s = %s: it read only %s" % (key, show(value), name)
        if name in config.given:
            text += ", which this file sets too: nothing changes"
        elif value == option.default:
            text += ", whose default is the same: nothing changes"
        else:
            text += ", so that %s was in force; now %s is" % (
                show(option.default), show(getattr(config, option.field)))
        lines.append(text)
    if "MaxPostSize" in config.given:
        lines.append("MaxPostSize = %s: it never compared it with anything; now a larger request gets 413" %
                     show(config.given["MaxPostSize"]))
    return lines


def _ignored_types(config: Any) -> List[str]:
    lines = []
    for key, value in config.given.items():
        option = BY_KEY[key]
        if option.since != "luafcgid2" or key != option.name or key == "Config":
            continue
        wanted = _TAKEN.get(option.kind, "number" if option.kind == "ignored" else "")
        if lua_type(value) != wanted:
            lines.append("%s = %s: a %s where it wanted a %s; it ran with its default%s" % (
                key, show(value), lua_type(value), wanted, _default(option)))
        elif isinstance(value, float) and math.isfinite(value) and value != int(value):
            lines.append("%s = %s: it used %d" % (key, show(value), int(value)))
    return lines


def _default(option: Option) -> str:
    return " " + show(option.default) if option.default is not None else ""


def _meaningless(config: Any) -> List[str]:
    return ["%s = %s: %s" % (key, show(value), BY_KEY[key].doc)
            for key, value in config.given.items() if BY_KEY[key].effect == "ignored"]


def _changes() -> List[str]:
    lines: List[str] = []
    for change in CHANGES:
        lines.append("%-4s %s" % (change.id, change.area))
        lines.append("     before: " + change.before)
        lines.append("     now:    " + change.now)
        if change.advice:
            lines.append("     advice: " + change.advice)
    return lines


# Defaults of the C luafcgid that are not ours: (key, its default).
_C_DEFAULTS: Tuple[Tuple[str, Any], ...] = (
    ("listen", ":9000"), ("workers", 3), ("states", 5), ("clones", 3), ("sweep", 1000),
    ("showerrors", True), ("headers", "X-Powered-By: Lua\r\n"), ("maxpost", 1 << 20),
    ("logfile", "luafcgid.log"),
)


def _c_differences(config: Any) -> List[str]:
    lines = ["states counts for each worker process: %d processes may keep %d in all; Workers = 1 comes "
             "nearest to the old layout" % (
                 config.worker_count, config.worker_count * config.lua_total_states),
             "edits of a script are noticed when it is asked for, not by a sweep in the background",
             "an answer leaves when the script ends, or at con:flush(), whatever buffering says"]
    for key, old in _C_DEFAULTS:
        option = BY_KEY[key]
        if not any(name in config.given for name in (option.name,) + option.aliases):
            lines.append("%s is not set: its default was %s, ours is %s = %s" % (
                key, show(old), option.name, show(getattr(config, option.field))))
    return lines


