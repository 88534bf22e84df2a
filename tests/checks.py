"""The programs that read our code and find fault: `make lint` runs them all, test_checks.py one at a time.

In: the name of a check.  Out: why it cannot run here (`missing`), and what it finds (`run`).  What it looks for is
in setup.cfg and .luacheckrc, the modules for mypy are those of the floors in tests/unit/test_floors.py.  Nothing is
changed.
"""
from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from typing import Dict, List, Tuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TYPED_FLOORS = (0, 1, 2)
LUA = ("benchmarks", "docs", "etc", "examples", "luafcgid2", "tests")
SHELL = (".ci/apt", ".ci/run", "etc/debian/luafcgid2.postrm", "etc/debian/luafcgid2.prerm", "init.d/luafcgid2")


def floors() -> Dict[int, List[str]]:
    """The FLOORS of test_floors.py; read, not imported, since `make lint` needs no pytest."""
    path = os.path.join(ROOT, "tests", "unit", "test_floors.py")
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read(), path)
    found = next(node.value for node in tree.body if isinstance(node, ast.Assign)
                 and [ast.unparse(target) for target in node.targets] == ["FLOORS"])
    return {floor: names.split() for floor, names in ast.literal_eval(found).items()}


def typed_modules() -> List[str]:
    """The modules that pass mypy's strict mode."""
    return ["luafcgid2" if name == "__init__" else "luafcgid2." + name
            for floor in TYPED_FLOORS for name in floors()[floor]]


def commands() -> Dict[str, Tuple[str, ...]]:
    """The words of each check.  The first is a program's name, or `-m` for a Python package."""
    modules = [word for name in typed_modules() for word in ("-m", name)]
    return {
        "ruff": ("-m", "ruff", "check", "--quiet", "--target-version=py39", "--line-length=120", "--select=E,F,W,B",
                 "."),
        "mypy": ("-m", "mypy", "--config-file=setup.cfg", *modules),
        "bandit": ("-m", "bandit", "--quiet", "--ini=setup.cfg", "--recursive", "luafcgid2"),
        "luacheck": ("luacheck", "--quiet", "--codes", "--no-color", "--", *LUA),
        "shellcheck": ("shellcheck", *SHELL),
    }


COMMANDS = commands()


def missing(name: str) -> str:
    """Why this check cannot run; "" if it can."""
    program = COMMANDS[name][0]
    there = importlib.util.find_spec(name) if program == "-m" else shutil.which(program)
    return "" if there else "%s is not installed" % name


def run(name: str) -> str:
    """What the check finds; "" if that is nothing."""
    words = COMMANDS[name]
    done = subprocess.run([sys.executable, *words] if words[0] == "-m" else words, cwd=ROOT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
    return done.stdout + "%s: exit code %d" % (name, done.returncode) if done.returncode else ""


def main() -> int:
    """Run all checks.  The exit code is 0 if none that could run found anything."""
    findings = []
    for name in COMMANDS:
        problem = missing(name)
        found = "" if problem else run(name)
        print("%s: %s" % (name, problem + ": not checked" if problem else found or "ok"), flush=True)
        findings += [name] * bool(found)
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
