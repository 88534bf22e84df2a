"""The package's tree: imports go down only, one door for each dependency, all modules stay small."""
from __future__ import annotations

import ast
import os
import sys
from typing import Dict, Iterator, List, Set, Tuple

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGE = os.path.join(ROOT, "luafcgid2")
FLOORS = {
    6: "__main__ cli control ctl failed front lint livereload manual repl serve start starter",
    5: "census changeover children door fastpath guards master monitor notify orders poller ready reload roster "
       "scaling signals standin supervision upgrade watched wear wiring worker workshop",
    4: "authorizer doctor.checks doctor.facts doctor.machine doctor.page doctor.report doctor.webchecks doctor.why "
       "errorpages responder",
    3: "blank check doctor.visitor entry gate heap hung memory migrate pool quarantine reference relay routes shelf "
       "state status status.desk status.metrics status.page status.plain stopped top upkeep watch",
    2: "accesslog allowed backlog changes client config configtext docroot doctor.modules forms handoff interrupt "
       "jsontext kept later listener log logfile logformat luaconfig options options_logs options_processes "
       "options_table pidfile popen privileges procfs scheduling scoreboard script seat sessions sessions.cookie "
       "sessions.redis_scripts sessions.redis_shared sessions.redis_store sessions.redis_url sessions.session "
       "sessions.shared sessions.shared_sqlite sessions.shared_store sessions.sqlite sessions.staging "
       "sessions.statements snapshot socketfile stream syslogger",
    1: "doctor.lighttpd doctor.nginx fcgi runtime",
    0: "__init__ allowance answer body complaints decisions delivery details devlog digests doctor errors gathering "
       "luavalues masks pages params receiving records replies rerun roff sending timeouts units",
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names.split()}
# What may be imported sideways: a module that was split, or a base that its whole floor stands on.
SIDEWAYS = {
    "__main__": "start",
    "cli": "serve start",
    "start": "cli",
    "ctl": "control failed lint repl starter",
    "failed": "control",
    "workshop": "wiring",
    "serve": "front livereload",
    "front": "livereload",
    "pages": "details",
    "details": "masks",
    "manual": "cli ctl",
    "master":
        "census changeover children door guards notify orders ready reload roster scaling signals upgrade "
        "wear worker",
    "changeover": "orders reload upgrade",
    "roster": "children scaling supervision wear",
    "scaling": "children",
    "wear": "children",
    "children": "signals",
    "reload": "signals",
    "upgrade": "ready supervision",
    "worker": "ready wiring",
    "poller": "standin watched", "standin": "watched",
    "status.desk": "status",
    "pool": "entry shelf state upkeep",
    "state": "blank",
    "upkeep": "entry state",
    "entry": "state",
    "config": "configtext luaconfig options",
    "configtext": "options",
    "luaconfig": "options",
    "options": "options_table",
    "options_table": "options_logs options_processes",
    "authorizer": "responder",
    "errorpages": "responder",
    "doctor.facts": "doctor.machine",
    "doctor.why": "doctor.facts",
    "doctor.webchecks": "doctor.facts",
    "doctor.page": "doctor.facts doctor.webchecks doctor.why",
    "doctor.checks": "doctor.facts doctor.page doctor.webchecks doctor.why",
    "doctor.report": "doctor.checks doctor.facts",
    "doctor.modules": "privileges",
    "later": "privileges",
    "listener": "privileges socketfile",
    "log": "logfile logformat privileges syslogger",
    "pidfile": "privileges",
    "accesslog": "logfile logformat",
    "syslogger": "logformat",
    "seat": "scoreboard",
    "snapshot": "scoreboard",
    "status": "status.metrics status.page status.plain",
    "top": "watch",
    "sessions.session": "sessions sessions.cookie sessions.staging",
    "sessions.staging": "sessions sessions.cookie",
    "sessions.sqlite": "sessions sessions.shared_sqlite sessions.statements",
    "sessions.statements": "sessions",
    "sessions.shared": "sessions.shared_store",
    "sessions.shared_sqlite": "sessions sessions.shared_store sessions.statements",
    "sessions.redis_store":
        "sessions sessions.redis_scripts sessions.redis_shared sessions.redis_url sessions.shared_store",
    "sessions.redis_shared": "sessions.redis_scripts sessions.shared_store",
    "sessions.redis_scripts": "sessions sessions.shared_store",
    "sessions": "sessions.shared_store",
    "answer": "errors records",
    "body": "errors",
    "delivery": "records replies sending",
    "gathering": "body receiving records",
    "timeouts": "complaints",
    "params": "errors",
    "receiving": "body errors records",
    "records": "errors",
    "replies": "records",
    "fastpath": "poller watched",
    "wiring": "fastpath monitor poller ready",
}
DOORS = {
    "lupa": {"runtime"}, "flup": {"fcgi"}, "click": {"cli", "control", "ctl", "manual", "doctor.report"},
    "setproctitle": {"master", "worker"},
    "crossplane": {"doctor.nginx"}, "multipart": {"forms"}, "waitress": {"serve"}, "redis": {"sessions.redis_store"},
    "rich": {"top"},
}
CODE_LINES, FUNCTION_LINES, LUA_LINES = 250, 50, 120


def python_files() -> Iterator[Tuple[str, str]]:
    """(module name below the package, path) of every Python file in it."""
    for folder, folders, files in os.walk(PACKAGE):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in files:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                parts = os.path.relpath(path, PACKAGE)[:-3].split(os.sep)
                yield ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts), path


FILES = dict(python_files())
TREES = {name: ast.parse(open(path, encoding="utf-8").read(), path, feature_version=(3, 9))
         for name, path in FILES.items()}
each_module = pytest.mark.parametrize("module", sorted(FILES))


def inner(module: str, node: ast.ImportFrom) -> Set[str]:
    """The modules of the package that a relative import names."""
    is_package = os.path.basename(FILES[module]) == "__init__.py"
    parts = [] if module == "__init__" else module.split(".")
    above = node.level - is_package
    base = parts[:len(parts) - above] if above else parts
    base += node.module.split(".") if node.module else []
    found = set()
    for alias in node.names:
        full = ".".join(base + [alias.name])
        found.add(full if full in FILES else ".".join(base) or "__init__")
    return found


def imports(module: str) -> Tuple[Set[str], Set[str]]:
    """(modules of the package, top-level names of other packages) that `module` imports anywhere in it."""
    own: Set[str] = set()
    others: Set[str] = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            others.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            own.update(inner(module, node))
        elif isinstance(node, ast.ImportFrom):
            others.add(node.module.split(".")[0])
    return own - {module}, others


@each_module
def test_a_module_has_a_floor(module):
    assert module in FLOOR_OF, "give %s a floor in FLOORS" % module


@each_module
def test_imports_go_down_only(module):
    sideways = SIDEWAYS.get(module, "").split()
    wrong = [name for name in sorted(imports(module)[0]) if name not in sideways
             and FLOOR_OF.get(name, 99) >= FLOOR_OF.get(module, -1)]
    assert not wrong, "%s (floor %s) imports %s" % (module, FLOOR_OF.get(module), ", ".join(
        "%s (floor %s)" % (name, FLOOR_OF.get(name)) for name in wrong))


def test_sideways_imports_stay_on_their_floor():
    wrong = [(name, other) for name, others in SIDEWAYS.items() for other in others.split()
             if FLOOR_OF[name] != FLOOR_OF[other]]
    assert not wrong


def test_module_level_imports_have_no_circle():
    graph: Dict[str, List[str]] = {}
    for module, tree in TREES.items():
        graph[module] = [name for node in tree.body if isinstance(node, ast.ImportFrom) and node.level
                         for name in inner(module, node) if name != module]
    done: Set[str] = set()

    def visit(name: str, path: Tuple[str, ...]) -> None:
        assert name not in path, " -> ".join(path + (name,))
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, path + (name,))
            done.add(name)
    for module in graph:
        visit(module, ())


@each_module
def test_a_dependency_comes_in_by_one_door(module):
    for name in imports(module)[1]:
        if name in DOORS:
            assert module in DOORS[name], "%s imports %s; only %s may" % (module, name, sorted(DOORS[name]))


@pytest.mark.skipif(sys.version_info < (3, 10), reason="sys.stdlib_module_names is of Python 3.10")
@each_module
def test_a_module_imports_the_standard_library_and_what_setup_cfg_names(module):
    unknown = imports(module)[1] - set(sys.stdlib_module_names) - set(DOORS) - {"__future__"}
    assert not unknown


@each_module
def test_a_module_opens_with_its_contract(module):
    assert ast.get_docstring(TREES[module]), "%s has no docstring" % module


def code_lines(tree: ast.Module) -> int:
    """Lines that hold code: no blank line, comment or docstring counts."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    words = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented)
             and node.body and isinstance(node.body[0], ast.Expr)}
    lines: Set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.expr, ast.arg)) and id(node) not in words:
            lines.update(range(node.lineno, node.end_lineno + 1) if isinstance(node, ast.Constant)
                         else (node.lineno, node.end_lineno))
        elif isinstance(node, ast.stmt) and not (isinstance(node, ast.Expr) and id(node.value) in words):
            lines.add(node.lineno)
    return len(lines)


@each_module
def test_a_module_is_small(module):
    assert code_lines(TREES[module]) <= CODE_LINES


@each_module
def test_a_function_is_small(module):
    long = ["%s: %d lines" % (node.name, node.end_lineno - node.lineno + 1)
            for node in ast.walk(TREES[module]) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            and node.end_lineno - node.lineno >= FUNCTION_LINES]
    assert not long


def test_a_lua_file_is_small():
    folder = os.path.join(PACKAGE, "lua")
    sizes = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            sizes[name] = len(file.readlines())
    assert sizes, "the prelude is missing"
    assert not {name: size for name, size in sizes.items() if size > LUA_LINES}
