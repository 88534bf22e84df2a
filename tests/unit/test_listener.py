"""What the text of `Listen` means."""
from __future__ import annotations

import os

import pytest

from luafcgid2.errors import ListenError
from luafcgid2.listener import UNIX_PATH_MAX, Address, parse


@pytest.mark.parametrize("text, address", [
    ("/var/tmp/luafcgid2.sock", Address("unix", path="/var/tmp/luafcgid2.sock")),
    ("/run/with:colon.sock", Address("unix", path="/run/with:colon.sock")),
    ("unix:/run/x.sock", Address("unix", path="/run/x.sock")),
    (":9000", Address("tcp", port=9000)),
    ("*:9000", Address("tcp", port=9000)),
    ("127.0.0.1:9000", Address("tcp", host="127.0.0.1", port=9000)),
    ("localhost:0", Address("tcp", host="localhost", port=0)),
    ("[::1]:9000", Address("tcp", host="::1", port=9000)),
    ("[::]:65535", Address("tcp", host="::", port=65535)),
    ("fd:0", Address("fd", fd=0)),
    ("fd:7", Address("fd", fd=7)),
    ("stdin", Address("fd", fd=0)),
    ("systemd", Address("systemd")),
])
def test_a_listen_text_is_understood(text, address):
    assert parse(text) == address


@pytest.mark.parametrize("text", ["x.sock", "./x.sock", "unix:x.sock"])
def test_a_relative_path_counts_from_the_current_directory(text):
    assert parse(text).path == os.path.abspath("x.sock")


@pytest.mark.parametrize("text, words", [
    ("", "write a path"),
    ("9000", "write a path"),
    (":65536", "0 to 65535"),
    (":-1", "'-1' is not a port"),
    ("host:http", "'http' is not a port"),
    ("::1:9000", "in brackets: [::1]:9000"),
    ("/x\0y", "write a path"),
])
def test_a_wrong_listen_text_is_refused_with_what_to_write(text, words):
    with pytest.raises(ListenError) as caught:
        parse(text)
    assert words in str(caught.value)
    assert repr(text) in str(caught.value)


def test_the_longest_path_is_the_kernels():
    path = "/" + "x" * (UNIX_PATH_MAX - 1)
    assert parse(path).path == path
    with pytest.raises(ListenError, match="108 bytes is too long"):
        parse(path + "x")


def test_the_length_of_a_path_counts_bytes_not_letters():
    with pytest.raises(ListenError, match="too long"):
        parse("/" + "\u00e9" * 60)


@pytest.mark.parametrize("address, text", [
    (Address("tcp", port=80), "TCP *:80"),
    (Address("tcp", host="::1", port=80), "TCP [::1]:80"),
    (Address("unix", path="/x"), "unix socket /x"),
    (Address("fd", fd=0), "inherited descriptor 0"),
])
def test_an_address_reads_well(address, text):
    assert str(address) == text
