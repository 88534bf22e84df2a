"""Processes of a benchmark: start, find descendants, read what they used, stop by process id.

In: commands and process ids.  Out: ids, CPU seconds, bytes of memory.  servers.py, front.py and bench.py call
it.  It reads Linux's /proc and never looks for a process by name.
"""
from __future__ import annotations

import contextlib
import glob
import os
import signal
import socket
import subprocess
import time
from typing import Any, Dict, Iterable, Iterator, List, Sequence, Set, Tuple

TICKS = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 10.0
# Positions after the command's closing parenthesis in /proc/PID/stat, see proc(5).
PPID, UTIME, CSTIME, STARTTIME = 1, 11, 14, 19


def _stat(pid: int) -> List[str]:
    """The fields of /proc/PID/stat that follow the command; empty if the process is gone."""
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def tree(roots: Iterable[int]) -> Tuple[int, ...]:
    """The ids of `roots` that live, and of all their descendants."""
    children: Dict[int, List[int]] = {}
    for name in os.listdir("/proc"):
        fields = _stat(int(name)) if name.isdigit() else []
        if fields:
            children.setdefault(int(fields[PPID]), []).append(int(name))
    found: List[int] = []
    waiting = [pid for pid in roots if _stat(pid)]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(children.get(pid, ()))
    return tuple(found)


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system time of `roots` and descendants, those that ended included, in seconds.

    A living process counts itself and the children that it has waited for.
    """
    ticks = 0
    for pid in tree(roots):
        fields = _stat(pid)
        ticks += sum(map(int, fields[UTIME:CSTIME + 1])) if fields else 0
    return ticks / TICKS


def pss_bytes(roots: Iterable[int]) -> int:
    """Proportional set size of `roots` and descendants: shared pages are split among those that map them."""
    total = 0
    for pid in tree(roots):
        with contextlib.suppress(OSError), open("/proc/%d/smaps_rollup" % pid) as file:
            total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    return total


def switches(roots: Iterable[int]) -> int:
    """How often threads of `roots` and descendants were put to sleep or aside: what wakes up sleeps again."""
    total = 0
    for pid in tree(roots):
        for path in glob.glob("/proc/%d/task/*/status" % pid):
            with contextlib.suppress(OSError), open(path) as file:
                total += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
    return total


def listens(port: int, roots: Sequence[int], seconds: float) -> bool:
    """Whether one of the processes accepts connections at a port of 127.0.0.1 within so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        if time.monotonic() > deadline or not tree(roots):
            return False
        time.sleep(0.01)


def _alive(known: Set[Tuple[int, str]]) -> List[int]:
    """Of (id, start time), the ids that are still the same process and no zombie."""
    return [pid for pid, begun in known for fields in [_stat(pid)]
            if fields and fields[STARTTIME] == begun and fields[0] != "Z"]


def stop(children: Sequence["subprocess.Popen[bytes]"]) -> None:
    """SIGTERM to the processes that we started; SIGKILL to those, and to what they left, after a while."""
    known = set()
    for pid in tree(child.pid for child in children):
        fields = _stat(pid)
        if fields:
            known.add((pid, fields[STARTTIME]))
    for child in children:
        child.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    while _alive(known) and time.monotonic() < deadline:
        for child in children:
            child.poll()
        time.sleep(0.01)
    for pid in _alive(known):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for child in children:
        child.wait()


@contextlib.contextmanager
def started(*commands: Sequence[str], stdin: Any = subprocess.DEVNULL,
            stderr: Any = None, cwd: Any = None) -> Iterator[Tuple[int, ...]]:
    """Runs `commands` side by side, yields their process ids, and stops them and their descendants.

    Each leads a session of its own, so that Ctrl-C reaches the benchmark first and the end is orderly.
    """
    children: List["subprocess.Popen[bytes]"] = []
    try:
        for command in commands:
            children.append(subprocess.Popen(
                command, stdin=stdin, stderr=stderr, cwd=cwd, start_new_session=True))
        yield tuple(child.pid for child in children)
    finally:
        stop(children)
