"""SessionStore = "redis://..." means what it says, and a wrong one is a clear error without the password."""
from __future__ import annotations

import logging

import pytest

from luafcgid2.errors import ConfigError
from luafcgid2.sessions import STORES, open_store, redis_url
from luafcgid2.sessions.redis_url import hidden, parse

LOGGER = logging.getLogger("test-redis-url")


def picked(url, *names):
    arguments = parse(url).arguments
    return tuple(arguments.get(name) for name in names)


@pytest.mark.parametrize("url, place", [
    ("redis://localhost", ("localhost", 6379, 0)),
    ("redis://localhost/", ("localhost", 6379, 0)),
    ("redis://192.0.2.1:6380/7", ("192.0.2.1", 6380, 7)),
    ("redis://[2001:db8::1]:6380/1", ("2001:db8::1", 6380, 1)),
    ("rediss://redis.example.org/2?verify=no", ("redis.example.org", 6379, 2)),
])
def test_host_port_and_database(url, place):
    assert picked(url, "host", "port", "db") == place


@pytest.mark.parametrize("url, who", [
    ("redis://localhost", (None, None)),
    ("redis://:secret@localhost", (None, "secret")),
    ("redis://web:se%40cr%2Fet%23@localhost", ("web", "se@cr/et#")),
    ("unix://:secret@/run/redis.sock", (None, "secret")),
])
def test_user_and_password(url, who):
    assert picked(url, "username", "password") == who


def test_a_unix_socket():
    assert picked("unix:///run/redis/redis%20server.sock?db=3", "path", "db") == ("/run/redis/redis server.sock", 3)


def test_the_time_out_is_two_seconds_unless_given():
    assert picked("redis://h", "socket_timeout", "socket_connect_timeout") == (2.0, 2.0)
    assert picked("redis://h?timeout=0.5", "socket_timeout", "socket_connect_timeout") == (0.5, 0.5)
    assert picked("unix:///s?timeout=5", "socket_timeout") == (5.0,)


def test_the_prefix_keeps_sites_apart():
    assert parse("redis://h").prefix == b"luafcgid2:"
    assert parse("redis://h?prefix=shop").prefix == parse("redis://h?prefix=shop:").prefix == b"shop:"


def test_tls_verifies_certificate_and_name_unless_told_otherwise():
    names = "ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"
    assert picked("rediss://h", *names) == ("required", True, None, None, None)
    assert picked("rediss://h?ca=/ca&cert=/c&key=/k", *names) == ("required", True, "/ca", "/c", "/k")
    assert picked("rediss://h?verify=no", *names)[:2] == ("none", False)


@pytest.mark.parametrize("url, name", [
    ("redis://:secret@h", "h:6379"), ("redis://u:secret@[::1]:1", "[::1]:1"), ("unix://:secret@/s", "/s")])
def test_the_name_for_messages_has_no_password(url, name):
    assert parse(url).name == name


@pytest.mark.parametrize("url, words", [
    ("redis://", "must name a host"),
    ("redis:///0", "must name a host"),
    ("redis://:secret@h:port/0", "ort"),
    ("redis://:secret@h:99999/0", "ort"),
    ("redis://:secret@h/zero", "number of a database"),
    ("redis://:secret@h/0/1", "number of a database"),
    ("redis://:secret@h/-1", "number of a database"),
    ("redis://:secret@h/0#x", "%23"),
    ("redis://secret@h/0", "password stands between"),
    ("redis://:secret@h?timeout=0", "0.05 to 60"),
    ("redis://:secret@h?timeout=soon", "timeout=soon"),
    ("redis://:secret@h?timeout=nan", "0.05 to 60"),
    ("redis://:secret@h?prefix=", "letters"),
    ("redis://:secret@h?prefix=a:b", "letters"),
    ("redis://:secret@h?prefix", "bad query"),
    ("redis://:secret@h?unknown=1", "'unknown' is not known; known are timeout, prefix"),
    ("redis://:secret@h?verify=no", "not known"),
    ("redis://:secret@h?db=1", "not known"),
    ("rediss://:secret@h?verify=maybe", '"yes" or "no"'),
    ("rediss://:secret@h?ca=ca.pem", "absolute path"),
    ("rediss://:secret@h?cert=/c", "cert and key"),
    ("unix://", "absolute path"),
    ("unix://run/redis.sock", "absolute path"),
    ("unix://:secret@/run/", "absolute path"),
])
def test_a_wrong_url_is_a_config_error_that_says_why_and_hides_the_password(url, words):
    with pytest.raises(ConfigError) as caught:
        open_store(url, LOGGER)
    assert words in str(caught.value)
    assert hidden(url) in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["sentinel://:secret@h/0", "Redis://:secret@h/0", "redis:/:secret@h"])
def test_an_unknown_scheme_is_a_config_error_without_the_password(url):
    with pytest.raises(ConfigError, match="redis://") as caught:
        open_store(url, LOGGER)
    assert "secret" not in str(caught.value) or "://" not in url


@pytest.mark.parametrize("scheme", [redis_url.TCP, redis_url.TLS, redis_url.UNIX])
def test_without_the_package_the_error_says_what_to_install(scheme, monkeypatch):
    assert scheme in STORES
    monkeypatch.setattr("luafcgid2.sessions.redis_store.redis", None)
    with pytest.raises(ConfigError, match=r"pip install .luafcgid2\[redis\]") as caught:
        open_store(scheme + "://:secret@host/0", LOGGER)
    assert "secret" not in str(caught.value)
