"""luafcgid2 beside other ways to answer requests, behind one nginx, in one run.  `make bench` calls it.

In: options, see --help.  Out: a table on standard output (reStructuredText) for each workload, progress on standard
error, all figures as JSON on request, and with --write or --all what the documentation shows.  Exit code 0, 1 if
--check fails, 2 if something is not installed.  Everything runs in a temporary folder, on unix sockets and 127.0.0.1,
and is stopped at the end.
"""
from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import sys
import time
from typing import Any, Dict, List, Mapping, Sequence

import aims
import asking
import crowd
import footprint
import published
import report
import servers
from instance import Missing
from load import Sample
from workloads import WORKLOADS, Place, Workload, places



def say(message: str) -> None:
    """One line of progress."""
    print(message, file=sys.stderr, flush=True)


def run(workload: Workload, there: Sequence[Place], options: argparse.Namespace) -> Mapping[str, List[Sample]]:
    """All rounds; every second one in reverse order, so that no server always follows the same other."""
    samples: Dict[str, List[Sample]] = {place.name: [] for place in there}
    with asking.started(workload, there, options.nginx_workers) as asked:
        for number in range(options.rounds):
            for one in asked[::-1] if number % 2 else asked:
                sample = one.measure(options.seconds)
                samples[one.place.name].append(sample)
                say("%s, round %d  %-22s %7.0f requests/s  p99 %8.2f ms  %8.1f us CPU  %d failures" % (
                    workload.name, number + 1, one.place.name, sample.rate, sample.p99, sample.cpu, sample.failures))
    return samples


def machine() -> str:
    """What the figures were measured on, in words."""
    with contextlib.suppress(OSError), open("/etc/os-release", encoding="utf-8") as file:
        named = dict(line.rstrip().split("=", 1) for line in file if "=" in line)
        return "a machine with %d cores, %s, %s" % (
            os.cpu_count() or 1, platform.machine(), named.get("PRETTY_NAME", "Linux").strip('"'))
    return "a machine with %d cores, %s" % (os.cpu_count() or 1, platform.machine())


def bench(workload: Workload, options: argparse.Namespace) -> Dict[str, Any]:
    """Measures one workload; what is printed, written and checked."""
    if workload.name == "footprint":
        return _result(workload, options, footprint.measure(options.rounds, options.seconds), {}, {})
    chosen = [server for server in workload.servers() if not options.only or server.key in options.only]
    there = places(workload, chosen)
    first = asking.first_answers(workload, chosen)
    samples = run(workload, there, options)
    return _result(workload, options, report.summary(there, samples, first), samples, first)


def _result(workload: Workload, options: argparse.Namespace, rows: Dict[str, Any],
            samples: Mapping[str, Sequence[Sample]], first: Mapping[str, Sequence[float]]) -> Dict[str, Any]:
    return {"workload": workload.name, "title": workload.title, "measured": time.strftime("%Y-%m-%d"),
            "machine": options.machine or machine(),
            "caption": report.caption(workload, options.seconds, options.rounds, options.nginx_workers),
            "left_out": dict(workload.without), "aims": aims.verdicts(workload.name, rows, samples), "rows": rows,
            "first_answer": first,
            "samples": {name: [dataclasses.asdict(sample) for sample in runs] for name, runs in samples.items()}}


def parse(arguments: Any = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="luafcgid2 beside other ways to answer requests, behind nginx.")
    parser.add_argument("--workload", "--script", action="append", choices=sorted(WORKLOADS),
                        help="what they are asked for; may be repeated (hello)")
    parser.add_argument("--all", action="store_true", help="all workloads, and --write")
    parser.add_argument("--seconds", type=float, default=3, help="length of one run (3)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each server in each mode (3)")
    parser.add_argument("--only", action="append", choices=sorted(servers.SERVERS), help="measure only these")
    parser.add_argument("--nginx-workers", type=int, default=1, help="worker processes of nginx (1)")
    parser.add_argument("--json", metavar="FILE", help="write all samples and medians there")
    parser.add_argument("--write", nargs="?", const=published.ROOT, metavar="FOLDER",
                        help="write results, pictures and tables to where the documentation of a checkout has them")
    parser.add_argument("--machine", metavar="TEXT", help="words for the machine, for the documentation")
    parser.add_argument("--rst", action="store_true", help="nothing but the table and its caption")
    parser.add_argument("--check", action="store_true", help="fail if luafcgid2 misses its aims")
    options = parser.parse_args(arguments)
    if options.all:
        options.workload = [name for name, workload in WORKLOADS.items() if not workload.on_request]
        options.write = options.write or published.ROOT
    options.workload = options.workload or ["hello"]
    return options


def main() -> int:
    """Measures, prints, and returns the exit code."""
    options = parse()
    crowd.more_files()
    results = []
    try:
        for name in options.workload:
            result = bench(WORKLOADS[name], options)
            results.append(result)
            print(published.text(result), end="\n\n")
            if not options.rst:
                print("".join("%s: %s\n" % ("reached" if verdict["met"] else "missed", verdict["words"])
                              for verdict in result["aims"]), flush=True)
            if options.write:
                published.write(options.write, result)
    except Missing as error:
        say("bench: %s" % error)
        return 2
    except KeyboardInterrupt:
        return 130
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results[0] if len(results) == 1 else results, file, indent=1)
    if options.write:
        published.write_readme(options.write)
    return 1 if options.check and any(aims.missed(result["aims"]) for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
