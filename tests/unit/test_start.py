"""The plain way into the server: which command lines it takes, and what it does not load."""
import ast
import hashlib
import os
import subprocess
import sys

import pytest

from test_floors import FLOOR_OF, PACKAGE

from luafcgid2 import digests, later
from luafcgid2.start import plainly

# Each takes memory that the master and all workers would keep: see start.py and digests.py.
HEAVY = {"_hashlib", "click", "dataclasses", "difflib", "email", "inspect", "ipaddress", "json", "multipart", "pickle",
         "random", "redis", "secrets", "shutil", "ssl", "subprocess", "sysconfig", "tempfile", "uuid"}
# Modules that only commands for people use, or load while they start.
ON_A_TERMINAL = {"check", "migrate", "reference", "top", "watch", "workshop"}


@pytest.mark.parametrize("words, found", [
    ([], ("config.lua", "")),
    (["run"], ("config.lua", "")),
    (["/etc/luafcgid2/config.lua"], ("/etc/luafcgid2/config.lua", "")),
    (["my.lua"], ("my.lua", "")),
    (["./my conf"], ("./my conf", "")),
    (["run", "serve"], ("serve", "")),
    (["run", "--user", "www-data", "/etc/x.lua"], ("/etc/x.lua", "www-data")),
    (["run", "--user", "www-data"], ("config.lua", "www-data")),
])
def test_a_command_line_that_only_serves_needs_no_parser(words, found):
    assert plainly(words) == found


@pytest.mark.parametrize("words", [
    ["serve"], ["--help"], ["--version"], ["-t", "x.lua"], ["x.lua", "-t"], ["run", "-t"], ["run", "x.lua", "y.lua"],
    ["run", "--user"], ["run", "--user", "--test"], ["run", "--user", "me", "-t"], ["run", "--user=me", "x.lua"],
    ["serve", "./site"], ["run", "--", "x.lua"], ["run", ""], [""], ["--no/such.lua"], ["typo"],
])
def test_every_other_command_line_is_clicks(words):
    assert plainly(words) is None


def test_a_server_loads_nothing_heavy_before_it_needs_it():
    code = "import sys, luafcgid2.start, luafcgid2.master; print(' '.join(sys.modules))"
    # -S, because what is installed beside us may put imports into every Python.
    path = "import sys; sys.path[:] = %r; " % (sys.path,)
    loaded = subprocess.run([sys.executable, "-S", "-c", path + code], capture_output=True, text=True, check=True)
    assert not HEAVY.intersection(loaded.stdout.split())


def test_what_is_imported_late_is_known_to_those_who_lose_the_right_to_read_it():
    late = set()
    for name in os.listdir(PACKAGE):
        module = name[:-3]
        if name.endswith(".py") and FLOOR_OF[module] < 6 and module not in ON_A_TERMINAL:
            tree = ast.parse(open(os.path.join(PACKAGE, name)).read())
            for function in ast.walk(tree):
                if isinstance(function, ast.FunctionDef):
                    for node in ast.walk(function):
                        if isinstance(node, ast.Import):
                            late |= {item.name for item in node.names}
                        elif isinstance(node, ast.ImportFrom) and node.level:
                            late.add("luafcgid2." + (node.module or node.names[0].name))
    assert late == set(later.NAMES)


def test_digests_are_those_of_hashlib_and_openssl_can_still_be_had():
    code = ("import sys; from luafcgid2 import digests; assert '_hashlib' not in sys.modules;"
            "print(digests.sha256(b'x').hexdigest(), digests.sha1(b'x', usedforsecurity=False).hexdigest(),"
            "digests.blake2b(b'x', digest_size=8).hexdigest()); import ssl, _hashlib")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [hashlib.sha256(b"x").hexdigest(), hashlib.sha1(b"x").hexdigest(),
                                   hashlib.blake2b(b"x", digest_size=8).hexdigest()]
    assert said.stderr == ""


def test_a_python_without_digests_of_its_own_gets_those_of_openssl(monkeypatch):
    monkeypatch.setattr(digests, "_OWN", ("_no_such_module",))
    monkeypatch.delitem(sys.modules, "_hashlib", raising=False)
    with digests._without_openssl():
        import _hashlib  # noqa: F401
