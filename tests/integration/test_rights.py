"""What root's luafcgid2ctl does not do for those who can write to a folder, or to the memory of a worker."""
from __future__ import annotations

import mmap
import os
import pwd
import signal
import subprocess
import sys

import pytest
from controlled import Daemon
from harness import ROOT, children

from luafcgid2 import scoreboard

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
PLANTED = "open(%r, 'a').close()\nraise SystemExit('planted')\n"


@pytest.fixture
def planted(tmp_path):
    """A folder with modules of the names that a start imports; the file that they make when somebody runs them."""
    folder, mark = tmp_path / "planted", tmp_path / "run"
    (folder / "luafcgid2").mkdir(parents=True)
    for name in ("luafcgid2/__init__", "click", "json", "runpy", "lupa", "flup"):
        (folder / (name + ".py")).write_text(PLANTED % str(mark))
    return folder, mark


def ctl(daemon, folder, *words):
    """The control program as an installed one runs, which finds its modules by its own path, in a folder."""
    program = os.path.join(daemon.site.run, "luafcgid2ctl")
    with open(program, "w") as file:
        file.write("from luafcgid2.ctl import main\nmain()\n")
    return subprocess.run([sys.executable, program, "-c", daemon.config, *words], cwd=folder, text=True, timeout=120,
                          env=dict(os.environ, PYTHONPATH=ROOT), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)


def writable(master):
    """The scoreboard, to write."""
    for name in os.listdir("/proc/%d/fd" % master):
        path = "/proc/%d/fd/%s" % (master, name)
        if scoreboard.NAME in os.readlink(path):
            with open(path, "r+b") as file:
                memory = mmap.mmap(file.fileno(), 0)
            header = scoreboard.Header(memoryview(memory).cast("Q"), 0)
            return scoreboard.Scoreboard(header.slots, header.threads, memory)
    raise LookupError("no scoreboard")


def test_no_verb_runs_what_lies_in_the_working_directory(site, planted):
    folder, mark = planted
    daemon = Daemon(site, Workers=1)
    said = [ctl(daemon, folder, verb) for verb in ("start", "status", "doctor", "check", "upgrade", "restart", "stop")]
    assert not mark.exists(), [(done.args[-1], done.stdout, done.stderr) for done in said]
    assert [done.args[-1] for done in said if done.returncode] in ([], ["doctor"]), said
    # Where a module of that name is looked for in the working directory, ours would have been run.
    bare = subprocess.run([sys.executable, "-m", "luafcgid2"], cwd=folder, stderr=subprocess.PIPE, text=True)
    assert "planted" in bare.stderr and mark.exists()


def test_a_configuration_is_read_without_what_lies_in_the_working_directory(planted):
    folder, mark = planted
    code = ("import lupa.lua54, sys; from luafcgid2 import luaconfig; import os; os.chdir(sys.argv[1]);"
            "print(luaconfig.run(b'Workers = 3', '/x.lua'))")
    done = subprocess.run([sys.executable, "-c", code, str(folder)], cwd="/", env=dict(os.environ, PYTHONPATH=ROOT),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert not mark.exists() and "Workers" in done.stdout, done.stderr


@as_root
def test_trace_signals_no_process_of_somebody_else_and_prints_no_control_characters(site):
    os.chmod(site.path, 0o755)
    os.chmod(site.run, 0o777)
    with Daemon(site, Workers=1, User="www-data") as daemon:
        # It stands still for as long as the answer takes.
        daemon.expect_errors("is stopped by a signal")
        assert os.stat("/proc/%d" % daemon.master).st_uid == pwd.getpwnam("www-data").pw_uid
        worker, = children(daemon.master)
        # A script can write to the memory of its own process, and so to the scoreboard: as if it had.
        board = writable(daemon.master)
        slot = next(slot for _, slot in board.workers())
        bystander = subprocess.Popen(["sleep", "600"])
        try:
            slot.pid = bystander.pid
            done = daemon.ctl("trace")
            assert "somebody else" in done.stdout and bystander.poll() is None
        finally:
            slot.pid = worker
            bystander.kill()
            bystander.wait()
        # The worker stands still: what is said to be its answer is ours.
        os.kill(worker, signal.SIGSTOP)
        try:
            with subprocess.Popen([sys.executable, "-m", "luafcgid2.ctl", "-c", daemon.config, "trace"], cwd=ROOT,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as asking:
                slot.trace = b"\x1b]0;owned\x07 \xff"
                while asking.poll() is None:
                    slot.traced += 1
                text = asking.stdout.read()
        finally:
            os.kill(worker, signal.SIGCONT)
        assert b"\x1b" not in text and b"\x07" not in text and b"\\x1b]0;owned" in text
