"""When a worker has served or grown enough."""
from __future__ import annotations

from types import SimpleNamespace

import pytest

from luafcgid2.wear import LEAST_LIFE_SECONDS, limit_of, reason

MB = 1 << 20
KB_IN_MB = 1 << 10


def child(requests=1, most=0, memory=0, started=0.0):
    return SimpleNamespace(pid=1, slot=SimpleNamespace(requests=requests), most=most, started=started,
                           config=SimpleNamespace(max_worker_memory=memory))


def test_without_limits_a_worker_never_wears():
    assert reason(child(10 ** 9), 10 ** 6, lambda pid: 10 ** 9) == ""


def test_the_limit_of_requests_is_reached_by_serving_so_many():
    assert reason(child(99, most=100), 1) == ""
    assert reason(child(100, most=100), 1) == "it has served 100 requests (MaxRequests)"


def test_the_limit_of_requests_is_spread_over_the_jitter():
    config = SimpleNamespace(max_requests=1000, max_requests_jitter=50)
    assert limit_of(config, lambda low, high: low) == 1000
    assert limit_of(config, lambda low, high: high) == 1050
    assert limit_of(SimpleNamespace(max_requests=0, max_requests_jitter=50), lambda low, high: high) == 0


def test_memory_above_the_limit_wears():
    assert reason(child(memory=64 * MB), 100, lambda pid: 64 * KB_IN_MB) == ""
    said = reason(child(memory=64 * MB), 100, lambda pid: 70 * KB_IN_MB)
    assert said == "it holds 70 MiB of memory (MaxWorkerMemory)"


@pytest.mark.parametrize("fresh", [child(memory=1, started=100 - LEAST_LIFE_SECONDS / 2), child(0, memory=1)])
def test_a_limit_below_what_a_fresh_worker_needs_does_not_replace_it_for_ever(fresh):
    assert reason(fresh, 100, lambda pid: 30 * KB_IN_MB) == ""


def test_a_process_that_the_system_does_not_tell_about_has_no_limit():
    def gone(pid):
        raise ProcessLookupError
    assert reason(child(memory=1), 100, gone) == ""
