"""Fixtures of the integration tests; the servers themselves are in servers.py and harness.py."""
from __future__ import annotations

import contextlib
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
pytest.register_assert_rewrite("harness", "promises", "servers", "visitors")

# Whoever runs the tests in the background, or below nohup, has them ignore these; programs that they start would, too.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

import harness  # noqa: E402  (the path and the rewriting come first)

from luafcgid2 import fastpath  # noqa: E402

# What these promise holds with the fast path and without: each of their tests runs twice.
BOTH_WAYS = ("test_clients", "test_desk", "test_fastcgi_client", "test_faults", "test_lighttpd", "test_limits",
             "test_nginx", "test_reload_under_load", "test_streaming_servers", "test_uploads", "test_worker")


def pytest_generate_tests(metafunc):
    if metafunc.module.__name__ in BOTH_WAYS and fastpath.BUILT:
        if "served_by" not in metafunc.fixturenames:
            metafunc.fixturenames.insert(0, "served_by")
        metafunc.parametrize("served_by", ["fast path", "python"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def served_by(request):
    """Servers that are started from now on have the fast path, or not.  Fixtures of a module that start one use it."""
    harness.FAST_PATH = getattr(request, "param", "fast path") == "fast path"
    yield
    harness.FAST_PATH = True


@pytest.fixture
def site():
    """An empty run directory and a copy of the test scripts, for one test."""
    with harness.Site() as made:
        yield made


@pytest.fixture
def start():
    """start(Master, site, Workers=1): a server that stops, and whose error log is checked, when the test ends."""
    with contextlib.ExitStack() as running:
        yield lambda kind, *arguments, **settings: running.enter_context(kind(*arguments, **settings))
