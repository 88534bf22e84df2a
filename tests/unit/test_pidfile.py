"""The pid file: who holds it, and what it tells when nobody does."""
from __future__ import annotations

import os

import pytest

from luafcgid2.errors import ControlError
from luafcgid2.pidfile import PidFile, probe


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "x.pid")


def test_the_file_holds_our_pid_and_goes_with_us(path):
    with PidFile(path):
        with open(path) as file:
            assert file.read() == "%d\n" % os.getpid()
    assert not os.path.exists(path)


def test_a_second_holder_is_refused_and_told_who_has_it(path):
    with PidFile(path):
        with pytest.raises(ControlError) as caught, PidFile(path):
            pass
        assert f"pid {os.getpid()} holds the pid file {path}" in str(caught.value)
        assert os.path.exists(path)


def test_probe_tells_running_from_stale_by_the_lock(path):
    assert probe(path).state == "absent"
    with PidFile(path):
        found = probe(path)
        assert (found.state, found.pid, found.trusted) == ("running", os.getpid(), True)
    # Our own pid is certainly alive: a guess by the number would call this running.
    with open(path, "w") as file:
        file.write("%d\n" % os.getpid())
    assert probe(path)[:2] == ("stale", os.getpid())


def test_a_stale_file_is_taken_over(path):
    with open(path, "w") as file:
        file.write("123456789012\n")
    with PidFile(path), open(path) as file:
        assert file.read() == "%d\n" % os.getpid()


def test_an_empty_unlocked_file_names_no_dead_server(path):
    with open(path, "w"):
        pass
    assert probe(path).state == "absent"


def test_a_file_that_another_one_put_in_our_place_stays(path):
    with PidFile(path):
        os.rename(path, path + ".old")
        with open(path, "w") as file:
            file.write("1\n")
    assert os.path.exists(path)


def test_forget_leaves_the_file(path):
    held = PidFile(path)
    with held:
        held.forget()
    assert os.path.exists(path)
    assert probe(path).state == "stale"


def test_an_empty_path_means_no_file():
    with PidFile(""):
        pass


def test_a_symbolic_link_is_not_followed(path):
    target = path + ".target"
    with open(target, "w") as file:
        file.write("precious")
    os.symlink(target, path)
    with pytest.raises(ControlError, match="x.pid"), PidFile(path):
        pass
    with open(target) as file:
        assert file.read() == "precious"


def test_a_hard_link_to_another_file_is_not_touched(path):
    with open(path + ".target", "w") as file:
        file.write("precious")
    os.link(path + ".target", path)
    with pytest.raises(ControlError, match="not a plain file"), PidFile(path):
        pass
    with open(path + ".target") as file:
        assert file.read() == "precious"


def test_a_directory_that_does_not_exist_is_named(tmp_path):
    path = str(tmp_path / "no" / "x.pid")
    with pytest.raises(ControlError, match="x.pid.*No such file"), PidFile(path):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_not_trusted_with_a_pid_that_is_not_theirs(path):
    with PidFile(path):
        os.chown(path, 65534, -1)
        assert probe(path).trusted is False
        os.chown(path, 0, -1)
        assert probe(path).trusted is True
