"""The sdist and the wheel are whole: each is installed into a virtualenv of its own and runs there."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
from harness import PATIENCE
from servers import Master

from luafcgid2 import __version__
from luafcgid2.client import request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GENERATED = shutil.ignore_patterns(
    ".git", ".venv", "venv", "*.egg-info", "build", "dist", "__pycache__", ".pytest_cache", ".ruff_cache",
    ".hypothesis")
CONFIG = """
Listen = "{0}/l.sock"
LogFilePath = "{0}/l.log"
PidFile = "{0}/l.pid"
"""
# Runs in the virtualenv: the prelude must come from the installed package.
PRELUDE = """
import luafcgid2, os
from luafcgid2.runtime import Engine
print(os.path.dirname(luafcgid2.__file__))
print(" ".join(sorted(name.decode() for name, code in Engine("5.3", c_modules=False).prelude())))
"""

def run(*command: str, **options) -> str:
    """Standard output of a command that must succeed."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("PYTHONPATH", "PYTHONHOME", "MAKEFLAGS", "MAKELEVEL", "DESTDIR", "PREFIX")}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env=environment, timeout=280, **options)
    assert done.returncode == 0, "%s\n%s\n%s" % (" ".join(command), done.stdout, done.stderr)
    return done.stdout


def lua_files() -> set:
    """Names of the prelude's files in the checkout, relative to its root."""
    return {"luafcgid2/lua/" + name for name in os.listdir(os.path.join(ROOT, "luafcgid2", "lua"))
            if name.endswith(".lua")}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the tree: building leaves files behind."""
    path = tmp_path_factory.mktemp("checkout") / "luafcgid2"
    shutil.copytree(ROOT, path, ignore=GENERATED, symlinks=True)
    return str(path)


@pytest.fixture(scope="module")
def packages(checkout, tmp_path_factory):
    """Paths of (sdist, wheel); the wheel is built from the sdist, as `python -m build` does."""
    target = str(tmp_path_factory.mktemp("dist"))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", target, checkout)
    names = sorted(os.listdir(target))
    assert len(names) == 2, names
    return tuple(os.path.join(target, name) for suffix in (".tar.gz", ".whl")
                 for name in names if name.endswith(suffix))


def native_files() -> set:
    """Names of the files of C in the checkout."""
    return {"luafcgid2/native/" + name for name in os.listdir(os.path.join(ROOT, "luafcgid2", "native"))
            if name.endswith((".c", ".h"))}


def check_programs(programs: str, site: str) -> None:
    """Both programs and the module say their version, test a configuration, and find the prelude."""
    os.makedirs(site)
    config = os.path.join(site, "config.lua")
    with open(config, "w", encoding="utf-8") as file:
        file.write(CONFIG.format(site))
    python, server = os.path.join(programs, "python"), os.path.join(programs, "luafcgid2")
    for command in ([server], [os.path.join(programs, "luafcgid2ctl")], [python, "-m", "luafcgid2"]):
        assert __version__ in run(*command, "--version", cwd=site)
    assert site + "/l.sock" in run(server, "-t", config, cwd=site)
    where, names = run(python, "-c", PRELUDE, cwd=site).splitlines()
    assert not where.startswith(ROOT)
    assert {"luafcgid2/lua/%s.lua" % name for name in names.split()} == lua_files()


def test_the_sdist_holds_all_that_a_build_and_the_tests_need(packages):
    with tarfile.open(packages[0]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = lua_files() | native_files() | {
        "LICENSE", "Makefile", "README.rst", "setup.cfg", "setup.py", "etc/config.lua", ".ci/run",
        "tests/integration/test_package.py", "benchmarks/responder.c", "init.d/luafcgid2"}
    assert wanted <= names
    assert not [name for name in names if name.endswith((".pyc", ".so", ".sock", ".db")) or ".venv" in name]


def test_the_wheel_holds_the_package_and_nothing_else(packages):
    with zipfile.ZipFile(packages[1]) as archive:
        names = set(archive.namelist())
    assert lua_files() <= names
    assert "luafcgid2/types/luafcgid2.lua" in names
    assert {"luafcgid2/status/page." + kind for kind in ("css", "html", "js")} <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"luafcgid2"}


def test_a_fresh_virtualenv_runs_the_wheel(packages, tmp_path):
    folder = str(tmp_path / "venv")
    run(sys.executable, "-m", "venv", folder)
    run(os.path.join(folder, "bin", "python"), "-m", "pip", "install", "--quiet", packages[1])
    check_programs(os.path.join(folder, "bin"), str(tmp_path / "site"))


def test_the_sdist_installs_and_finds_its_lua_files(packages, tmp_path):
    target = str(tmp_path / "target")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
        "--target", target, packages[0])
    code = "import sys; sys.path.insert(0, %r)\n%s" % (target, PRELUDE)
    where, names = run(sys.executable, "-c", code, cwd=str(tmp_path)).splitlines()
    assert where == os.path.join(target, "luafcgid2")
    assert {"luafcgid2/lua/%s.lua" % name for name in names.split()} == lua_files()


@pytest.mark.parametrize("compiler", [None, "/bin/false"])
def test_what_the_sdist_installs_serves_with_a_compiler_and_without(packages, site, compiler):
    target = os.path.join(site.path, "target")
    said = run(*(["env", "CC=" + compiler] if compiler else []), sys.executable, "-m", "pip", "install",
               "--disable-pip-version-check", "--no-cache-dir", "--no-deps", "--no-build-isolation", "--target", target,
               packages[0])
    assert "rror" not in said
    built = [name for name in os.listdir(os.path.join(target, "luafcgid2")) if name.startswith("_fastpath.")]
    if compiler:
        assert built == []
    elif shutil.which("cc"):
        assert len(built) == 1
    # Leaving it asserts that neither the log nor the terminal tell of an error.
    master = Master(site)
    master.argv[:3] = [sys.executable, os.path.join(target, "bin", "luafcgid2")]
    master.environment["PYTHONPATH"] = target
    with master:
        for _ in range(3):
            assert request(master.address, {"SCRIPT_FILENAME": site.www + "/echo.lua", "DOCUMENT_ROOT": site.www},
                           timeout=PATIENCE).status == 200
        for worker in master.workers():
            with open("/proc/%d/maps" % worker, encoding="utf-8") as file:
                assert (target + "/luafcgid2/_fastpath." in file.read()) == bool(built)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_install_stages_a_tree_that_runs_where_it_is_moved_to(checkout, tmp_path):
    stage, final = tmp_path / "stage", tmp_path / "final"
    staged = stage / str(final)[1:]
    config = stage / "etc" / "luafcgid2" / "config.lua"
    config.parent.mkdir(parents=True)
    config.write_text("-- mine\n")
    (staged / "lib" / "luafcgid2" / "of-an-older-version").mkdir(parents=True)

    run("make", "install", "PYTHON=" + sys.executable, "EXTRAS=", "DESTDIR=%s" % stage, "PREFIX=%s" % final,
        cwd=checkout)

    assert config.read_text() == "-- mine\n"
    for name in ("default/luafcgid2", "logrotate.d/luafcgid2", "nginx/snippets/luafcgid2.conf"):
        assert (stage / "etc" / name).is_file()
    script = stage / "etc" / "init.d" / "luafcgid2"
    assert script.stat().st_mode & 0o111
    assert "%s/bin" % final in script.read_text()
    for path in [script, staged / "lib" / "systemd" / "system" / "luafcgid2.service",
                 staged / "lib" / "luafcgid2" / "pyvenv.cfg",
                 *(staged / "lib" / "luafcgid2" / "bin").iterdir()]:
        if path.is_file() and not path.is_symlink():
            assert str(stage).encode() not in path.read_bytes(), path
    assert not [name for name in os.listdir(staged / "lib") if name.startswith("luafcgid2.")]
    assert not (staged / "lib" / "luafcgid2" / "of-an-older-version").exists()

    os.rename(staged, final)
    check_programs(str(final / "lib" / "luafcgid2" / "bin"), str(tmp_path / "site"))
    for name in ("luafcgid2", "luafcgid2ctl"):
        assert __version__ in run(str(final / "bin" / name), "--version", cwd=str(tmp_path))

    run("make", "uninstall", "PREFIX=%s" % final, "SYSCONFDIR=%s/etc" % stage, cwd=checkout)
    assert config.exists()
    assert [name for _, _, names in os.walk(final) for name in names] == []
