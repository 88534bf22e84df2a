"""`luafcgid2ctl repl`: a prompt inside a Lua state of a script.

In: a Config, a script, params of a request, lines that are typed or piped.  Out: what the lines evaluate to, on
standard output, and whether one of them failed.  Only ctl.py calls it.  Each piece of code runs as one request of
its own (see lua/repl.lua), so locals end with it and globals stay; cookies that it sets come back with the next one.
It runs for real: what it writes to databases, sessions and files stays.
"""
from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .answer import parse_head
from .errors import Error, ProtocolError, ScriptError
from .params import encode, find
from .runtime import Engine, text
from .workshop import Workshop, become_server

HISTORY, HISTORY_LINES = "~/.luafcgid2_history", 1000
PROMPT, MORE = "> ", ">> "
HELP = """\
Lua code runs in the state of the script; an expression prints its value. Commands:
  .env                 show Env              .env NAME=VALUE   set a param; NAME= removes it
  .body TEXT           what Receive() gives  .response         the last response with its header
  .reload              load the script anew  Ctrl-C stops code that runs, Ctrl-D ends"""


class _Engine:
    """An Engine that keeps the runtime which it made last: a state shows it to nobody."""

    def __init__(self, version: str) -> None:
        self._engine, self.runtime = Engine(version), None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def raw_runtime(self, bounded: bool = False) -> Any:
        self.runtime = self._engine.raw_runtime(bounded)
        return self.runtime


def run(config: Any, master: int, script: str, params: Dict[bytes, bytes], body: bytes) -> bool:
    """Read and run until the end of standard input; False when something failed and nobody was there to see it.

    master: pid of the running one, or 0.  Raises Error when the script cannot be loaded.
    """
    logger = logging.Logger("luafcgid2", logging.INFO)
    logger.addHandler(logging.StreamHandler(sys.stdout))
    interactive = sys.stdin.isatty()
    with contextlib.ExitStack() as cleanup:
        options: Dict[str, Any] = {"script_roots": (), "script_max_memory": 0}
        if not config.path:
            place = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="luafcgid2-"))
            options["session_store"] = "sqlite:///" + os.path.join(place, "state.db")
        engine = _Engine(config.lua_version)
        workshop = Workshop(config, logger, engine, **options)
        lines = cleanup.enter_context(_typed()) if interactive else None
        become_server(config, master)
        session = Session(workshop, engine, script, params, body)
        cleanup.callback(session.close)
        if lines is None:
            return _feed(session, map(_without_end, sys.stdin), False)
        lines.complete_with(session.complete)
        print("%s, Lua %s (.help tells more, Ctrl-D ends)" % (script, config.lua_version))
        _feed(session, lines, True)
        return True


class Session:
    """One script's state, and the request that each piece of code sees."""

    def __init__(self, workshop: Workshop, engine: _Engine, script: str, params: Dict[bytes, bytes],
                 body: bytes) -> None:
        self._workshop, self._engine = workshop, engine
        name = os.fsencode(os.path.abspath(script))
        self.params = {b"REQUEST_METHOD": b"POST" if body else b"GET", b"SCRIPT_FILENAME": name,
                       b"DOCUMENT_ROOT": os.path.dirname(name), b"SCRIPT_NAME": b"/" + os.path.basename(name),
                       b"QUERY_STRING": b"", b"REQUEST_URI": b"/" + os.path.basename(name),
                       b"SERVER_NAME": b"localhost", b"SERVER_PROTOCOL": b"HTTP/1.1",
                       b"REMOTE_ADDR": b"127.0.0.1", **params}
        self.body, self.response, self._state = body, b"", None
        self._entrypoint = workshop.config.entrypoint.encode()
        self.reload()

    def reload(self) -> None:
        """A new state: the top level of the script has run in it, and nothing else."""
        self.close()
        self._state = self._workshop.pool.checkout(self._workshop.script(self.params))
        self._lua = self._engine.runtime.execute(dict(self._engine.prelude())[b"repl"])

    def close(self) -> None:
        """End the state."""
        if self._state is not None:
            self._state.broken = True
            self._workshop.pool.checkin(self._state)
            self._state = None

    def complete(self, start: str) -> List[str]:
        """The names of Lua that begin so."""
        return text(self._lua[b"complete"](start.encode())).split("\n")

    def evaluate(self, code: str) -> Optional[Tuple[str, bool]]:
        """(what to print, whether it is an error) of a piece of code; None when more lines are wanted."""
        found = self._lua[b"compile"](code.encode("utf-8", "surrogateescape"))
        complete, message = found if isinstance(found, tuple) else (found, b"")
        if complete is False:
            return None
        if not complete:
            return text(message), True
        if self.params.get(b"CONTENT_LENGTH", b"").isdigit() or self.body:
            self.params[b"CONTENT_LENGTH"] = b"%d" % len(self.body)
        self._lua[b"arm"](self._entrypoint)
        outcome = self._answer(encode(self.params))
        if isinstance(outcome, Error):
            return str(outcome) + getattr(outcome, "traceback", ""), True
        self.response = outcome
        return self._shown(text(self._lua[b"result"]())), False

    def _answer(self, data: bytes) -> Any:
        """The response, or the error; Ctrl-C interrupts.  In a thread, since Python hears no signal while Lua runs."""
        state, outcome, done = self._state, [], threading.Event()

        def work() -> None:
            try:
                answer = state.handle(data, self.body, 0, find(data))
                outcome.append(answer if isinstance(answer, bytes) else answer[0] + answer[1])
            except ScriptError as error:
                outcome.append(state.version.explain(error))
            except Error as error:
                outcome.append(error)
            finally:
                done.set()

        interrupts: List[int] = []
        before = signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number))
        try:
            threading.Thread(target=work, daemon=True).start()
            while not done.wait(0.05):
                if interrupts:
                    state.interrupt("interrupted")
                if len(interrupts) > 2:
                    raise ScriptError("it cannot be interrupted: it is within C, or compiled by LuaJIT")
        finally:
            signal.signal(signal.SIGINT, before)
        return outcome[0]

    def _shown(self, value: str) -> str:
        head = parse_head(self.response)
        if head is None:
            return value
        pairs = filter(None, self.params.get(b"HTTP_COOKIE", b"").split(b";"))
        jar = dict(pair.strip().partition(b"=")[::2] for pair in pairs)
        for name, header in head.headers:
            if name.lower() == "set-cookie":
                key, _, content = header.partition(";")[0].partition("=")
                jar[key.encode("latin-1")] = content.encode("latin-1")
        if jar:
            self.params[b"HTTP_COOKIE"] = b"; ".join(key + b"=" + content for key, content in jar.items())
        return "\n".join(filter(None, (text(self.response[head.size:]), value)))

    def command(self, line: str) -> Tuple[str, bool]:
        """(what to print, whether it is an error) of a line that begins with a dot."""
        word, _, rest = line.strip().partition(" ")
        name, equals, value = os.fsencode(rest.strip()).partition(b"=")
        if word == ".env" and not rest:
            return "\n".join("%s=%s" % (text(key), text(each)) for key, each in sorted(self.params.items())), False
        if word == ".env" and equals and name:
            self.params.update({name: value})
            if not value:
                del self.params[name]
        elif word == ".body":
            self.body = os.fsencode(rest)
        elif word == ".response":
            return text(self.response), False
        elif word == ".reload":
            self.reload()
        else:
            return HELP, word != ".help"
        return "", False


def _feed(session: Session, lines: Any, interactive: bool) -> bool:
    well, code = True, ""
    for line in lines:
        if interactive and lines.dropped:
            code, lines.dropped = "", False
        try:
            if not code and line.startswith("."):
                outcome: Optional[Tuple[str, bool]] = session.command(line)
            else:
                code += line + "\n"
                outcome = session.evaluate(code) if code.strip() else ("", False)
        except (ScriptError, ProtocolError) as error:
            outcome = str(error) + getattr(error, "traceback", ""), True
        if interactive:
            lines.more = outcome is None
        if outcome is None:
            continue
        code = ""
        well = well and not outcome[1]
        if outcome[0]:
            print(outcome[0], flush=True)
    if code:
        print("the last piece of code has no end", flush=True)
    return well and not code


class _Typed:
    """Lines from the terminal, with a prompt; `more` asks for the rest of a piece, which Ctrl-C drops (`dropped`)."""

    def __init__(self, readline: Any) -> None:
        self._readline, self.more, self.dropped = readline, False, False

    def complete_with(self, names: Any) -> None:
        def complete(start: str, number: int) -> Optional[str]:
            return (names(start) + [None])[number]

        if self._readline:
            self._readline.set_completer_delims(" \t\n()[]{}=,;+-*/%#<>~\"'")
            self._readline.set_completer(complete)
            self._readline.parse_and_bind("tab: complete")

    def __iter__(self) -> Iterator[str]:
        while True:
            try:
                yield input(MORE if self.more else PROMPT)
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                self.dropped, self.more = True, False
                print()


@contextlib.contextmanager
def _typed() -> Iterator[_Typed]:
    """With a history over sessions, where Python has readline."""
    try:
        import readline
    except ImportError:
        yield _Typed(None)
        return
    path = os.path.expanduser(HISTORY)
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    try:
        yield _Typed(readline)
    finally:
        readline.set_history_length(HISTORY_LINES)
        # Root has become the server's user: its history stays as it was.
        with contextlib.suppress(OSError):
            readline.write_history_file(path)


def _without_end(line: str) -> str:
    return line.rstrip("\n")
