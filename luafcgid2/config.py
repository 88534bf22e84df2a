"""From a Lua configuration file, or none, to one frozen Config.

In: a path and settings that override the file's.  Out: Config, with one attribute for each option and what
there is to say about the file, or ConfigError (exit code 78) that lists everything that is wrong with it:
file, key, value and what is allowed.  The master, the commands and the tests call load() and defaults().
This module opens no socket and no log, looks up no account, and changes nothing.
"""
from __future__ import annotations

import os
import re
from types import MappingProxyType
from typing import Any, Dict, List, Optional, Tuple
from collections.abc import Iterable, Mapping

from . import luaconfig
from .configtext import describe  # noqa: F401 (callers say config.describe)
from .errors import ConfigError
from .options import BY_KEY, OPTIONS, Opaque, Option, find_field, lua_type, nearest, show
from .runtime import Engine

EMPTY_CHUNK = b"return {}\n"
_NUMBERS = ("int", "ms", "bytes", "seconds")


class Config:
    """The effective settings: one attribute for each option (its `field`), read-only.

    Besides these: `path` (absolute, "" without a file), `warnings` and `notes` (texts for the log at level
    warning and info), `given` (key as written -> value as written, known keys only), `origins` (field ->
    where its value came from, no entry for a default), `globals_chunk` (Lua source bytes that return a copy
    of the user's Config table), `problems` (what a lenient load let pass) and `bare_error` (how the file
    fails without the standard library, "" if it does not).
    """

    path: str
    warnings: Tuple[str, ...]
    notes: Tuple[str, ...]
    problems: Tuple[str, ...]
    given: Mapping[str, Any]
    origins: Mapping[str, str]
    globals_chunk: bytes
    bare_error: str

    def __init__(self, values: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        self.__dict__.update(values, **about)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("Config is read-only: %s cannot be set" % name)

    def __delattr__(self, name: str) -> None:
        raise AttributeError("Config is read-only: %s cannot be deleted" % name)

    def __repr__(self) -> str:
        return "<Config %s>" % (self.path or "built-in defaults")

    def __getstate__(self) -> Dict[str, Any]:
        # A proxy cannot be pickled: the master has the file read in a process of its own.
        return {name: dict(value) if isinstance(value, MappingProxyType) else value
                for name, value in self.__dict__.items()}

    @property
    def worker_count(self) -> int:
        """Workers as a number of processes: the cores that we may use if it is 0."""
        return self.__dict__["workers"] or cores()


def cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load(path: str, overrides: Optional[Mapping[str, Any]] = None, lenient: bool = False) -> Config:
    """The settings of the Lua file at `path`.

    `overrides` are settings of the command line, by field or Lua name; None values are left out.  `lenient`
    puts wrong values into Config.problems, with their defaults in force, as the C++ ancestor did (`migrate`
    wants it).  Raises ConfigError for a file that cannot be read or does not run, and for any value that is
    not allowed.
    """
    path = os.path.abspath(path)
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        raise ConfigError("%s: cannot read the configuration file: %s" % (path, error.strerror)) from error
    found = luaconfig.run(source, path)
    binder = _Binder(path, source)
    binder.bind_file(found["globals"])
    binder.bind_overrides(overrides or {})
    return binder.finish(found["chunk"], found["bare_error"], lenient)


def defaults(**overrides: Any) -> Config:
    """The settings without a file.  `overrides` by field or Lua name.  Raises ConfigError for a wrong one."""
    binder = _Binder("", b"")
    binder.bind_overrides(overrides)
    return binder.finish(EMPTY_CHUNK, "", False)


def differences(old: Config, new: Config) -> List[str]:
    """The Lua names of the options whose values are not the same; "Config" for the table of that name."""
    names = [option.name for option in OPTIONS
             if option.field and getattr(old, option.field) != getattr(new, option.field)]
    return names + ["Config"] * (old.globals_chunk != new.globals_chunk)


def keeping(config: Config, old: Config, names: Iterable[str]) -> Config:
    """`config` with the options `names` (Lua names) as `old` has them."""
    fields = [option.field for option in OPTIONS if option.name in names]
    return Config(config.__getstate__(), {field: getattr(old, field) for field in fields})


class _Binder:
    """Collects values, remarks and problems while keys are checked one after the other."""

    def __init__(self, path: str, source: bytes) -> None:
        self.path, self._source = path, source
        self.values: Dict[str, Any] = {option.field: option.default for option in OPTIONS if option.field}
        self.origins: Dict[str, str] = {}
        self.given: Dict[str, Any] = {}
        self.warnings: List[str] = []
        self.notes: List[str] = []
        self.problems: List[str] = []
        self._capitalised = False

    def bind_file(self, names: Mapping[str, Any]) -> None:
        """Take the globals that the file left."""
        self.given = {name: value for name, value in names.items() if name in BY_KEY}
        self._capitalised = any(name[:1].isupper() and name != "Config" for name in self.given)
        for option in OPTIONS:
            written = [key for key in (option.name,) + option.aliases if key in self.given]
            if written:
                self._warn_of_rivals(option, written)
                self._bind_key(option, written[0])
        for name in sorted(names):
            self._warn_of_unknown(name, names[name])

    def bind_overrides(self, overrides: Mapping[str, Any]) -> None:
        """Take settings of the command line."""
        for name, value in overrides.items():
            option = find_field(name)
            if option is None:
                raise ConfigError("command line: %s is not a setting%s" % (name, _hint(name)))
            if value is not None:
                self._bind_value(option, "command line: " + option.name, option.name, value, "command line")

    def _warn_of_rivals(self, option: Option, written: List[str]) -> None:
        used, value = written[0], self.given[written[0]]
        for other in written[1:]:
            # A variable of another type is the user's own helper, not a second spelling.
            rival = self.given[other]
            if rival != value and lua_type(rival) == lua_type(value):
                self.warnings.append("%s = %s and %s = %s are two spellings of one key: %s is used" % (
                    used, show(value), other, show(rival), used))

    def _bind_key(self, option: Option, key: str) -> None:
        value = self.given[key]
        if option.effect == "ignored":
            self.notes.append("%s: %s" % (key, option.doc[0].lower() + option.doc[1:]))
            return
        foreign = key != option.name and key.lower() != option.name.lower()
        if foreign and self._capitalised and not _fits(option, value):
            self.warnings.append("%s = %s is taken for a variable of your own: as the C luafcgid's name for "
                                 "%s it would be %s" % (key, show(value), option.name, option.allowed()))
            return
        if foreign:
            self.notes.append("%s is the C luafcgid's name for %s" % (key, option.name))
        self._bind_value(option, self._place(key), key, value, key)

    def _bind_value(self, option: Option, place: str, key: str, value: Any, origin: str) -> None:
        try:
            checked, remarks = option.check(value)
        except ValueError as error:
            hint = ""
            if isinstance(value, str) and option.kind in _NUMBERS:
                hint = "; numbers are written without quotes"
            self.problems.append("%s = %s: allowed is %s%s" % (place, show(value), error, hint))
            return
        self.warnings += ["%s = %s" % (key, remark) for remark in remarks]
        if option.field:
            self.values[option.field] = checked
            self.origins[option.field] = origin

    def _place(self, key: str) -> str:
        pattern = rb"^[ \t]*%s[ \t]*=(?!=)" % re.escape(key.encode())
        lines = [self._source.count(b"\n", 0, match.start()) + 1
                 for match in re.finditer(pattern, self._source, re.MULTILINE)]
        # Only a single assignment tells for sure which line set the value.
        return "%s%s: %s" % (self.path, ":%d" % lines[0] if len(lines) == 1 else "", key)

    def _warn_of_unknown(self, name: str, value: Any) -> None:
        if name in BY_KEY or value == Opaque("function"):
            return
        if "A" <= name[:1] <= "Z":
            self.warnings.append("%s is not a key and has no effect%s" % (name, _hint(name)))
            return
        meant = nearest(name)
        if meant and meant.lower() == name.lower() and meant not in self.given:
            self.warnings.append("%s has no effect: the key is written %s" % (name, meant))

    def _check_together(self) -> None:
        """What single values cannot show."""
        values = self.values
        if values["lua_states"] > values["lua_max_states"]:
            if self.origins.get("lua_states"):
                self.warnings.append("LuaStates = %d is above LuaMaxStates = %d: %d is used" % (
                    values["lua_states"], values["lua_max_states"], values["lua_max_states"]))
            values["lua_states"] = values["lua_max_states"]
        if values["lua_total_states"] < values["lua_max_states"]:
            self.warnings.append("LuaTotalStates = %d is below LuaMaxStates = %d: one script cannot have so "
                                 "many" % (values["lua_total_states"], values["lua_max_states"]))
        if 0 < values["request_terminate_timeout"] < values["request_timeout"]:
            self.warnings.append("RequestTerminateTimeout = %s is below RequestTimeout = %s, which is used for both" % (
                show(values["request_terminate_timeout"]), show(values["request_timeout"])))
        if values["min_spare_workers"] > values["max_spare_workers"]:
            self.problems.append("%s = %d: allowed is at most MaxSpareWorkers, %d" % (
                self._place("MinSpareWorkers"), values["min_spare_workers"], values["max_spare_workers"]))
        script = values["startup_script"]
        if script and not os.path.isfile(script):
            self.warnings.append("StartupScript = %s: there is no such file" % show(script))
        if values["session_cookie_same_site"] == "None" and not values["session_cookie_secure"]:
            self.warnings.append('SessionCookieSameSite = "None" without SessionCookieSecure: '
                                 "browsers refuse such a cookie")
        if values["lua_version"] not in Engine.versions():
            self.problems.append("%s = %s: allowed is what the installed lupa has: %s" % (
                self._place("LuaVersion"), show(values["lua_version"]), ", ".join(Engine.versions())))

    def finish(self, chunk: bytes, bare_error: str, lenient: bool) -> Config:
        """The Config, or ConfigError with all problems, one on a line."""
        self._check_together()
        if self.problems and not lenient:
            raise ConfigError("\n".join(self.problems))
        return Config(self.values, dict(
            path=self.path, globals_chunk=chunk, bare_error=bare_error, warnings=tuple(self.warnings),
            notes=tuple(self.notes), problems=tuple(self.problems), given=MappingProxyType(self.given),
            origins=MappingProxyType(self.origins)))


def _fits(option: Option, value: Any) -> bool:
    try:
        option.check(value)
    except ValueError:
        return False
    return True


def _hint(name: str) -> str:
    meant = nearest(name)
    return ": did you mean %s?" % meant if meant else ""
