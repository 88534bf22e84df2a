"""What an idle server takes from a small machine, as the kernel counts it."""
from __future__ import annotations

import os
import time

from harness import children, wait_until
from servers import Master

from luafcgid2 import procfs
from luafcgid2.scoreboard import Scoreboard

# KB of 1,000 bytes, for a master and two workers; and for one worker more.
SERVER_KB, WORKER_KB = 30000, 6000


def pss(server: Master) -> float:
    """What all processes of a server take, in KB of 1,000 bytes; what others map as well is counted in part."""
    return sum(procfs.pss_kb(pid) for pid in (server.pid, *children(server.pid))) * 1.024


def at_rest(server: Master) -> bool:
    return not any(slot.awake for _, slot in Scoreboard.of(server.pid).workers())


def settled(server: Master) -> float:
    """The memory when all have gone to sleep."""
    wait_until(lambda: at_rest(server), "all workers sleep")
    return pss(server)


def test_an_idle_server_takes_at_most_30_mb_and_no_openssl(site, start):
    server = start(Master, site)
    assert settled(server) < SERVER_KB
    with open("/proc/%d/maps" % server.pid) as maps:
        assert "libcrypto" not in maps.read()


def test_one_more_idle_worker_takes_at_most_6_mb(site, start):
    few, more = start(Master, site, "few", Workers=2), start(Master, site, "more", Workers=6)
    assert settled(more) - settled(few) < 4 * WORKER_KB


def test_nothing_of_an_idle_server_wakes(site, start):
    server = start(Master, site)

    def switches() -> dict:
        found = {}
        for pid in (server.pid, *children(server.pid)):
            for task in os.listdir("/proc/%d/task" % pid):
                with open("/proc/%d/task/%s/status" % (pid, task)) as file:
                    found[pid, task] = file.read().partition("\nvoluntary_ctxt_switches:")[2].split()[0]
        return found

    def quiet() -> bool:
        # Longer than the master's tick, which is the last to end.
        before = switches()
        time.sleep(0.75)
        return before == switches()
    wait_until(lambda: at_rest(server) and quiet(), "all fall asleep")
    before = switches()
    # The time that is measured.
    time.sleep(1)
    assert switches() == before
