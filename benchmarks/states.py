"""What a Lua state costs: memory of an idle clone, time to make and to close one, and of a request that finds none.

`make bench-states` calls it.  In: options, see --help.  Out: a table on standard output, medians of rounds that take
turns.  Nothing is served: the state pool is asked in a process of its own for each Lua version, as a worker asks it, so
no web server is in the figures.  Exit code 0.

The script of the clones is hello; `served` are clones that have answered 32 requests and were collected, as a worker
does when it is idle.  A miss is a request for a script of 100 lines whose state was closed for another's, a hit one
for a script that has its state; half as many scripts as states in the one case, twice as many in the other.  `in all`
counts what the worker does after the response is out, too.
"""
from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List, Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
HELLO = "function main(env, con)\n  Send('Hello, world!')\nend\n"
CLONES, STATES, REQUESTS = 200, 64, 32
VARIABLES = {
    "QUERY_STRING": "", "REQUEST_METHOD": "GET", "CONTENT_TYPE": "", "CONTENT_LENGTH": "", "SCRIPT_NAME": "/x.lua",
    "REQUEST_URI": "/x.lua", "DOCUMENT_URI": "/x.lua", "SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_SCHEME": "http",
    "GATEWAY_INTERFACE": "CGI/1.1", "SERVER_SOFTWARE": "nginx/1.22.1", "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "51234", "SERVER_ADDR": "127.0.0.1", "SERVER_PORT": "8080", "SERVER_NAME": "localhost",
    "REDIRECT_STATUS": "200", "HTTP_HOST": "127.0.0.1:8080", "HTTP_USER_AGENT": "curl/7.88.1", "HTTP_ACCEPT": "*/*"}
COLUMNS = (("bare_kb", "bare KB"), ("clone_kb", "clone KB"), ("served_kb", "served KB"), ("heap_kb", "Lua heap"),
           ("make_us", "make us"), ("close_us", "close us"), ("hit_us", "hit us"), ("miss_us", "miss - hit"),
           ("miss_all_us", "in all"))


def hundred_lines(number: int) -> str:
    """A page of 100 lines with a form, a table and some functions, as pages are; `number` makes it one of its own."""
    block = ("local function row%d(name, value)\n  if value == nil then return '' end\n"
             "  return '<tr><td>' .. name .. '</td><td>' .. tostring(value) .. '</td></tr>'\nend\n")
    lines = ["local page = %d" % number, "local title = 'Page number ' .. page"]
    for part in range(19):
        lines += (block % part + "local limit%d = { from = %d, to = page + %d }" % (part, part, part)).split("\n")
    lines += ["function main(env, con)", "  Send(title, '\\n') Send(row1(limit1.from, limit2.to))", "end"]
    assert len(lines) == 100, len(lines)
    return "\n".join(lines) + "\n"


class Cells:
    """A scoreboard that nobody watches."""

    cells = [0] * 64


class House:
    """The state pool of a worker, over scripts in `folder`."""

    def __init__(self, version: str, folder: str) -> None:
        from luafcgid2 import config, heap, params, runtime, script, state, wiring
        self._encode, self._script, self._wanted, self._make = params.encode, script, params.Wanted, state.make
        heap.Heap().configure()
        self.folder, self.engine = folder, runtime.Engine(version, c_modules=False)
        settings = config.defaults(session_store="sqlite://%s/sessions.db" % folder, lua_total_states=STATES,
                                   min_file_info_time=60000)
        logger = logging.getLogger("states")
        self.pool = wiring.make_pool(settings, self.engine, Cells, wiring.make_sessions(settings, logger), logger)

    def script(self, name: str, source: str) -> Tuple[Any, bytes, Any]:
        """(script, params, wanted) of a file that is written."""
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(source)
        script = self._script.Script(path.encode(), path.encode(), self.folder.encode())
        pairs = {"SCRIPT_FILENAME": path, "DOCUMENT_ROOT": self.folder, **VARIABLES}
        return (script, self._encode({key: value.encode() for key, value in pairs.items()}),
                self._wanted(script.path, script.root))

    def clones(self) -> Tuple[Callable[[], Any], Callable[[Any], Any]]:
        """What makes a state of hello, and what lets it answer a request."""
        script, params, wanted = self.script("hello.lua", HELLO)
        services, version = self.pool._services, self._script.Version(self.engine, script)
        version.code()
        return lambda: self._make(services, version, 1), lambda state: state.handle(params, b"", 0, wanted)


def resident_kb() -> int:
    """Of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def many(make: Callable[[], Any]) -> Tuple[List[Any], float, float]:
    """(what was made, KB each, microseconds each)."""
    kept = [make() for _ in range(20)]
    gc.collect()
    before, times = resident_kb(), []
    for _ in range(CLONES):
        start = time.perf_counter()
        kept.append(make())
        times.append(time.perf_counter() - start)
    return kept, (resident_kb() - before) / CLONES, statistics.median(times) * 1e6


def cycle(house: House, scripts: List[Tuple[Any, bytes, Any]]) -> Tuple[float, float]:
    """Microseconds of a request, until its response is there, and with what is put off until then."""
    pool, answered, whole = house.pool, [], []
    for turn in range(REQUESTS):
        for script, params, wanted in scripts:
            start = time.perf_counter()
            with pool.checkout(script) as state:
                state.handle(params, b"", 0, wanted)
            after = time.perf_counter()
            if pool.pending:
                pool.spare_time()
            if turn > 1:
                answered.append(after - start)
                whole.append(time.perf_counter() - start)
    return statistics.median(answered) * 1e6, statistics.median(whole) * 1e6


def measure(version: str) -> Dict[str, float]:
    """All figures of one Lua version, in this process."""
    found: Dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        house = House(version, folder)
        make, answer = house.clones()
        # All stays until it has been measured: what was freed would hide what is taken next.
        bare, found["bare_kb"], _ = many(house.engine.new_runtime)
        states, found["clone_kb"], found["make_us"] = many(make)
        found["heap_kb"] = states[-1].heap

        def served() -> Any:
            state = make()
            for _ in range(REQUESTS):
                answer(state)
            state.collect()
            return state
        others, found["served_kb"], _ = many(served)
        start = time.perf_counter()
        for state in states:
            state.close()
        found["close_us"] = (time.perf_counter() - start) / len(states) * 1e6
        for state in others:
            state.close()
        del bare, states, others
        pages = [house.script("page%d.lua" % number, hundred_lines(number)) for number in range(2 * STATES)]
        found["hit_us"], hit = cycle(house, pages[:STATES // 2])
        miss, whole = cycle(house, pages)
        found["miss_us"], found["miss_all_us"] = miss - found["hit_us"], whole - hit
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", default="5.1,5.3,5.4,5.5,jit", help="Lua versions (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default %(default)s)")
    parser.add_argument("--against", metavar="FOLDER", help="another checkout, whose figures stand beside these")
    parser.add_argument("--measure", metavar="VERSION", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    trees = [ROOT] + ([os.path.abspath(options.against)] if options.against else [])
    print("%-22s" % "Lua" + "".join("%11s" % title for _, title in COLUMNS))
    for version in options.versions.split(","):
        rounds: Dict[str, List[Dict[str, float]]] = {tree: [] for tree in trees}
        for _ in range(options.rounds):
            for tree in trees:
                done = subprocess.run([sys.executable, os.path.abspath(__file__), "--measure", version], check=True,
                                      stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": tree})
                rounds[tree].append(json.loads(done.stdout))
        for tree in trees:
            name = version if tree == ROOT else "%s in %s" % (version, os.path.basename(tree))
            print("%-22s" % name + "".join(
                "%11.1f" % statistics.median(found[key] for found in rounds[tree]) for key, _ in COLUMNS), flush=True)


if __name__ == "__main__":
    main()
