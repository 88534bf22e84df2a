"""`make fuzz`: every target for as long as you like, guided by coverage where atheris is installed; then the server.

In: options, see --help.  Out: counts on standard output; at a finding, what was found, the input in build/fuzz, and
exit code 1.  What atheris has learned stays in build/fuzz, so that the next run goes on from there.  Where it has no
wheel for this Python, the inputs are those of mutate.py, with another seed each time.
"""
from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from typing import List

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "tests", "integration"), ROOT]
KEPT = os.path.join(ROOT, "build", "fuzz")
NAMES = ("records", "connection", "params", "prelude", "cookies", "query", "head")
SERVER = "server"
# Seconds for one input, and megabytes in all.
HANGS, FAT = 20, 1024


def has_atheris() -> bool:
    """Whether the fuzzer that is guided by coverage is there."""
    try:
        import atheris  # noqa: F401
    except ImportError:
        return False
    return True


def guide(name: str, arguments: List[str]) -> None:
    """Fuzz one target with atheris; ends the process.  `arguments` are those of libFuzzer."""
    import atheris
    with atheris.instrument_imports(include=["luafcgid2", "reference", "targets", "wire"]):
        import targets
    atheris.Setup([sys.argv[0], *arguments], targets.TARGETS[name].run)
    atheris.Fuzz()


def guided(name: str, seconds: int, seed: int) -> int:
    """Fuzz one target with atheris in a process of its own: the number of inputs.  SystemExit at a finding."""
    import targets
    folder, target = os.path.join(KEPT, name), targets.TARGETS[name]
    os.makedirs(folder, exist_ok=True)
    for number, data in enumerate(target.seeds):
        with open(os.path.join(folder, "seed-%02d" % number), "wb") as file:
            file.write(data)
    words = os.path.join(KEPT, name + ".words")
    with open(words, "w", encoding="ascii") as file:
        file.writelines('"%s"\n' % "".join("\\x%02x" % byte for byte in token) for token in target.tokens if token)
    command = [sys.executable, os.path.abspath(__file__), "--one", name, "--", folder, "-dict=" + words,
               "-max_total_time=%d" % seconds, "-seed=%d" % seed, "-timeout=%d" % HANGS, "-rss_limit_mb=%d" % FAT,
               "-artifact_prefix=%s/" % KEPT, "-print_final_stats=1", "-max_len=4096"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    count = re.search(r"number_of_executed_units:\s*(\d+)", done.stdout)
    if done.returncode or not count:
        raise SystemExit("%s\n%s: see above" % (done.stdout[-6000:], name))
    return int(count.group(1))


def mutated(name: str, seconds: int, seed: int) -> int:
    """The same with inputs of mutate.py."""
    import targets
    from mutate import Mutator
    target, count, deadline = targets.TARGETS[name], 0, time.monotonic() + seconds
    mutate = Mutator(seed, target.seeds, target.tokens)
    while time.monotonic() < deadline:
        data = mutate()
        try:
            target.run(data)
        except Exception:
            print("%s, seed %d, input %d: %r" % (name, seed, count, data))
            raise
        count += 1
    return count


def besieged(seconds: int, seed: int) -> int:
    """Attack a server: the number of inputs; prints what its workers held before and after."""
    from harness import Site, wait_until
    from servers import Master
    from siege import EXPECTED, ROUNDS, SCRIPTS, SETTINGS, SLACK_KB, Siege, Watch
    with Site() as site:
        for name, source in SCRIPTS.items():
            site.write(name, source)
        with Master(site, **SETTINGS) as master:
            for pattern in EXPECTED:
                master.expect_errors(pattern)
            watch, siege = Watch(master.workers()), Siege(master.address, site.www, seed)
            before = wait_until(watch.settled, "the workers are alike")
            deadline = time.monotonic() + seconds
            # What is asked for first fills the state pool and the store's caches, which takes a while.
            while time.monotonic() < deadline - seconds * 2 / 3:
                siege.batch(ROUNDS)
            memory = watch.memory()
            try:
                while time.monotonic() < deadline:
                    siege.batch(ROUNDS)
                    assert sorted(master.workers()) == watch.pids, "a worker is another one"
                wait_until(lambda: watch.descriptors() == before, "workers close what clients left")
                after = watch.memory()
                print("descriptors %s, KB %s; then %s, KB %s" % (before, memory, watch.descriptors(), after))
                assert all(after[pid] < memory[pid] + SLACK_KB for pid in after), "a worker grows"
                assert "Traceback" not in master.log_text(), "a traceback in the log"
            finally:
                shutil.copy(master.log, os.path.join(KEPT, "server.log"))
        return siege.inputs


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", default=[*NAMES, SERVER], help="of %s and %s" % (NAMES, SERVER))
    parser.add_argument("--seconds", type=int, default=60, help="for each target; %(default)s")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the random numbers; the time")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return guide(options.one, options.targets)
    os.makedirs(KEPT, exist_ok=True)
    total, guide_it = 0, has_atheris()
    for name in options.targets:
        way = "server" if name == SERVER else "atheris" if guide_it else "mutations"
        run = {"server": lambda _name, *rest: besieged(*rest), "atheris": guided, "mutations": mutated}[way]
        count = run(name, options.seconds, options.seed)
        total += count
        print("%-10s %9d inputs (%s)" % (name, count, way), flush=True)
    print("%-10s %9d inputs, seed %d, no findings" % ("all", total, options.seed))


if __name__ == "__main__":
    main()
