"""What popen.py promises to Lua, asked directly from several threads."""
import os
import subprocess
import threading

import pytest

from luafcgid2 import popen
from luafcgid2.popen import Popens


def read_all(descriptor):
    with open(os.dup(descriptor), "rb") as pipe:
        return pipe.read()


def test_a_command_is_read_and_its_end_told_in_three_results():
    popens = Popens()
    descriptor, number, error = popens.open(b"printf abc; exit 7", b"r")
    assert error is None and read_all(descriptor) == b"abc"
    popens.opened(number)
    assert popens.wait(number) == (None, b"exit", 7)


def test_success_and_signals_are_told_apart():
    popens = Popens()
    assert popens.wait(popens.open(b"true", b"r")[1]) == (True, b"exit", 0)
    assert popens.wait(popens.open(b"kill -15 $$", b"w")[1]) == (None, b"signal", 15)


def test_waiting_twice_or_for_a_stranger_gives_no_child_processes():
    popens = Popens()
    number = popens.open(b"true", b"r")[1]
    popens.wait(number)
    assert popens.wait(number) == (None, b"No child processes", 10)
    assert popens.wait(4711)[0] is None


def test_another_mode_is_refused_by_name():
    with pytest.raises(ValueError, match="rw"):
        Popens().open(b"true", b"rw")


def test_a_process_that_cannot_start_is_a_message_and_an_errno(monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError(11, "ignored")
    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert Popens().open(b"true", b"r") == (None, os.strerror(11).encode(), 11)


def test_commands_start_with_the_usual_signals_and_descriptors():
    popens = Popens()
    descriptor, number, _ = popens.open(b"grep SigIgn /proc/self/status; ls /proc/self/fd | wc -l", b"r")
    ignored, count = read_all(descriptor).split(b"\n")[:2]
    popens.wait(number)
    # SIGPIPE is 13: bit 12.  `ls` itself adds one descriptor, for the folder.
    assert not int(ignored.split()[1], 16) & (1 << 12)
    assert int(count) <= 4


def test_a_command_that_ended_is_reaped_by_the_next_and_its_result_kept():
    popens = Popens()
    descriptor, first, _ = popens.open(b"exit 5", b"r")
    read_all(descriptor)
    process = popens._running[first].process
    popens.opened(first)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    popens.wait(popens.open(b"true", b"r")[1])
    assert process.returncode == 5 and first not in popens._running
    assert popens.wait(first) == (None, b"exit", 5)


def test_a_descriptor_stays_until_lua_has_its_own_even_if_the_command_has_ended():
    popens = Popens()
    descriptor, first, _ = popens.open(b"printf kept", b"r")
    os.waitid(os.P_PID, popens._running[first].process.pid, os.WEXITED | os.WNOWAIT)
    popens.wait(popens.open(b"true", b"r")[1])
    assert read_all(descriptor) == b"kept"
    popens.opened(first)
    popens.opened(first)
    popens.wait(first)


def test_results_nobody_asks_for_are_bounded(monkeypatch):
    monkeypatch.setattr(popen, "ENDED_KEPT", 2)
    popens = Popens()
    numbers = []
    for code in range(4):
        number = popens.open(b"exit %d" % code, b"w")[1]
        os.waitid(os.P_PID, popens._running[number].process.pid, os.WEXITED | os.WNOWAIT)
        popens.opened(number)
        numbers.append(number)
    popens.wait(popens.open(b"true", b"r")[1])
    assert [popens.wait(number)[2] for number in numbers] == [10, 10, 2, 3]


def test_threads_get_their_own_commands():
    popens, wrong = Popens(), []

    def work(mine):
        for round_ in range(10):
            descriptor, number, _ = popens.open(b"cat; echo %d-%d; exit %d" % (mine, round_, mine), b"r")
            output = read_all(descriptor)
            popens.opened(number)
            if (output, popens.wait(number)[2]) != (b"%d-%d\n" % (mine, round_), mine):
                wrong.append((mine, round_, output))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and popens._running == {}


def test_reap_leaves_no_zombie_of_a_dropped_handle():
    popens = Popens()
    number = popens.open(b"exit 6", b"w")[1]
    process = popens._running[number].process
    popens.opened(number)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    popens.reap()
    with pytest.raises(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
