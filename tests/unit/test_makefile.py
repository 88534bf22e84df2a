"""What `make` would do, read from `make --dry-run`: nothing is installed, removed or started here."""
from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def dry_run(*arguments: str) -> str:
    """The commands that make prints for `arguments`, continuation lines joined."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "DESTDIR", "PREFIX")}
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "PYTHON=" + sys.executable, *arguments], cwd=ROOT,
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True)
    assert done.returncode == 0, done.stdout
    return re.sub(r"\s*\\\n\s*", " ", done.stdout)


def written(commands: str) -> set:
    """Absolute paths that the commands of `make install` create, move or remove."""
    found = set()
    for line in commands.splitlines():
        line = line.split("||", 1)[-1].strip()
        words = re.findall(r"'([^']*)'", line)
        if line.startswith(("install -d", "rm ", "mkdir ", "chmod ")):
            found.update(words)
        elif words and line.startswith(("install ", "cp ", "mv ", "ln ")):
            found.add(words[-1])
        elif " >'" in line:
            found.add(line.rsplit(" >'", 1)[1].rstrip("'"))
        elif " -m venv " in line:
            found.add(words[-1])
    return {path for path in found if path.startswith("/")}


def test_install_writes_below_destdir_only():
    paths = written(dry_run("install", "DESTDIR=/stage", "PREFIX=/opt/lua"))
    assert len(paths) > 10
    assert [path for path in paths if not path.startswith("/stage/")] == []


def test_install_puts_programs_below_prefix_and_configuration_in_etc():
    commands = dry_run("install", "PREFIX=/opt/lua")
    assert "ln -sf '/opt/lua/lib/luafcgid2/bin/luafcgid2' '/opt/lua/bin/luafcgid2'" in commands
    assert "ln -sf '/opt/lua/lib/luafcgid2/bin/luafcgid2ctl' '/opt/lua/bin/luafcgid2ctl'" in commands
    assert "/etc/init.d/luafcgid2" in written(commands)
    assert "/usr/local" not in commands.replace("s|/usr/local|", "")


def test_links_do_not_name_destdir():
    commands = dry_run("install", "DESTDIR=/stage", "PREFIX=/usr")
    links = [line for line in commands.splitlines() if "ln -sf" in line]
    assert links
    for line in links:
        assert line.split("ln -sf ")[1].startswith("'/usr/lib/luafcgid2/bin/")


def test_install_keeps_a_configuration_that_is_there():
    commands = dry_run("install", "DESTDIR=/stage")
    loop = next(line for line in commands.splitlines() if "config.lua:luafcgid2/config.lua" in line)
    assert 'to="/stage/etc/${pair#*:}"' in loop and 'test -e "$to" || install' in loop
    assert "'/stage/etc/luafcgid2/config.lua'" not in commands


def pairs(source: str) -> list:
    """(file, place) of each pair that a loop of `make install` goes through, whose files are in `source`."""
    loops = [line for line in dry_run("install", "DESTDIR=/stage").splitlines()
             if "for pair in" in line and source in line]
    assert all('"/stage' in loop.partition("do ")[2] for loop in loops)
    return [word.split(":") for loop in loops for word in loop.split("for pair in ")[1].split(";")[0].split()]


def test_manual_pages_completion_and_units_are_installed_and_uninstalled():
    made = pairs("/made/") + [pair for pair in pairs('"etc/${pair%%:*}"') if pair[1].startswith("/")]
    assert len(made) == 3 + 2 * 3 + 4
    removed = dry_run("uninstall", "DESTDIR=/stage")
    for _, place in made:
        assert "'/stage%s'" % place in removed


def test_every_file_that_install_copies_exists():
    names = [name for name, _ in pairs('"etc/${pair%%:*}"')]
    assert len(names) >= 8
    assert [name for name in names if not os.path.isfile(os.path.join(ROOT, "etc", name))] == []


def test_editors_find_the_annotations_where_the_documentation_says():
    commands = dry_run("install", "DESTDIR=/stage")
    assert re.search(r"cp -R [^\n]* luafcgid2/types '/stage/usr/local/share/luafcgid2/'", commands)
    for name in ("README.rst", "docs/api.rst"):
        with open(os.path.join(ROOT, name), encoding="utf-8") as file:
            assert '"workspace.library": ["/usr/local/share/luafcgid2/types"]' in file.read()


def test_uninstall_leaves_configuration_sessions_and_logs():
    commands = dry_run("uninstall", "DESTDIR=/stage")
    assert "/stage/usr/local/lib/luafcgid2" in commands
    for kept in ("etc/luafcgid2", "var/lib", "var/log"):
        assert kept not in commands


def test_run_becomes_the_server_and_takes_another_address():
    commands = dry_run("run", "HTTP=127.0.0.1:9999", "VENV=/nowhere/venv")
    assert "exec /nowhere/venv/bin/luafcgid2 serve 'examples' --http '127.0.0.1:9999'" in commands


def test_another_python_makes_another_virtualenv():
    version = "%d.%d" % sys.version_info[:2]
    assert "/nowhere/venv/made-with-python-" + version in dry_run("run", "VENV=/nowhere/venv")


def test_every_extra_that_make_asks_for_is_in_setup_cfg():
    setup = configparser.ConfigParser()
    setup.read(os.path.join(ROOT, "setup.cfg"), encoding="utf-8")
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        asked = {name for names in re.findall(r"'\.\[([a-z,]+)\]'|EXTRAS \?= ([a-z,]+)", file.read())
                 for name in ",".join(names).split(",") if name}
    assert asked and asked <= set(setup["options.extras_require"])


def test_an_installation_and_make_run_can_read_forms_with_files():
    assert "source[redis,doctor,top,forms]" in dry_run("install").replace("'", "")
    assert ".[serve,forms]" in dry_run("run", "VENV=/nowhere/venv")


def test_the_tests_bring_what_reads_the_code():
    commands = dry_run("test", "VENV=/nowhere/venv")
    assert "lua-check" in commands and "shellcheck" in commands and "lint]" in commands
    assert "/nowhere/venv/bin/python tests/checks.py" in dry_run("lint", "VENV=/nowhere/venv")


def test_continuous_integration_runs_make_test():
    path = os.path.join(ROOT, ".ci", "run")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert text.startswith("#!/usr/bin/env bash\n") and "set -eu" in text and "make test" in text
    assert os.access(path, os.X_OK)
