"""A minute of hostile clients, the decoders' and the server's: nothing hangs, leaks, grows or dies.

The inputs are the same in every run (SEED); `make fuzz` has others, and a fuzzer that is guided by coverage.
"""
from __future__ import annotations

import os

import pytest
from harness import Site, children, wait_until
from mutate import Mutator
from servers import Master
from siege import EXPECTED, ROUNDS, SCRIPTS, SETTINGS, SLACK_KB, Siege, Watch
from targets import TARGETS

SEED = 5
# A minute in all on two cores of a small server, a third of it on a quick one.
INPUTS = {"records": 60_000, "connection": 8_000, "params": 30_000, "prelude": 2_000, "cookies": 50_000,
          "query": 6_000, "head": 60_000}
WARM_UP, BATCHES = 20, 60


# By a thread, because a search in Lua lets no signal through.
@pytest.mark.timeout(300, method="thread")
@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks_a_promise_of_a_decoder(name):
    target = TARGETS[name]
    mutate, before = Mutator(SEED, target.seeds, target.tokens), len(os.listdir("/proc/self/fd"))
    for number in range(INPUTS[name]):
        data = mutate()
        try:
            target.run(data)
        except Exception as error:
            pytest.fail("input %d of target %s, %r: %s: %s" % (number, name, data, type(error).__name__, error))
    assert len(os.listdir("/proc/self/fd")) == before, "a descriptor is left"


@pytest.fixture
def besieged():
    """(master, watch, siege) of a server with small limits and two workers."""
    with Site() as site:
        for name, source in SCRIPTS.items():
            site.write(name, source)
        with Master(site, **SETTINGS) as master:
            for pattern in EXPECTED:
                master.expect_errors(pattern)
            yield master, Watch(children(master.pid)), Siege(master.address, site.www, SEED)


def test_no_client_hangs_leaks_fattens_or_kills_a_worker(besieged):
    master, watch, siege = besieged
    descriptors = wait_until(watch.settled, "the workers are alike")
    for _ in range(WARM_UP):
        siege.batch(ROUNDS)
    memory, threads = watch.memory(), watch.threads()
    for _ in range(BATCHES):
        siege.batch(ROUNDS)
        assert sorted(children(master.pid)) == watch.pids, "a worker is another one"
    # Connections end a moment after the last client has left.
    wait_until(lambda: watch.descriptors() == descriptors, "workers close what clients left")
    assert watch.threads() == threads
    for pid, count in watch.store_descriptors().items():
        # Database and write-ahead log of each thread, and what the threads share.
        assert count <= 2 * threads[pid] + 1, "worker %d opens the session store again and again" % pid
    for pid, kilobytes in watch.memory().items():
        assert kilobytes < memory[pid] + SLACK_KB, "worker %d grows" % pid
    log = master.log_text()
    assert "Traceback" not in log and "unexpected" not in log
