"""What is read from /proc and cgroup files: the real ones of this process, and made ones for what it cannot have."""
from __future__ import annotations

import os

import pytest

from luafcgid2 import procfs

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
MISSING = 2 ** 22 + 1           # above the largest pid


def make(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("memory_", "memory.")).write_text(text)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """make_it(...): a /proc of 512 MB with so many MB available, and an empty cgroup tree."""
    monkeypatch.setattr(procfs, "PROC", str(tmp_path / "proc"))
    monkeypatch.setattr(procfs, "CGROUP", str(tmp_path / "cgroup"))
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "cgroup").mkdir()

    def with_available(megabytes, cgroup="0::/\n"):
        (tmp_path / "proc" / "meminfo").write_text(
            "MemTotal:         524288 kB\nMemAvailable:    %d kB\nHugePages_Total:       0\n" % (megabytes * 1024))
        (tmp_path / "proc" / "self" / "cgroup").write_text(cgroup)
        return tmp_path
    return with_available


def test_our_own_sizes_are_of_the_same_order():
    rss, pss = procfs.rss_kb("self"), procfs.pss_kb("self")
    assert 1024 < pss <= rss * 1.5 and rss < 1 << 22
    assert procfs.rss_kb(os.getpid()) > 1024


def test_memory_that_is_taken_shows():
    before = procfs.rss_kb("self"), procfs.pss_kb("self")
    taken = bytearray(os.urandom(1)) * (32 << 20)
    assert procfs.rss_kb("self") - before[0] > 30 << 10
    assert procfs.pss_kb("self") - before[1] > 30 << 10
    assert len(taken) == 32 << 20


@pytest.mark.parametrize("ask", [procfs.rss_kb, procfs.pss_kb, procfs.own_kb])
def test_a_process_that_is_gone_is_an_error(ask):
    with pytest.raises(OSError):
        ask(MISSING)


def test_who_may_not_look_takes_what_the_process_reported_or_its_memory_that_is_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr(procfs, "PROC", str(tmp_path))
    make(tmp_path / "77", statm="9000 5000 2000 1 0 900 0\n")
    assert procfs.own_kb(77) == 3000 * procfs.PAGE_KB
    assert procfs.own_kb(77, reported=1234) == 1234
    make(tmp_path / "77", smaps_rollup="00-ff ---p 0 00:00 0  [rollup]\nRss: 20 kB\nPss: 7 kB\nSwapPss: 3 kB\n")
    assert procfs.own_kb(77, reported=1234) == 10


def test_a_process_that_runs_is_not_stopped_and_one_that_is_gone_neither():
    assert not procfs.is_stopped("self") and not procfs.is_stopped(MISSING)


@pytest.mark.parametrize("letter, stopped", [("T", True), ("t", True), ("S", False), ("R", False), ("D", False)])
def test_the_state_is_found_behind_any_process_name(tmp_path, monkeypatch, letter, stopped):
    monkeypatch.setattr(procfs, "PROC", str(tmp_path))
    make(tmp_path / "77", stat="77 (lua) T (x) %s 1 77 77\n" % letter)
    assert procfs.is_stopped(77) is stopped


def test_kills_for_want_of_memory_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(procfs, "PROC", str(tmp_path))
    assert procfs.oom_kills() == 0
    (tmp_path / "vmstat").write_text("nr_free_pages 5\noom_kill 12\noom_kill_other 3\n")
    assert procfs.oom_kills() == 12


def test_the_room_is_what_is_available_but_for_a_reserve(machine):
    machine(100)
    assert procfs.room_kb() == (100 - 512 // procfs.RESERVE) * 1024


def test_a_bounded_cgroup_leaves_less_room(machine):
    top = machine(400, "1:name=systemd:/x\n0::/system.slice/luafcgid2.service\n")
    slice_ = top / "cgroup" / "system.slice"
    make(slice_ / "luafcgid2.service", memory_max="max\n", memory_current="1\n", memory_stat="")
    make(slice_, memory_max="%d\n" % (64 << 20), memory_current="%d\n" % (50 << 20),
         memory_stat="anon 1\ninactive_file %d\n" % (10 << 20))
    assert procfs.room_kb() == (62 - 50 + 10) * 1024


def test_a_cgroup_without_a_bound_or_without_files_changes_nothing(machine):
    top = machine(100, "0::/a/b\n")
    unbounded = procfs.room_kb()
    make(top / "cgroup" / "a" / "b", memory_max="max\n", memory_current="1\n")
    assert procfs.room_kb() == unbounded == (100 - 512 // procfs.RESERVE) * 1024


def test_where_the_kernel_does_not_say_there_is_no_room_to_tell(tmp_path, monkeypatch):
    monkeypatch.setattr(procfs, "PROC", str(tmp_path))
    assert procfs.room_kb() is None


def test_this_machine_has_room():
    assert procfs.room_kb() > 0
