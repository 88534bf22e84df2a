"""Processes under test: a directory of their own, waiting for conditions, stopping by pid, clean error logs.

In:  a command line, where its error log is and where it accepts connections.  Out: a running `Server`.
Each server is stopped by its own pid when its `with` block ends, and its error log must be clean then: a test
that provokes an error says so with `expect_errors`.  Ports come from the kernel; nothing leaves 127.0.0.1.
"""
from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPTS = os.path.join(ROOT, "tests", "integration", "www")
PATIENCE = 30.0
# Of the servers that are started now; conftest.py sets it.
FAST_PATH = True


def wait_until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """The first true value of `condition`; AssertionError naming `what` when it does not come."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "waited %g seconds in vain: %s" % (seconds, what)
        time.sleep(0.01)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that the kernel says is free."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def accepts(address: Any) -> bool:
    """Whether somebody accepts connections at a unix path or a (host, port)."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        return sock.connect_ex(address) == 0


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> List[int]:
    """Pids of the living children of a process."""
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task)) as file:
                found += [int(child) for child in file.read().split()]
    return [child for child in found if is_alive(child)]


class Site:
    """A directory with `www` (scripts and files) and `run` (sockets, logs, configuration), gone after `with`.

    The path is short, because that of a unix socket may have 107 bytes only.
    """

    def __enter__(self) -> Site:
        self.path = tempfile.mkdtemp(prefix="lf2-")
        self.www, self.run = os.path.join(self.path, "www"), os.path.join(self.path, "run")
        shutil.copytree(SCRIPTS, self.www)
        os.mkdir(self.run)
        return self

    def __exit__(self, *failure: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def write(self, name: str, text: str) -> str:
        """Put a file below www in one step, as an editor's save or an upload by rename does; its path."""
        path = os.path.join(self.www, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".new", path)
        return path

    def snippet(self, name: str, replacements: Dict[str, str]) -> str:
        """A copy of a file of etc/ in which each key occurs once and becomes its value; the path of the copy."""
        with open(os.path.join(ROOT, "etc", name), encoding="utf-8") as file:
            text = file.read()
        for old, new in replacements.items():
            assert text.count(old) == 1, "%s names %s %d times" % (name, old, text.count(old))
            text = text.replace(old, new)
        path = os.path.join(self.run, os.path.basename(name))
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


@contextlib.contextmanager
def small_disk(site: Site, kilobytes: int) -> Iterator[Tuple[str, Callable[[], None], Callable[[], None]]]:
    """A file system of its own, as /var/log may be; yields (its folder, fill, clear).  Only root may."""
    folder = os.path.join(site.path, "disk")
    os.mkdir(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dk,mode=0777" % kilobytes, "luafcgid2", folder], check=True)
    filler = os.path.join(folder, "filler")

    def fill() -> None:
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(512))
    try:
        yield folder, fill, lambda: os.unlink(filler)
    finally:
        subprocess.run(["umount", folder], check=True)


class Server:
    """A process with an error log.  Subclasses set `argv`, `log` (path) and `address` before `start`."""

    argv: List[str]
    log: str
    address: Any
    harmless = ""

    def __init__(self) -> None:
        self.environment: Dict[str, str] = dict(os.environ, PYTHONPATH=ROOT)
        self._expected: List[str] = []
        self._process: Optional[subprocess.Popen] = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, kind: object, *failure: object) -> None:
        self.stop()
        if kind is None:
            assert self.errors() == [], "the error log is not clean"

    def start(self) -> None:
        """Returns when connections are accepted; AssertionError with the output when the process ends instead."""
        with open(self.log + ".out", "ab") as out:
            self._process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                             env=self.environment)
        try:
            wait_until(self._has_started, "%s accepts connections" % self.argv[0])
        except BaseException:
            self.stop()
            raise

    def _has_started(self) -> bool:
        code = self._process.poll()
        assert code is None, "%s: exit code %s: %s" % (self.argv, code, self.output() + self.log_text())
        return accepts(self.address)

    def stop(self, number: int = signal.SIGTERM) -> Optional[int]:
        """Stop it by a signal and wait; SIGKILL when it does not go.  The exit code."""
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise AssertionError("%s does not stop after signal %d" % (self.argv[0], number)) from None
        return self._process.returncode

    def output(self) -> str:
        with open(self.log + ".out", encoding="utf-8", errors="replace") as file:
            return file.read()

    def log_text(self) -> str:
        with contextlib.suppress(FileNotFoundError), open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()
        return ""

    def expect_errors(self, pattern: str) -> None:
        """Lines of the error log that contain this regular expression are part of the test."""
        self._expected.append(pattern)

    def errors(self) -> List[str]:
        """Lines of the error log that no test expects."""
        lines = [line for line in self.error_lines() if not re.search(self.harmless or "$^", line)]
        return [line for line in lines if not any(re.search(pattern, line) for pattern in self._expected)]

    def error_lines(self) -> List[str]:
        return [line for line in self.log_text().splitlines() if line]


def program(name: str) -> str:
    """The path of a server that Debian keeps in sbin; AssertionError when it is not installed."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")
    assert found, "%s is not installed: `make test` installs what the tests need" % name
    return found
