"""`luafcgid2ctl lint`: what is wrong with the scripts of a folder, before a visitor finds out.

In: a Config, a folder.  Out: a Report.  Only ctl.py calls it.  Every script and module below the folder is compiled
by the Lua that runs it (LuaVersion); where luacheck is installed (Debian: lua-check), it looks for globals that are
set or used by accident.  No script runs; StartupScript does, because the globals that it makes are meant.
"""
from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import tempfile
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

from .errors import ControlError, ScriptError
from .runtime import Engine, text
from .workshop import Workshop, become_server

UNUSABLE = 2                    # exit code: nothing could be said
NO_LUACHECK = ("note: globals that are set or used by accident were not looked for: luacheck is not installed "
               "(Debian: apt-get install lua-check; LuaRocks: luarocks install luacheck)")
# Set or used but nowhere defined, or overwritten though it is Lua's or the server's.
CODES = ("111", "112", "113", "121", "142", "143")
STANDARDS = {"5.1": "lua51c", "5.2": "lua52c", "5.3": "lua53c", "5.4": "lua54c", "5.5": "lua54c", "jit": "luajit"}
BATCH, SECONDS = 200, 120       # files in one run of luacheck, and how long it may take
_NAMES = b"local n = {} for k in pairs(_G) do n[#n + 1] = tostring(k) end return table.concat(n, '\\n')"
_PROBE = b"function main() Send((function() %s end)()) end" % _NAMES
_WARNING = re.compile(r"^(.+:\d+):\d+: \([WE](\d+)\) (.*)$", re.MULTILINE)


class Report(NamedTuple):
    """`problems` are lines "FILE:LINE: what", `files` how many were read, `notes` what could not be looked at."""

    problems: List[str]
    files: int
    notes: List[str]


def lint(config: Any, folder: str) -> Report:
    """Look at everything below `folder`.  ControlError when there is nothing to look at."""
    if not os.path.isdir(folder):
        raise ControlError(f"{folder} is not a directory", UNUSABLE)
    workshop = Workshop(config, logging.Logger("luafcgid2"), script_roots=(), script_extensions=(),
                        script_max_memory=0, entrypoint="main")
    become_server(config)
    endings = tuple({".lua", *config.script_extensions})
    paths = sorted(_scripts(os.path.realpath(folder), endings))
    if not paths:
        raise ControlError(f"{folder} has no script ({', '.join(sorted(endings))})", UNUSABLE)
    problems = [problem for path in paths for problem in [_compile(workshop.engine, path)] if problem]
    broken = {problem.partition(":")[0] for problem in problems}
    program = shutil.which("luacheck")
    if not program:
        return Report(problems, len(paths), [NO_LUACHECK])
    whole = [path for path in paths if path not in broken]
    found, notes = _globals(program, config, whole, _extra(config, _known(workshop)), os.path.realpath(folder))
    return Report(sorted(problems + found, key=_place), len(paths), notes)


def _scripts(folder: str, endings: Tuple[str, ...]) -> Iterator[str]:
    """Files below `folder`, but those of hidden folders and, through a link, of others."""
    def fail(error: OSError) -> None:
        raise ControlError(f"{error.filename}: {error.strerror}", UNUSABLE)

    for place, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.endswith(endings) and not name.startswith("."):
                yield os.path.join(place, name)


def _compile(engine: Any, path: str) -> str:
    """What is wrong with one file, "" for nothing."""
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        raise ControlError(f"{path}: {error.strerror}", UNUSABLE) from error
    try:
        # Lua cuts long names: it gets a short one.
        engine.compile(source, b"@?")
    except ScriptError as error:
        message = str(error)
        return path + message[1:] if message.startswith("?:") else f"{path}:1: {message}"
    return ""


def _known(workshop: Workshop) -> List[str]:
    """The globals that a script finds in a request, beyond those of Lua."""
    with tempfile.TemporaryDirectory(prefix="luafcgid2-") as place:
        path = os.path.join(place, "probe.lua")
        with open(path, "wb") as file:
            file.write(_PROBE)
        names = {b"SCRIPT_FILENAME": os.fsencode(path), b"DOCUMENT_ROOT": os.fsencode(place)}
        response, error = workshop.respond(names, b"")
    if error:
        raise ControlError("StartupScript fails: " + text(error), UNUSABLE)
    return sorted(name for name in text(response.partition(b"\r\n\r\n")[2]).split("\n") if name.isidentifier())


def _globals(program: str, config: Any, paths: List[str], extra: List[str],
             folder: str) -> Tuple[List[str], List[str]]:
    """(problems, notes) of luacheck.  A .luacheckrc of the folder counts, too."""
    words = ["--formatter", "plain", "--codes", "--no-color", "--no-cache", "--std", STANDARDS[config.lua_version],
             "--only", *CODES, "--globals", config.entrypoint, "authorize", "--read-globals", *extra]
    problems: List[str] = []
    notes: List[str] = []
    for start in range(0, len(paths), BATCH):
        try:
            # B603: no shell, and paths are absolute.
            done = subprocess.run([program, *paths[start:start + BATCH], *words], cwd=folder,  # nosec B603
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ControlError(f"{program}: {error}", UNUSABLE) from error
        if done.returncode > 2:
            raise ControlError(f"{program}: {text(done.stderr or done.stdout).strip()}", UNUSABLE)
        for place, code, message in _WARNING.findall(text(done.stdout)):
            if code.startswith("0"):
                notes.append(f"note: {place}: luacheck cannot read this file: {message}")
            else:
                problems.append(f"{place}: {message}")
    return problems, notes


def _extra(config: Any, known: List[str]) -> List[str]:
    """`known` without what luacheck knows better: names of Lua's own libraries, whose fields it checks."""
    plain = Engine(config.lua_version).new_runtime().execute(_NAMES)
    return [name for name in known if name not in text(plain).split("\n") and name != config.entrypoint]


def _place(problem: str) -> Tuple[str, int]:
    path, _, rest = problem.partition(":")
    number = rest.partition(":")[0]
    return path, int(number) if number.isdigit() else 0


def shown(report: Report, base: Optional[str] = None) -> str:
    """The report as text; paths below `base` are shortened."""
    prefix = os.path.join(os.path.realpath(base), "") if base else ""
    lines = [line[len(prefix):] if prefix and line.startswith(prefix) else line for line in report.problems]
    count = len(report.problems)
    lines += [*report.notes, "%d file%s, %s" % (report.files, "s" * (report.files != 1), "%d problem%s" % (
        count, "s" * (count != 1)) if count else "no problem")]
    return "\n".join(lines)
