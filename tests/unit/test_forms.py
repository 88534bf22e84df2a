"""Files of forms: leftovers of killed workers, another file system, a library that is missing."""
from __future__ import annotations

import os
import sys
import tempfile
import time

import pytest

from luafcgid2 import forms
from luafcgid2.errors import Error
from luafcgid2.luavalues import MAX_DEPTH, encode

KIND = b"multipart/form-data; boundary=b"
BODY = (b'--b\r\nContent-Disposition: form-data; name="f"; filename="f.bin"\r\n\r\n' + bytes(range(256)) +
        b"\r\n--b--\r\n")


def form(folder) -> forms.Form:
    return forms.Form(forms.FormService(forms.FormLimits(0, 0, 0, 0), str(folder)))


def read(one: forms.Form, body: bytes = BODY) -> None:
    """The whole body, byte by byte, as if TCP had cut it so."""
    assert one.call(b"begin", KIND) is True
    for at in range(len(body)):
        one.call(b"feed", body[at:at + 1])


def gone_pid() -> int:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def leftover(folder, pid: int, age: float) -> str:
    path = str(folder / ("%s%d-x" % (forms.PREFIX, pid)))
    with open(path, "wb"):
        os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_form_that_comes_byte_by_byte_is_whole(tmp_path):
    one = form(tmp_path)
    read(one)
    parts = one.call(b"end")
    path = str(tmp_path / os.listdir(tmp_path)[0]).encode()
    assert parts == encode([[b"f", b"f.bin", b"", 256, path, 1]])
    with open(path, "rb") as file:
        assert file.read() == bytes(range(256))


def test_what_a_killed_worker_left_is_removed_with_the_first_form(tmp_path):
    pid = gone_pid()
    old, fresh = leftover(tmp_path, pid, forms.STALE + 60), leftover(tmp_path, pid + (1 << 22), 0)
    running = leftover(tmp_path, os.getpid(), forms.STALE + 60)
    other = str(tmp_path / "other")
    with open(other, "wb"):
        os.utime(other, (0, 0))
    read(form(tmp_path))
    assert [os.path.exists(path) for path in (old, fresh, running, other)] == [False, True, True, True]


def test_a_form_that_is_forgotten_takes_its_files_along(tmp_path):
    one = form(tmp_path)
    read(one, BODY[:200])
    assert len(os.listdir(tmp_path)) == 1
    before = len(os.listdir("/proc/self/fd"))
    del one
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_a_file_is_saved_on_another_file_system(tmp_path):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == os.stat(tmp_path).st_dev:
            pytest.skip("/dev/shm is no file system of its own")
        one = form(tmp_path)
        read(one)
        one.call(b"end")
        target = os.path.join(other, "f.bin")
        assert one.call(b"save", 1, target.encode()) is True
        with open(target, "rb") as file:
            assert file.read() == bytes(range(256))
        assert (os.listdir(other), os.listdir(tmp_path)) == (["f.bin"], [])


def test_a_missing_library_is_an_error_that_says_what_to_install(tmp_path, monkeypatch):
    for found in (None, type(sys)("multipart")):
        monkeypatch.setitem(sys.modules, "multipart", found)
        with pytest.raises(Error, match=r"pip install 'luafcgid2\[forms\]'"):
            form(tmp_path).call(b"begin", KIND)


@pytest.mark.parametrize("value, expected", [
    (None, b""), (True, b"t"), (2 ** 63 - 1, b"i9223372036854775807;"), (2 ** 63, b"d9.223372036854776e+18;"),
    (-0.0, b"d-0.0;"), (float("inf"), b"dinf;"), (float("nan"), b"dnan;"), ("\u00fc\ud800", b"s5:\xc3\xbc\xed\xa0\x80"),
    ([1, None, []], b"{i1;i1;i3;{}}"), ({"a": {}, "b": None}, b"{s1:a{}}")])
def test_values_are_written_as_lua_reads_them(value, expected):
    assert encode(value) == expected


def test_values_that_are_nested_too_deep_are_refused():
    deep: list = []
    for _ in range(MAX_DEPTH):
        deep = [deep]
    with pytest.raises(ValueError):
        encode(deep)
    assert encode(deep[0]).count(b"{") == MAX_DEPTH
