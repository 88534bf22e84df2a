"""What a session costs among 100 and among 100,000 others, and what the sweep gives back.

`make bench-sessions` calls it.  In: options, see --help.  Out: reStructuredText on standard output, progress on
standard error.  Exit code 0, or 2 if something is not installed.  It works on the session service as a worker
does, without web server and FastCGI, in a temporary folder; redis-server is started on a port of 127.0.0.1.
"""
from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import os
import platform
import random
import sqlite3
import sys
import tempfile
import textwrap
import time
from typing import Any, Callable, List, NamedTuple, Sequence

import servers

sys.path.insert(1, os.path.dirname(servers.HERE))
from luafcgid2 import config  # noqa: E402
from luafcgid2.sessions import open_store  # noqa: E402
from luafcgid2.sessions.cookie import digest  # noqa: E402
from luafcgid2.sessions.session import SWEEP_EVERY, SessionService  # noqa: E402

SIZES = (100, 1000, 10000, 100000)
VISITOR = (b"192.0.2.1", b"Mozilla/5.0 (X11; Linux x86_64)", b"en", b"on")
REALM, NAMES, VALUE = b"shop", (b"user", b"basket", b"seen"), b"s24:twenty-four bytes of text"
ROUNDS, CALLS, WARM = 12, 300, 100
HEADINGS = ("store", "sessions", "look-up us", "read us", "write us", "size MB", "bytes each")


class Costs(NamedTuple):
    """Microseconds of one look-up in the store, of all session work of a request that reads one variable, and
    of one that writes one."""

    look_up: float
    read: float
    write: float


class Sweep(NamedTuple):
    """What removing all sessions took and gave back: seconds, those of the longest batch, bytes."""

    seconds: float
    longest: float
    before: int
    after: int


def say(message: str) -> None:
    """One line of progress."""
    print(message, file=sys.stderr, flush=True)


def sqlite_size(path: str) -> int:
    """Bytes of the file and of what SQLite keeps beside it."""
    return sum(os.path.getsize(path + end) for end in ("", "-wal", "-shm") if os.path.exists(path + end))


def fill(service: SessionService, count: int) -> List[bytes]:
    """`count` sessions of three variables, each made by a request of its own; their keys."""
    calls, keys = service.for_state(), []
    for _ in range(count):
        calls.open(None, *VISITOR)
        for name in NAMES:
            calls.set(REALM, name, VALUE)
        calls.commit()
        keys.append(calls.id())
    return keys


def cost(work: Callable[[bytes], object], keys: Sequence[bytes]) -> float:
    """Microseconds of one `work(key)` of random keys."""
    for key in random.choices(keys, k=WARM):
        work(key)
    chosen = random.choices(keys, k=CALLS)
    begun = time.perf_counter()
    for key in chosen:
        work(key)
    return (time.perf_counter() - begun) / CALLS * 1e6


def measure(service: SessionService, keys: Sequence[bytes]) -> Costs:
    """The costs while there are these sessions."""
    calls, now = service.for_state(), int(time.time())

    def look_up(key: bytes) -> None:
        assert service.store.load(digest(key), now) is not None

    def read(key: bytes) -> None:
        calls.open(key, *VISITOR)
        assert calls.get(REALM, NAMES[0]) == VALUE
        calls.commit()

    def write(key: bytes) -> None:
        calls.open(key, *VISITOR)
        calls.set(REALM, b"seen", b"s8:%08d" % random.getrandbits(26))
        calls.commit()
    return Costs(cost(look_up, keys), cost(read, keys), cost(write, keys))


def swept(service: SessionService, clock: List[float], lifetime: int, size: Callable[[], int]) -> Sweep:
    """Let all sessions expire and sweep as an idle worker does."""
    clock[0] = time.time() + lifetime + SWEEP_EVERY
    before, longest, begun, removed = size(), 0.0, time.perf_counter(), 1
    while removed:
        batch = time.perf_counter()
        removed = service.sweep()
        longest = max(longest, time.perf_counter() - batch)
    return Sweep(time.perf_counter() - begun, longest, before, size())


def compare(title: str, services: Sequence[SessionService], sizes: Sequence[int],
            size_of: Callable[[int], int]) -> List[List[str]]:
    """The rows of HEADINGS: each service gets its number of sessions, then all are measured in turn, so that
    they meet the same weather; the best of the rounds counts, since whatever else the machine does makes it
    longer.  `size_of(index)` is what a store takes, in bytes."""
    keys = []
    for service, count in zip(services, sizes):
        keys.append(fill(service, count))
        say("%s: %d sessions made" % (title, count))
    taken = [size_of(index) for index in range(len(sizes))]
    rounds = [[measure(service, known) for service, known in zip(services, keys)] for _ in range(ROUNDS)]
    rows = []
    for index, (count, size) in enumerate(zip(sizes, taken)):
        best = Costs(*(min(column) for column in zip(*(measured[index] for measured in rounds))))
        rows.append([title, "%d" % count, *("%.1f" % each for each in best), "%.1f" % (size / 1e6),
                     "%d" % (size / count)])
    return rows


def service_of(settings: Any, clock: Callable[[], float]) -> SessionService:
    """The session service of a worker with these settings."""
    logger = logging.getLogger("bench-sessions")
    return SessionService(settings, open_store(settings.session_store, logger), logger, clock)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A simple table of reStructuredText; the first column is text."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    rule = "  ".join("=" * width for width in widths)
    text = ["  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))])
            for line in lines]
    return "\n".join([rule, text[0], rule, *text[1:], rule])


def with_sqlite(sizes: Sequence[int]) -> List[List[str]]:
    """Rows for SQLite, a file for each size; says what the sweep of the largest did."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, contextlib.ExitStack() as stack:
        paths = [os.path.join(folder, "%d.db" % size) for size in sizes]
        clock: List[float] = [0.0]
        settings = [config.defaults(session_store="sqlite://" + path, session_cookie_secure=False) for path in paths]
        services = [service_of(each, lambda: clock[0] or time.time()) for each in settings]
        for service in services:
            stack.callback(service.store.close)
        rows = compare("sqlite", services, sizes, lambda index: sqlite_size(paths[index]))
        sweep = swept(services[-1], clock, settings[-1].session_time, lambda: sqlite_size(paths[-1]))
        services[-1].store.close()
        print(textwrap.fill(
            "The sweep of %d expired sessions took %.1f s in batches that held the write lock for %.0f ms at "
            "most; the files shrank from %.1f to %.1f MB, and to %.1f MB once closed." % (
                sizes[-1], sweep.seconds, sweep.longest * 1e3, sweep.before / 1e6, sweep.after / 1e6,
                sqlite_size(paths[-1]) / 1e6), 110), end="\n\n")
        return rows


def with_redis(sizes: Sequence[int]) -> List[List[str]]:
    """Rows for Redis over TCP, a server for each size; it removes what expired by itself."""
    if importlib.util.find_spec("redis") is None:
        raise servers.Missing("the redis client is not installed: pip install 'luafcgid2[redis]'")
    import redis
    with contextlib.ExitStack() as stack:
        services, clients, empty = [], [], []
        for _ in sizes:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
            url, _pids = stack.enter_context(servers.redis_server(folder))
            settings = config.defaults(session_store=url, session_cookie_secure=False)
            services.append(service_of(settings, time.time))
            stack.callback(services[-1].store.close)
            clients.append(stack.enter_context(contextlib.closing(redis.Redis.from_url(url))))
            empty.append(clients[-1].info("memory")["used_memory"])
        return compare("redis", services, sizes,
                       lambda index: clients[index].info("memory")["used_memory"] - empty[index])


STORES = {"sqlite": with_sqlite, "redis": with_redis}


def main() -> int:
    """Measures, prints, and returns the exit code."""
    parser = argparse.ArgumentParser(description="The cost of a session among many.")
    parser.add_argument("--store", action="append", choices=sorted(STORES), help="measure only these")
    parser.add_argument("--sessions", type=int, default=SIZES[-1], help="how many at most (%d)" % SIZES[-1])
    options = parser.parse_args()
    sizes = [size for size in SIZES if size < options.sessions] + [options.sessions]
    try:
        rows = [line for name in options.store or STORES for line in STORES[name](sizes)]
    except servers.Missing as error:
        say("bench-sessions: %s" % error)
        return 2
    except KeyboardInterrupt:
        return 130
    print(table(HEADINGS, rows), end="\n\n")
    print(textwrap.fill(
        "Three variables a session, %d cores, %s, Python %s, SQLite %s. Look-up: one session read from the "
        "store. Read, write: all that Session costs a request that reads, or also stores, one variable, "
        "without web server and FastCGI. The best of %d interleaved rounds of %d." % (
            os.cpu_count() or 1, platform.machine(), platform.python_version(), sqlite3.sqlite_version, ROUNDS,
            CALLS), 110))
    return 0


if __name__ == "__main__":
    sys.exit(main())
