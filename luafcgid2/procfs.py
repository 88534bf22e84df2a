"""What the kernel tells about processes and memory: the one place that reads /proc and cgroup files.

In: a pid, or "self".  Out: numbers, sizes in KB; OSError when the process is gone or may not be looked at.  The
master's policies call it, and workers for themselves.  It keeps nothing and judges nothing.  Formats: proc(5),
the kernel's cgroup-v2.rst.
"""
from __future__ import annotations

import os
import resource
from typing import Dict, List, Optional, Union
from collections.abc import Iterator

PAGE_KB = resource.getpagesize() // 1024
PROC, CGROUP = "/proc", "/sys/fs/cgroup"
# What stays for the kernel and its caches, as a part of all memory: MemAvailable never gets to 0 before the OOM
# killer acts.
RESERVE = 32
Pid = Union[int, str]


def rss_kb(pid: Pid) -> int:
    """Resident memory of the process, pages that it shares included; any user may ask."""
    return _statm(pid)[1] * PAGE_KB


def pss_kb(pid: Pid) -> int:
    """The process's proportional share of memory, swapped out pages included.

    PermissionError for another process than oneself when that has changed its user since it was executed.
    Takes the kernel about a millisecond for 30 MB.
    """
    fields = _fields("%s/%s/smaps_rollup" % (PROC, pid))
    return fields["Pss"] + fields.get("SwapPss", 0)


def own_kb(pid: Pid, reported: int = 0) -> int:
    """pss_kb, or what stands in for it: `reported` by the process itself, or else its memory that is no file's.

    The last counts pages twice that the process still has in common with its parent.
    """
    try:
        return pss_kb(pid)
    except (PermissionError, FileNotFoundError):
        # FileNotFoundError: kernels before 4.14 have no smaps_rollup; a process that is gone has no statm either.
        _size, resident, shared = _statm(pid)[:3]
        return reported or (resident - shared) * PAGE_KB


def is_stopped(pid: Pid) -> bool:
    """Whether the process is stopped by a signal or a debugger; False when it is gone."""
    try:
        with open("%s/%s/stat" % (PROC, pid), "rb") as file:
            # The name before it may hold anything, parentheses included.
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except OSError:
        return False


def is_traced(pid: Pid) -> bool:
    """Whether a debugger is attached to the process; False when it is gone."""
    try:
        return _fields("%s/%s/status" % (PROC, pid)).get("TracerPid", 0) != 0
    except OSError:
        return False


def oom_kills() -> int:
    """How many processes the kernel killed for want of memory since it was booted; 0 where it does not count."""
    try:
        with open(PROC + "/vmstat", "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), 0)
    except OSError:
        return 0


def room_kb() -> Optional[int]:
    """How much more memory this process and its children can have: what the machine has available, or less where
    a cgroup (version 2) of this process is bounded.  None when the kernel does not say."""
    try:
        fields = _fields(PROC + "/meminfo")
        rooms = [fields["MemAvailable"] - fields["MemTotal"] // RESERVE]
    except (OSError, KeyError):
        rooms = []
    rooms.extend(_cgroup_rooms())
    return min(rooms, default=None)


def _cgroup_rooms() -> Iterator[int]:
    """Room in each bounded cgroup from ours up to the root."""
    try:
        with open(PROC + "/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            path = next((line[3:].strip() for line in file if line.startswith("0::")), "/")
    except OSError:
        return
    while path not in ("", "/"):
        room = _cgroup_room(CGROUP + path)
        if room is not None:
            yield room
        path = os.path.dirname(path)


def _cgroup_room(folder: str) -> Optional[int]:
    try:
        limit, used = _word(folder + "/memory.max"), _word(folder + "/memory.current")
        if limit == "max":
            return None
        # Pages of files that were read once are given up before anybody is killed.
        spare = _fields(folder + "/memory.stat", kilo=1024).get("inactive_file", 0)
        return int(limit) // 1024 * (RESERVE - 1) // RESERVE - int(used) // 1024 + spare
    except (OSError, ValueError):
        return None


def _word(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def _fields(path: str, kilo: int = 1) -> Dict[str, int]:
    """Lines `Name:  123 kB` or `name 123`, divided by `kilo`."""
    with open(path, encoding="utf-8", errors="replace") as file:
        pairs = [line.replace(":", " ").split()[:2] for line in file]
    return {pair[0]: int(pair[1]) // kilo for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _statm(pid: Pid) -> List[int]:
    with open("%s/%s/statm" % (PROC, pid), "rb") as file:
        return [int(word) for word in file.read().split()]
