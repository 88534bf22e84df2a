"""A scoreboard with two busy workers, as master and workers would have filled it, and what is taken from it."""
from __future__ import annotations

from types import SimpleNamespace

from luafcgid2 import config as configuration
from luafcgid2.scoreboard import DRAINING, IDLE, READY, RUNNING, Scoreboard, bucket
from luafcgid2.snapshot import take

NOW_NS, NOW = 5_000_000_000_000, 1_800_000_000.25
SECOND = 1_000_000_000
HOSTILE = b'/x.lua?<script>alert(1)</script>&"\'\x1b[2J\n\xff\xe2\x80\xae'


def filled() -> Scoreboard:
    """Worker 0 is ready and runs one of 2 threads, worker 2 drains and runs one; slot 1 is free."""
    board = Scoreboard(4, 2)
    header = board.header
    header.since_start, header.target, header.generation = int(NOW) - 3600, 2, 7
    header.queue, header.queue_most, header.queue_limit = 3, 9, 1024
    header.most_busy, header.limit_reached, header.restarts, header.reloads = 4, 5, 6, 2
    header.past_requests, header.past_errors, header.past_us, header.past_slow = 1000, 10, 2_000_000, 8
    header.past_accepted, header.pss_kb, header.budget_kb = 100, 20480, 65536
    numbers = [board.take() for _ in range(3)]
    board.give_back(numbers[1])
    for number, state, requests in ((0, READY, 50), (2, DRAINING, 30)):
        slot = board.slot(number)
        slot.pid, slot.state, slot.threads, slot.since_start = 4000 + number, state, 2, int(NOW) - 60
        slot.requests, slot.busy, slot.errors, slot.busy_us = requests, 1, 2, requests * 1000
        slot.accepted, slot.states, slot.heap_kb, slot.slow, slot.rss_kb = 5, 3, 900, 1, 15000
        slot.latencies = [requests if index == bucket(1000) else 0 for index in range(64)]
        running, idle = slot.lines[1], slot.lines[0]
        running.state, running.started, running.requests, running.heap_kb = RUNNING, NOW_NS - 2 * SECOND, 25, 64
        running.method, running.uri, running.script = b"GET", b"/slow.lua?n=%d" % number, b"/srv/www/slow.lua"
        idle.state, idle.uri, idle.requests = IDLE, b"/gone.lua", 25
        line = slot.scripts[0]
        line.path, line.requests, line.busy_us, line.most_us = b"/srv/www/slow.lua", requests, requests * 900, 700_000
        line.errors, line.states, line.heap_kb = 1, 2, 300
        line.latencies = [requests if index == bucket(800) else 0 for index in range(64)]
    other = board.slot(0).scripts[1]
    other.path, other.requests, other.busy_us = b"/srv/www/quick.lua", 4, 400
    quarantined, over = board.quarantine[:2]
    quarantined.path, quarantined.until, quarantined.level = b"/srv/www/bad.lua", NOW_NS + 90 * SECOND, 2
    quarantined.strikes = 3
    over.path, over.until = b"/srv/www/was-bad.lua", NOW_NS - SECOND
    return board


def config(**settings) -> configuration.Config:
    """Defaults for a server of 2 workers with 2 threads."""
    return configuration.defaults(**{"Workers": 2, "WorkerThreads": 2, **settings})


def snapshot(board=None) -> dict:
    """What is taken from `board`, or from filled()."""
    return take(board or filled(), config(), NOW_NS, NOW)


def hostile() -> dict:
    """A snapshot in which a client and a file name try to break out of the page."""
    board = filled()
    board.slot(0).lines[1].uri = board.slot(0).lines[1].method = HOSTILE
    board.slot(0).scripts[1].path = board.quarantine[0].path = b"/srv/www/<b>&\"\\\n.lua"
    return snapshot(board)


def dynamic() -> SimpleNamespace:
    """A configuration whose number of workers changes by itself."""
    return SimpleNamespace(process_manager="dynamic", worker_count=5, worker_threads=2)
