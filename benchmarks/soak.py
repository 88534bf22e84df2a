"""A long mixed load on a real server whose workers are killed now and then: does it end as it began?

`make soak` calls it.  In: options, see --help.  Out: reStructuredText on standard output, progress on standard
error.  Exit code 0; 1 if a request failed that no kill explains, a session or counter went back, or memory,
descriptors or threads grew.  One worker is never killed, so that what grows slowly shows.  It talks FastCGI over a
unix socket in a temporary folder, without a web server.
"""
from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)
from luafcgid2 import client, procfs  # noqa: E402
from luafcgid2.errors import ProtocolError  # noqa: E402
from luafcgid2.scoreboard import READY, Scoreboard  # noqa: E402

WORKERS, THREADS = 2, 2
PATIENCE = 60.0
UPLOAD = bytes(range(256)) * 1200               # 300 KB, beyond what is kept in memory
# What memory may differ by without being a leak: pages that malloc keeps, tables that reach their final size.
GROWTH, SLACK_KB = 1.10, 2048
SCRIPTS = {
    "hello": "function main() Send('hello') end",
    "error": "function main() error({ code = 'provoked' }) end",
    "upload": "function main() Send(#Receive()) end",
    "slow": "function main() local t = os.clock() while os.clock() - t < 0.03 do end Send('slow') end",
    "large": "function main() Send(string.rep('0123456789', 40000)) end",
    "session": "function main() Session.Start() local n = (Session.GetVar('soak', 'n') or 0) + 1 "
               "Session.SetVar('soak', 'n', n) Send(n) end",
    "shared": "function main() Send(Shared.Incr('n', 1, 0, 3600)) end",
    "popen": "function main() local pipe = io.popen('echo popped') Send(pipe:read('l')) pipe:close() end",
    "log": "function main() Log('a line of a script') Send('logged') end",
}
HEADINGS = ("", "RSS KB", "descriptors", "threads")


class Size(NamedTuple):
    """Of one process: resident memory in KB, open descriptors, threads."""

    rss: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Size:
        return cls(procfs.rss_kb(pid), len(os.listdir("/proc/%d/fd" % pid)), len(os.listdir("/proc/%d/task" % pid)))


class Server:
    """The master with a configuration of its own in `folder`."""

    def __init__(self, folder: str) -> None:
        self.folder, self.address = folder, os.path.join(folder, "soak.sock")
        self.log = os.path.join(folder, "soak.log")
        self.www = os.path.join(folder, "www")

    def __enter__(self) -> Server:
        os.mkdir(self.www)
        for name, source in SCRIPTS.items():
            with open(os.path.join(self.www, name + ".lua"), "w") as file:
                file.write(source + "\n")
        config = os.path.join(self.folder, "soak.lua")
        with open(config, "w") as file:
            file.write('Workers = %d\nWorkerThreads = %d\nListen = "%s"\nPidFile = "%s.pid"\nLogFilePath = "%s"\n'
                       'SessionStore = "sqlite://%s/state.db"\nSessionCookieSecure = false\nTempDir = "%s"\n'
                       'RestartLimit = 100000\n' % (
                           WORKERS, THREADS, self.address, self.log, self.log, self.folder, self.folder))
        self.process = subprocess.Popen([sys.executable, "-m", "luafcgid2", config], cwd=ROOT,
                                        stdin=subprocess.DEVNULL)
        wait(lambda: self.process.poll() is not None or len(self.serving()) == WORKERS, "all workers")
        if self.process.poll() is not None:
            raise SystemExit("soak: the server does not start")
        return self

    def __exit__(self, *failure: object) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)

    def slots(self) -> List:
        with contextlib.suppress(Exception):
            return [slot for _, slot in Scoreboard.of(self.process.pid).workers() if slot.state == READY]
        return []

    def serving(self) -> List[int]:
        return [slot.pid for slot in self.slots()]

    def rest(self) -> None:
        """Wait until all workers sleep."""
        wait(lambda: len(self.slots()) == WORKERS and not any(slot.awake for slot in self.slots()), "the workers rest")

    def sizes(self) -> Dict[str, Size]:
        """Of the master and each worker, the oldest first."""
        workers = zip(("never", "often"), self.serving_by_age())
        return {"master": Size.of(self.process.pid),
                **{"worker, %s killed" % how: Size.of(pid) for how, pid in workers}}

    def serving_by_age(self) -> List[int]:
        return sorted(self.serving(), key=lambda pid: os.stat("/proc/%d" % pid).st_mtime_ns)


class Visitor(threading.Thread):
    """Sends one request after the other on kept connections until told to stop, and looks at each answer."""

    def __init__(self, server: Server, seed: int, pause: float) -> None:
        super().__init__(daemon=True)
        self._server, self._random, self._pause = server, random.Random(seed), pause
        self._connection: Optional[client.Client] = None
        self._cookie, self._hits, self._count = "", 0, 0
        self.stopping = False
        self.done: Dict[str, int] = dict.fromkeys([*SCRIPTS, "leave"], 0)
        self.cut, self.wrong = 0, []

    def run(self) -> None:
        names = list(self.done)
        while not self.stopping:
            name = self._random.choice(names)
            try:
                (self._leave if name == "leave" else self._visit)(name)
                self.done[name] += 1
            except (OSError, ProtocolError):
                self.cut += 1
                self._close()
            time.sleep(self._pause)
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _visit(self, name: str) -> None:
        if self._connection is None or self._connection.closed:
            self._connection = client.Client(self._server.address, timeout=PATIENCE)
        body = UPLOAD if name == "upload" else b""
        answer = self._connection.request(self._params(name, len(body)), body, self._random.random() < 0.95)
        self._judge(name, answer)

    def _params(self, name: str, length: int) -> Dict[str, str]:
        www = self._server.www
        return {"REQUEST_METHOD": "POST" if length else "GET", "SCRIPT_FILENAME": "%s/%s.lua" % (www, name),
                "SCRIPT_NAME": "/%s.lua" % name, "DOCUMENT_ROOT": www, "CONTENT_LENGTH": str(length),
                "REMOTE_ADDR": "192.0.2.1", "HTTP_COOKIE": self._cookie, "REQUEST_URI": "/%s.lua" % name}

    def _judge(self, name: str, answer: client.Response) -> None:
        body = answer.body
        expected = {"hello": b"hello", "slow": b"slow", "popen": b"popped", "log": b"logged",
                    "upload": b"%d" % len(UPLOAD), "large": b"0123456789" * 40000}.get(name, body)
        good = answer.status == (500 if name == "error" else 200) and body == expected
        if good and name == "session":
            found = re.search("[^;]+", answer.header("Set-Cookie") or self._cookie)
            self._cookie, before, self._hits = found[0], self._hits, int(body)
            # A kill may cut the answer to a request that was carried out.
            good = before < self._hits <= before + 1 + self.cut
        if good and name == "shared":
            good, self._count = int(body) > self._count, int(body)
        if not good:
            self.wrong.append("%s: %d %r" % (name, answer.status, body[:80]))

    def _leave(self, name: str) -> None:
        """Leave in the middle of a request, or before its answer."""
        with contextlib.closing(client.connect(self._server.address, PATIENCE)) as sock:
            sock.sendall(b"\1\1\0\1\0\x08\0\0\0\1\0\0\0\0\0\0" + b"\1\4\0\1\xff\xff\0\0"[:self._random.randrange(9)])


def wait(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("soak: waited %g s in vain: %s" % (PATIENCE, what))
        time.sleep(0.05)


def load(server: Server, visitors: List[Visitor], seconds: float, every: float, spared: int) -> int:
    """Let the visitors visit, and kill a worker now and then; how many were killed."""
    for visitor in visitors:
        visitor.start()
    end, kills, noted = time.monotonic() + seconds, 0, time.monotonic()
    while time.monotonic() < end and all(visitor.is_alive() for visitor in visitors):
        time.sleep(min(every or seconds, max(0.0, end - time.monotonic())))
        victims = [pid for pid in server.serving() if pid != spared]
        if every and victims and end - time.monotonic() > 1:
            os.kill(victims[0], signal.SIGKILL)
            kills += 1
        if time.monotonic() - noted > 30:
            noted = time.monotonic()
            say("%d s to go, %d requests, master %s" % (end - noted, sum(sum(one.done.values()) for one in visitors),
                                                        Size.of(server.process.pid)))
    for visitor in visitors:
        visitor.stopping = True
    for visitor in visitors:
        visitor.join(PATIENCE)
    server.rest()
    return kills


def grown(before: Dict[str, Size], after: Dict[str, Size]) -> Iterator[str]:
    """What is more than it was, in words."""
    # Which worker serves whom is chance: one that had little to do so far is measured by the other.
    warm = max((size for name, size in before.items() if name != "master"), key=lambda size: size.rss)
    for name, old in before.items():
        old = old if name == "master" else warm
        new = after[name]
        if new.rss > old.rss * GROWTH + SLACK_KB:
            yield "%s: %d KB of memory, and %d at the beginning" % (name, new.rss, old.rss)
        # A thread that had not led before has a connection to the store of its own since: three files.
        if new.descriptors > old.descriptors + 3 * (THREADS - 1) * (name != "master"):
            yield "%s: %d descriptors, and %d at the beginning" % (name, new.descriptors, old.descriptors)
        if new.threads != old.threads:
            yield "%s: %d threads, and %d at the beginning" % (name, new.threads, old.threads)


def report(before: Dict[str, Size], after: Dict[str, Size]) -> None:
    rows = [HEADINGS] + [(name, *("%d -> %d" % pair for pair in zip(before[name], after[name]))) for name in before]
    widths = [max(map(len, column)) for column in zip(*rows)]
    rule = "  ".join("=" * width for width in widths)
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    # reStructuredText wants something in the first column.
    lines[0] = "\\" + lines[0][1:]
    print("\n".join([rule, lines[0], rule, *lines[1:], rule, ""]), flush=True)


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="A long mixed load, with kills.")
    parser.add_argument("--seconds", type=float, default=600, help="how long")
    parser.add_argument("--connections", type=int, default=2, help="visitors at a time")
    parser.add_argument("--pause", type=float, default=0.01, help="seconds between two requests of a visitor")
    parser.add_argument("--kill-every", type=float, default=5.0, help="seconds between two kills, 0 = none")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    def visitors(seed: int) -> List[Visitor]:
        return [Visitor(server, seed + number, options.pause) for number in range(options.connections)]

    with tempfile.TemporaryDirectory(prefix="soak-") as folder, Server(folder) as server:
        spared, warm, crowd = server.serving()[0], visitors(options.seed), visitors(options.seed + 100)
        kills = load(server, warm, max(3.0, options.seconds / 10), options.kill_every, spared)
        before = server.sizes()
        kills += load(server, crowd, options.seconds, options.kill_every, spared)
        after = server.sizes()
        everybody = warm + crowd
    cut, wrong = sum(one.cut for one in everybody), [text for one in everybody for text in one.wrong]
    problems = [*wrong[:20], *grown(before, after)]
    if cut > kills * options.connections:
        problems.append("%d requests were cut off by %d kills" % (cut, kills))
    report(before, after)
    print("%d requests, %d wrong answers, %d workers killed, %d requests cut off by that; %s" % (
        sum(sum(one.done.values()) for one in everybody), len(wrong), kills, cut,
        ", ".join("%s %d" % (name, sum(one.done[name] for one in everybody)) for name in crowd[0].done)))
    for problem in problems:
        print("PROBLEM: " + problem)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
