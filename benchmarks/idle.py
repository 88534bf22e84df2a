"""What good requests cost beside a thousand connections that only hold on.  `make bench-idle` calls it.

In: options, see --help.  Out: a table on standard output: the latency of requests over FastCGI, one at a time, without
and with the crowd, in alternating rounds.  Half of the crowd sends nothing, half a byte of a request every few
seconds; a process of its own plays it.  In the rounds without, the same crowd is at a socket that nobody serves: what
the process itself takes from the machine is in both.  Everything runs on unix sockets in a temporary folder and is
stopped at the end.  Exit code 0, 1 if --check fails, 2 if something is not installed.
"""
from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import sys
import tempfile
import time
from typing import Dict, Iterator, List, Sequence

import crowd
import servers

sys.path.insert(1, os.path.dirname(servers.HERE))
from luafcgid2 import client  # noqa: E402

HEADLINE = "%-28s %10s %10s %10s %12s"
LINE = "%-28s %10.0f %10.0f %10.0f %12.0f"
WITHOUT, WITH = "the crowd is elsewhere", "%d idle and trickling"


@contextlib.contextmanager
def unserved(path: str, size: int) -> Iterator[None]:
    """A unix socket where `size` connections are never accepted; its file goes with the block."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(size)
        try:
            yield
        finally:
            os.unlink(path)


def latencies(path: str, seconds: float, keep: bool) -> List[float]:
    """Microseconds that requests took, one after the other, on one kept connection or on one each."""
    data = crowd.hello(keep)
    found: List[float] = []
    end = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(client.Client(path)) if keep else None
        while time.monotonic() < end:
            begun = time.perf_counter()
            with contextlib.nullcontext(kept) if kept else client.Client(path) as one:
                one.send_raw(data)
                answer = one.read_response()
            found.append((time.perf_counter() - begun) * 1e6)
            if answer.status != 200:
                raise servers.Missing("luafcgid2 answers %d" % answer.status)
    return found


def measure(options: argparse.Namespace) -> Dict[str, List[float]]:
    """Latencies by title, of all rounds."""
    found: Dict[str, List[float]] = {}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        running = stack.enter_context(servers.start_ours(folder))
        deadline = time.monotonic() + servers.READY_SECONDS
        while True:
            with contextlib.suppress(OSError):
                latencies(running.path, 0.5, True)
                break
            if time.monotonic() > deadline:
                raise servers.Missing("luafcgid2 does not start: see %s" % folder)
            time.sleep(0.05)
        for number in range(options.rounds):
            nowhere = os.path.join(folder, "nowhere-%d" % number)
            for title, where in ((WITHOUT, nowhere), (WITH % options.connections, running.path)):
                with unserved(nowhere, options.connections), crowd.crowd(
                        where, options.connections, crowd.TRICKLING):
                    for keep, word in ((False, ""), (True, ", kept")):
                        found.setdefault(title + word, []).extend(latencies(running.path, options.seconds, keep))
    return found


def show(found: Dict[str, List[float]]) -> None:
    """The table."""
    print(HEADLINE % ("beside", "median us", "p99 us", "p99.9 us", "requests"))
    for title, values in found.items():
        cuts = statistics.quantiles(values, n=1000)
        print(LINE % (title, statistics.median(values), cuts[989], cuts[998], len(values)))


def main(arguments: Sequence[str]) -> int:
    """Runs it; the exit code."""
    parser = argparse.ArgumentParser(description="The latency of requests beside idle and trickling connections.")
    parser.add_argument("--connections", type=int, default=1000, metavar="N", help="in the crowd (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (%(default)s)")
    parser.add_argument("--check", type=float, metavar="FACTOR",
                        help="fail if the crowd multiplies a median by more than this")
    options = parser.parse_args(arguments)
    try:
        found = measure(options)
    except servers.Missing as error:
        print("bench-idle: %s" % error, file=sys.stderr)
        return 2
    show(found)
    medians = [statistics.median(values) for values in found.values()]
    worst = max(medians[2] / medians[0], medians[3] / medians[1])
    print("the crowd multiplies the median by %.2f" % worst)
    return int(bool(options.check) and worst > options.check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
