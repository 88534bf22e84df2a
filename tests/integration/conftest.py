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

from harness import Site  # noqa: E402  (the path and the rewriting come first)


@pytest.fixture
def site():
    """An empty run directory and a copy of the test scripts, for one test."""
    with Site() as made:
        yield made


@pytest.fixture
def start():
    """start(Master, site, Workers=1): a server that stops, and whose error log is checked, when the test ends."""
    with contextlib.ExitStack() as running:
        yield lambda kind, *arguments, **settings: running.enter_context(kind(*arguments, **settings))
