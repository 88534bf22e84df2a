"""luafcgid2 beside a bare C responder and php-fpm, behind one nginx, in one run.  `make bench` calls it.

In: options, see --help.  Out: a table on standard output (reStructuredText), progress on standard error, and
all figures as JSON on request.  Exit code 0, 1 if --check fails, 2 if something is not installed.  Everything
runs in a temporary folder, on unix sockets and 127.0.0.1, and is stopped at the end.
"""
from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import time
from typing import Any, Dict, List, Mapping, Sequence

import front
import report
import servers

sys.path.insert(1, os.path.dirname(servers.HERE))
from luafcgid2 import client  # noqa: E402
from luafcgid2.errors import ProtocolError  # noqa: E402

FIRST_ANSWER_RUNS = 5
FIRST_ANSWER_SECONDS = 30.0
HELLO, VISITS = b"Hello, world!", b"visits: "


def say(message: str) -> None:
    """One line of progress."""
    print(message, file=sys.stderr, flush=True)


def first_answer(server: servers.Server, script: str) -> float:
    """Seconds from the start of the program to its first answer over FastCGI."""
    path = server.script(script)
    params = {"REQUEST_METHOD": "GET", "SCRIPT_FILENAME": path, "SCRIPT_NAME": "/" + os.path.basename(path),
              "DOCUMENT_ROOT": servers.SCRIPTS, "QUERY_STRING": "", "SERVER_PROTOCOL": "HTTP/1.1"}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, contextlib.ExitStack() as stack:
        if server.key == "c":
            servers.build_responder(folder)
        begun = time.monotonic()
        where = stack.enter_context(server.start(folder))
        while True:
            with contextlib.suppress(OSError, ProtocolError):
                answer = client.request(where.path, params, timeout=5.0)
                taken = time.monotonic() - begun
                if answer.status != 200:
                    raise servers.Missing("%s answers %d: %r" % (server.title, answer.status, answer.stderr))
                return taken
            if time.monotonic() - begun > FIRST_ANSWER_SECONDS:
                raise servers.Missing("%s does not answer" % server.title)
            time.sleep(0.002)


def wait_until_right(url: str, script: str) -> None:
    """Asks once or more until the server behind `url` answers, and looks at the answer."""
    deadline = time.monotonic() + FIRST_ANSWER_SECONDS
    while True:
        try:
            body, _cookie = front.fetch(url)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise servers.Missing("%s: %s" % (url, error)) from None
            time.sleep(0.05)
    if script == "hello" and body != HELLO:
        raise servers.Missing("%s answers %r, not %r" % (url, body[:200], HELLO))


def visitors(name: str, url: str, script: str) -> List[str]:
    """The cookies for wrk to send: those of sessions that exist, where `script` uses sessions."""
    return front.visitors(url) if script == "session" and name.split("-")[0] != "c" else []


def look_at_visits(url: str, cookies: Sequence[str]) -> None:
    """That the sessions were really used: a server that refused them would have begun new ones."""
    for cookie in cookies:
        body = front.fetch(url, cookie)[0]
        if not body.startswith(VISITS) or int(body[len(VISITS):]) < 3:
            raise servers.Missing("%s: a session is not kept: %r" % (url, body[:200]))


def folder_for(parent: str, name: str) -> str:
    """A folder of its own for each server that runs."""
    path = os.path.join(parent, name)
    os.mkdir(path)
    return path


def run(chosen: List[servers.Server], options: argparse.Namespace) -> Mapping[str, List[front.Sample]]:
    """All rounds; every second one in reverse order, so that no server always follows the same other.

    Each server runs twice, once for each mode: connections that nginx keeps open would hold the processes of
    the others, which serve one connection at a time.
    """
    samples: Dict[str, List[front.Sample]] = {}
    cookies: Dict[str, List[str]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, contextlib.ExitStack() as stack:
        os.chmod(folder, 0o755)
        running = {name: (server, stack.enter_context(server.start(folder_for(folder, name))))
                   for server in chosen for name in (server.key, server.key + front.KEEP)}
        base = stack.enter_context(front.started(folder, options.nginx_workers, options.script, running))
        names = list(running)
        for name in names:
            wait_until_right(base + name, options.script)
            cookies[name] = visitors(name, base + name, options.script)
            front.wrk(base + name, 1, cookies[name])
            look_at_visits(base + name, cookies[name])
            samples[name] = []
        for number in range(options.rounds):
            for name in names[::-1] if number % 2 else names:
                sample = front.measure(base + name, options.seconds, running[name][1], cookies[name])
                samples[name].append(sample)
                say("round %d  %-16s %7.0f requests/s  p99 %8.2f ms  %6.1f us CPU  %d failures" % (
                    number + 1, name, sample.rate, sample.p99, sample.cpu, sample.failures))
    return samples


def parse(arguments: Any = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="luafcgid2 beside a bare C responder and php-fpm, behind nginx.")
    parser.add_argument("--seconds", type=int, default=3, help="length of one run (3)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each server in each mode (3)")
    parser.add_argument("--script", choices=("hello", "table", "large", "session"), default="hello",
                        help="what Lua and PHP run; C always says hello (hello)")
    parser.add_argument("--only", action="append", choices=sorted(servers.SERVERS), help="measure only these")
    parser.add_argument("--nginx-workers", type=int, default=1, help="worker processes of nginx (1)")
    parser.add_argument("--json", metavar="FILE", help="write all samples and medians there")
    parser.add_argument("--rst", action="store_true", help="nothing but the table and its caption")
    parser.add_argument("--check", action="store_true", help="fail if luafcgid2 misses its aims")
    return parser.parse_args(arguments)


def main() -> int:
    """Measures, prints, and returns the exit code."""
    options = parse()
    chosen = [server for key, server in servers.SERVERS.items()
              if (key in options.only if options.only else server.runs(options.script))]
    try:
        first = {server.key: [first_answer(server, options.script) for _ in range(FIRST_ANSWER_RUNS)]
                 for server in chosen}
        samples = run(chosen, options)
    except servers.Missing as error:
        say("bench: %s" % error)
        return 2
    except KeyboardInterrupt:
        return 130
    rows = report.summary(samples, first)
    words = report.caption(options.script, options.seconds, options.rounds, options.nginx_workers)
    print("%s\n\n%s" % (report.table(rows), words))
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"caption": words, "measured": time.strftime("%Y-%m-%d"), "rows": rows,
                       "first_answer": first, "samples": {
                name: [dataclasses.asdict(sample) for sample in runs] for name, runs in samples.items()}},
                file, indent=1)
    short = report.shortfalls(rows, options.script)
    if not options.rst:
        print("".join("\nmissed: " + miss for miss in short))
    return 1 if options.check and short else 0


if __name__ == "__main__":
    sys.exit(main())
