"""A web site without a web server: scripts as text, requests as bytes, answers parsed.

Test modules give functions that take a `Site` and hold in every Lua version.  `check` runs all of a module's
promises for one version in a process of its own (two Lua versions in one process crash it) and keeps the
results.  As a program (`python lua_site.py FILE VERSION`) it runs them and prints JSON: name -> what failed.
"""
import faulthandler
import functools
import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [ROOT, HERE]

from luafcgid2 import answer, config, params, wiring  # noqa: E402
from luafcgid2.replies import Reply  # noqa: E402
from luafcgid2.runtime import Engine  # noqa: E402
from luafcgid2.scoreboard import Scoreboard  # noqa: E402
from luafcgid2.seat import Seat  # noqa: E402

VERSIONS = Engine.versions()
# Seconds until a process that hangs says where, and ends: before pytest's time is over, which shows nothing of it.
PATIENCE = 200


def promises(namespace):
    """The promises of a module, given its globals: the functions whose first parameter is `site`."""
    return {name: value for name, value in namespace.items()
            if callable(value) and getattr(value, "__code__", None) is not None
            and value.__code__.co_varnames[:1] == ("site",)}


def check(path, version, name):
    """Fail if promise `name` of the file does not hold in this Lua version."""
    problem = _results(path, version)[name]
    assert not problem, problem


@functools.lru_cache(maxsize=None)
def _results(path, version):
    done = subprocess.run([sys.executable, os.path.abspath(__file__), path, version], cwd=ROOT, timeout=PATIENCE + 50,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, "Lua %s: exit %d\n%s" % (version, done.returncode, done.stderr.decode())
    return json.loads(done.stdout.decode())


def equal(actual, expected):
    """An assertion that shows both sides, without pytest's rewriting."""
    assert actual == expected, "expected %r, got %r" % (expected, actual)


class Lines(logging.Handler):
    """Collects what is logged, and the name of the script that each line carries."""

    def __init__(self):
        super().__init__()
        self.lines, self.scripts = [], []

    def emit(self, record):
        self.lines.append(record.getMessage())
        self.scripts.append(getattr(record, "script", ""))

    def text(self):
        return "\n".join(self.lines)


class Answer:
    """A parsed CGI response: status, reason, headers (list of pairs), body, raw, stderr."""

    def __init__(self, reply):
        if isinstance(reply, bytes):
            reply = Reply(reply, b"")
        self.raw = b"".join(reply.parts)
        head = answer.parse_head(self.raw)
        assert head is not None, "no header block in %r" % self.raw
        self.status, self.reason, self.headers, size = head
        self.body, self.stderr = self.raw[size:], reply.stderr

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name):
        values = self.all(name)
        assert len(values) == 1, "%s is there %d times in %r" % (name, len(values), self.raw)
        return values[0]


class Site:
    """One document root with the responder of a worker in front of it.  Options are config fields."""

    def __init__(self, engine, folder, **options):
        self.engine, self.folder = engine, folder
        self.log = Lines()
        self._logger = logging.Logger("site")
        self._logger.addHandler(self.log)
        self._count = 0
        self.configure(**options)

    def configure(self, globals_chunk=b"return {}", **options):
        """Start anew with other options; `globals_chunk` makes the user's Config table."""
        values = dict(min_file_info_time=0, lua_states=1, session_store="sqlite://%s/state.db" % self.folder)
        values.update(options)
        settings = config.defaults(**values)
        object.__setattr__(settings, "globals_chunk", globals_chunk)
        board = self.board = Scoreboard(1, 1)
        self.pool = wiring.make_pool(settings, self.engine, board,
                                     wiring.make_sessions(settings, self._logger), self._logger)
        self.responder = wiring.make_responder(settings, self.pool, board, self._logger)
        self.authorizer = wiring.make_authorizer(settings, self.responder)

    def write(self, name, source):
        """A file of the site; its path."""
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(source.encode() if isinstance(source, str) else source)
        return path

    def request(self, name="index.lua", body=b"", thread=0, **environment):
        """Ask for a script.  `body` is bytes or a file; `environment` further params (None: leave out)."""
        return Answer(self.responder.respond(self._params(name, environment), body, 0, Seat(thread)))

    def authorize(self, name="index.lua", problem=0, first=(), **environment):
        """The same in the Authorizer role; `first`: pairs in front of all others."""
        data = params.encode(first) + self._params(name, environment)
        return Answer(self.authorizer(data, b"", problem, Seat(0)))

    def _params(self, name, environment):
        found = {"SCRIPT_FILENAME": os.path.join(self.folder, name), "DOCUMENT_ROOT": self.folder,
                 "SCRIPT_NAME": "/" + name, "REQUEST_METHOD": "GET", "QUERY_STRING": "",
                 "SERVER_NAME": "site", "REMOTE_ADDR": "192.0.2.1"}
        found.update(environment)
        return params.encode({key: value for key, value in found.items() if value is not None})

    def run(self, main, **request):
        """The answer of a new script whose entry point has the body `main`."""
        self._count += 1
        name = "run%d.lua" % self._count
        self.write(name, "function main(env, con)\n%s\nend" % main)
        return self.request(name, **request)

    def value(self, expression, **request):
        """What `tostring(expression)` gives inside a request, as text."""
        found = self.run("Send(tostring((%s)))" % expression, **request)
        equal(found.status, 200)
        return found.body.decode("utf-8", "backslashreplace")


def main(path, version):
    spec = importlib.util.spec_from_file_location("promises", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    engine = Engine(version)
    results = {}
    # Commands of scripts must not write into the results.
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name, promise in promises(vars(module)).items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                promise(Site(engine, os.path.realpath(folder)))
                results[name] = ""
            except Exception:
                results[name] = traceback.format_exc()
    with output:
        json.dump(results, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
