"""Shared by all tests: the checkout comes first on the module path, and `ROOT` is where it lies; a redis-server.

No example of hypothesis has a time limit.
"""
from __future__ import annotations

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

# Any moment may be slow on a busy machine.  All else is as it was, such as what hypothesis does under CI.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="module")
def redis_server():
    """One redis-server for all tests of a file that leave it as it is; `url()` gives each its own keys."""
    redis = pytest.importorskip("redis_server")
    if redis.PROGRAM is None:
        pytest.skip("redis-server is not installed")
    with redis.RedisServer() as server:
        yield server
