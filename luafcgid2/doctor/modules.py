"""Which C modules the server's Lua can load, by loading them: a program of its own.

In: `python -m luafcgid2.doctor.modules`, with JSON on standard input: version, LuaCPath, identity.  Out: JSON
on standard output: a list of `[module, error]` for those that do not load, and one of `[module, versions]` for
those that are installed for other versions of Lua only.  facts.py runs it.  It is a program because a process
can load the C modules of one Lua version only; each module is tried in a child that has become the server's
user, so that one that crashes harms nobody.
"""
from __future__ import annotations

import json
import os
import signal
import sys
from typing import Dict, List, Optional, Tuple

from ..privileges import Identity, become
from ..runtime import Engine, text

VERSIONS = ("5.1", "5.2", "5.3", "5.4", "5.5")
SECONDS = 10
# These exist to fill gaps of an old Lua: nobody misses them in a newer one.
FILLERS = ("compat", "bit")
_LOAD = b"return function(path, name) package.cpath = path; require(name) end"


def modules(cpath: str) -> List[str]:
    """The names that `require` would take for the .so files of these `package.cpath` entries."""
    names = []
    for entry in cpath.split(";"):
        folder, mark, tail = entry.partition("/?.so")
        if not mark or tail or not os.path.isdir(folder):
            continue
        for name in sorted(os.listdir(folder)):
            inner = os.path.join(folder, name)
            if name.endswith(".so"):
                names.append(name[:-3])
            elif os.path.isdir(inner):
                names += ["%s.%s" % (name, each[:-3]) for each in sorted(os.listdir(inner)) if each.endswith(".so")]
    return list(dict.fromkeys(names))


def elsewhere(cpath: str, directory: str, known: List[str]) -> Dict[str, List[str]]:
    """Module -> versions: installed for other versions of Lua, not for that of `directory` ("5.3")."""
    found: Dict[str, List[str]] = {}
    for version in VERSIONS:
        for name in modules(cpath.replace("/lua/" + directory, "/lua/" + version)):
            if version != directory and name not in known and not name.startswith(FILLERS) and "." not in name:
                found.setdefault(name, []).append(version)
    return found


def trial(engine: Engine, cpath: str, name: str, identity: Optional[Identity]) -> str:
    """Why `require` of a C module fails; "" when it does not."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        # A module may print; standard output carries the result.
        os.dup2(2, 1)
        signal.alarm(SECONDS)
        message = b""
        try:
            become(identity)
            engine.new_runtime().execute(_LOAD)(cpath.encode(), name.encode())
        except Exception as error:
            message = text(error.args[0] if error.args else error).split("\nstack traceback")[0].encode()[:4000]
        os.write(writer, message)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        said = file.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return "it kills the process: %s" % signal.strsignal(os.WTERMSIG(status))
    return said.decode("utf-8", "backslashreplace").strip()


def examine(version: str, lua_cpath: str, identity: Optional[Identity]) -> Dict[str, List[Tuple[str, object]]]:
    """Both lists of this module's contract.  Raises BootError for a version that lupa does not have."""
    engine = Engine(version)
    default = engine.default_cpath().decode()
    directory = default.partition("/lua/")[2].partition("/")[0]
    cpath = ";".join(filter(None, (lua_cpath, default)))
    names = modules(cpath)
    failures = [(name, trial(engine, cpath, name, identity)) for name in names]
    return {"tried": [(name, "") for name in names],
            "broken": [(name, said) for name, said in failures if said and "luaopen_" not in said],
            "elsewhere": list(elsewhere(default, directory, names).items())}


def main() -> None:
    """The program."""
    version, lua_cpath, identity = json.load(sys.stdin)
    print(json.dumps(examine(version, lua_cpath, Identity(*identity) if identity else None)))


if __name__ == "__main__":
    main()
