"""What `make install` puts on a machine, on a scratch prefix: pages, completion, units, the init script's verbs.

One installation serves all tests here.
"""
from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

import pytest
from harness import PATIENCE, ROOT, accepts, program
from service import Service

from luafcgid2 import config, ctl, fastpath
from luafcgid2.options import OPTIONS

PAGES = {"luafcgid2.8": "man8", "luafcgid2ctl.8": "man8", "luafcgid2-config.5": "man5"}
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def run(*command, **options):
    """What a command prints on both outputs; it must succeed."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=280, **options)
    assert done.returncode == 0, "%s\n%s" % (command, done.stdout)
    return done.stdout


class Installation:
    """A tree below one directory: `usr` is PREFIX, `etc` and `var` are the rest."""

    def __init__(self, root):
        self.root = root
        self.prefix, self.etc = os.path.join(root, "usr"), os.path.join(root, "etc")
        self.environment = {name: value for name, value in os.environ.items()
                            if name not in ("PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "DESTDIR", "PREFIX")}
        self.environment["PATH"] = self.path("bin") + ":" + self.environment["PATH"]
        self.arguments = ["PREFIX=" + self.prefix, "SYSCONFDIR=" + self.etc, "EXTRAS=",
                          "LOCALSTATEDIR=" + os.path.join(root, "var"), "PYTHON=" + sys.executable]

    def make(self, target):
        return run("make", target, *self.arguments, cwd=ROOT, env=self.environment)

    def path(self, *names):
        """A path below PREFIX."""
        return os.path.join(self.prefix, *names)

    def files(self):
        """Every file and link below it."""
        return {os.path.join(folder, name) for folder, _, names in os.walk(self.root) for name in names}


@pytest.fixture(scope="module")
def installed():
    # Not pytest's own folder: www-data must be able to reach the programs.
    root = tempfile.mkdtemp(prefix="lf2-")
    os.chmod(root, 0o755)
    try:
        made = Installation(root)
        made.make("install")
        yield made
    finally:
        shutil.rmtree(root)


def page(installed, name):
    return installed.path("share", "man", PAGES[name], name)


@pytest.mark.parametrize("name", PAGES)
def test_no_program_that_sets_a_page_has_a_warning(installed, name):
    path = page(installed, name)
    environment = dict(installed.environment, LC_ALL="C.UTF-8", MANWIDTH="80")
    done = subprocess.run(["man", "--warnings=w", "-l", path], env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert run("groff", "-man", "-ww", "-z", "-Tutf8", path) == ""
    # A page without a date is the same on every day; that is what mandoc has to say.
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", path], stdout=subprocess.PIPE, text=True)
    assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []


def shown(installed, name):
    """A page as it is read, one word after the other."""
    text = run("man", "-l", page(installed, name), env=dict(installed.environment, LC_ALL="C.UTF-8", MANWIDTH="200"))
    return " ".join(re.sub(".\b", "", text).split())


def test_every_key_is_in_the_manual_with_its_meaning(installed):
    text = shown(installed, "luafcgid2-config.5")
    for option in OPTIONS:
        for name in (option.name, *option.aliases):
            assert name in text
        assert " ".join(option.doc.split()) in text


def test_every_command_and_option_is_in_the_manual(installed):
    text = shown(installed, "luafcgid2ctl.8")
    for name, command in ctl.main.commands.items():
        assert " %s " % name in text
        for option in command.params:
            assert all(spelling in text for spelling in option.opts if spelling.startswith("-"))
    for name in ("SIGHUP", "SIGUSR1", "SIGTERM", "78", "--http", "serve [OPTIONS] [DIR]"):
        assert name in shown(installed, "luafcgid2.8")


def test_apropos_knows_the_pages(installed):
    folder = installed.path("share", "man")
    run("mandb", "--user-db", "--quiet", folder, env=dict(installed.environment, MANPATH=folder))
    found = run("apropos", "luafcgid2", env=dict(installed.environment, MANPATH=folder, LC_ALL="C"))
    assert len(found.splitlines()) == len(PAGES)


def test_the_pages_are_the_same_when_they_are_made_again(installed, tmp_path):
    run(installed.path("lib", "luafcgid2", "bin", "python"), "-I", "-m", "luafcgid2.manual", str(tmp_path), cwd="/")
    for name in PAGES:
        with open(page(installed, name), encoding="utf-8") as file:
            assert file.read() == (tmp_path / name).read_text()


# --- completion

BASH = """
source "$1"
COMP_WORDS=("${@:2}"); COMP_CWORD=$(($# - 2)); COMP_LINE="${*:2}"; COMP_POINT=${#COMP_LINE}
registered=$(complete -p "$2"); [[ $registered =~ -F\\ ([^ ]+) ]]
compopt() { local IFS=" "; echo "compopt $*"; }
"${BASH_REMATCH[1]}" "$2" "${@: -1}" "${@: -2:1}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def bash(installed, *words):
    """What bash offers for the last of these words."""
    script = installed.path("share", "bash-completion", "completions", words[0])
    return run("bash", "--norc", "-c", BASH, "bash", script, *words, env=installed.environment).split("\n")[:-1]


def test_bash_completes_verbs_and_options(installed):
    assert sorted(bash(installed, "luafcgid2ctl", "re")) == sorted(
        name for name in ctl.main.commands if name.startswith("re"))
    assert {"reload", "restart", "reopen"} <= set(bash(installed, "luafcgid2ctl", "re"))
    assert bash(installed, "luafcgid2ctl", "start", "--ti") == ["--timeout"]
    assert bash(installed, "luafcgid2ctl", "-c", "x.lua", "sto") == ["stop"]
    assert bash(installed, "luafcgid2", "se") == ["serve"]
    assert sorted(bash(installed, "luafcgid2", "")) == ["run", "serve"]
    assert bash(installed, "luafcgid2", "serve", "--ht") == ["--http"]


def test_bash_completes_the_names_of_files_where_a_file_is_meant(installed):
    for words in (("luafcgid2", "conf"), ("luafcgid2", "-t", "x"), ("luafcgid2ctl", "-c", "x"),
                  ("luafcgid2ctl", "migrate", "x"), ("luafcgid2", "serve", "x")):
        assert "compopt -o default" in bash(installed, *words), words


def fish(installed, line):
    environment = dict(installed.environment, XDG_DATA_DIRS=installed.path("share"), HOME=installed.root,
                       XDG_CONFIG_HOME=os.path.join(installed.root, "config"))
    said = run("fish", "--private", "-c", 'complete -C "%s"' % line, env=environment)
    return [word.split("\t")[0] for word in said.splitlines()]


def test_fish_completes(installed):
    assert {"reload", "restart", "reopen"} <= set(fish(installed, "luafcgid2ctl re"))
    assert fish(installed, "luafcgid2ctl sto") == ["stop"]
    assert "serve" in fish(installed, "luafcgid2 se")


def test_zsh_completes(installed, tmp_path):
    # Typed on a terminal, since zsh completes nowhere else.
    (tmp_path / ".zshrc").write_text("fpath=(%s $fpath)\nautoload -Uz compinit && compinit -u -d %s\nPS1='> '\n" % (
        installed.path("share", "zsh", "site-functions"), tmp_path / "dump"))
    pid, fd = pty.fork()
    if not pid:
        os.environ.update(installed.environment, ZDOTDIR=str(tmp_path), TERM="dumb", HOME=str(tmp_path))
        os.execvp("zsh", ["zsh", "-i"])
    try:
        typed(fd, b"", b"> ")
        # A tab makes `reloa` a word, and enter runs what stands there then.
        typed(fd, b"luafcgid2ctl reloa\t", b"reload")
        typed(fd, b" --help\n", b"Usage: luafcgid2ctl reload")
        os.write(fd, b"exit\n")
    finally:
        os.close(fd)
        os.waitpid(pid, 0)


def typed(fd, keys, wanted):
    """Write keys to a terminal and read until `wanted` comes."""
    os.write(fd, keys)
    said = b""
    deadline = time.monotonic() + PATIENCE
    while wanted not in said:
        assert select.select([fd], [], [], max(0, deadline - time.monotonic()))[0], said
        said += os.read(fd, 65536)


# --- the service

def test_systemd_finds_programs_and_pages_that_the_units_name(installed):
    folder = installed.path("lib", "systemd", "system")
    said = run(program("systemd-analyze"), "verify", "--man=yes", *(os.path.join(folder, "luafcgid2." + kind)
                                                                   for kind in ("service", "socket")),
               env=dict(installed.environment, MANPATH=installed.path("share", "man")))
    assert said == ""
    for kind in ("sysusers.d", "tmpfiles.d"):
        assert os.path.isfile(installed.path("lib", kind, "luafcgid2.conf"))


@pytest.mark.skipif(os.geteuid() != 0, reason="init scripts are run by root")
def test_the_installed_init_script_runs_the_installed_programs(installed, site):
    script = os.path.join(installed.etc, "init.d", "luafcgid2")
    with Service(site, script, program="luafcgid2ctl") as service:
        codes = [(verb, service(verb).returncode) for verb in (
            "status", "start", "status", "reload", "reopen", "restart", "try-restart", "force-reload")]
        assert codes == [("status", 3)] + [(verb, 0) for verb, _ in codes[1:]]
        with open("/proc/%d/environ" % service.pid, "rb") as file:
            assert b"PYTHONPATH" not in file.read()
        with open("/proc/%d/maps" % service.pid) as file:
            assert installed.path("lib", "luafcgid2", "lib") in file.read()
        assert accepts(service.server.address)
        assert service("stop").returncode == 0
        assert service("status").returncode == 3


@pytest.mark.skipif(not fastpath.BUILT, reason="the fast path is not built here")
def test_the_fast_path_is_built_where_it_can_be(installed):
    run(installed.path("lib", "luafcgid2", "bin", "python"), "-I", "-c", "import luafcgid2._fastpath")


def test_the_installed_configuration_is_good(installed):
    found = config.load(os.path.join(installed.etc, "luafcgid2", "config.lua"))
    assert found.warnings == ()


def test_uninstall_leaves_nothing_but_configuration(installed, tmp_path):
    copy = Installation(str(tmp_path / "copy"))
    for name in ("usr", "etc"):
        shutil.copytree(os.path.join(installed.root, name), os.path.join(copy.root, name), symlinks=True)
    shutil.rmtree(copy.path("share", "man"))
    for name, folder in PAGES.items():
        os.makedirs(copy.path("share", "man", folder), exist_ok=True)
        shutil.copy(page(installed, name), page(copy, name))
    copy.make("uninstall")
    left = {os.path.relpath(path, copy.root) for path in copy.files()}
    assert {path.split(os.sep)[0] for path in left} == {"etc"}
    assert "etc/luafcgid2/config.lua" in left and "etc/init.d/luafcgid2" not in left
