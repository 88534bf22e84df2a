"""`luafcgid2 serve`: a directory of scripts on http://, for development, with one command.

In:  a directory, where to listen for HTTP, the number of workers.  Out: an exit code, after Ctrl-C, SIGTERM
or SIGHUP; meanwhile the URL and one line for each request on standard output, the server's log on standard
error.  Called by cli.py.  It runs the real master and workers on a private unix socket, and waitress with
front.Front before them; when it ends, no process, socket or directory of it is left (on Linux not even after
SIGKILL).  It is not meant for the public: there is no TLS, and clients see the errors of scripts.
"""
from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from typing import Iterator, Tuple

from . import config, devlog, log, ready
from .errors import BootError, Error, ListenError
from .front import Front
from .livereload import LiveReload
from .master import Master

START_SECONDS = 30.0
STOP_SECONDS = 5.0
HTTP_THREADS = 8
ROUND_SECONDS = 1.0
PR_SET_PDEATHSIG = 1
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NO_WAITRESS = "luafcgid2 serve needs the Python package waitress: pip install 'luafcgid2[serve]'"


class Stop(SystemExit):
    """Raised in the main thread by the first signal; waitress ends its loop on any SystemExit."""


def main(directory: str, http: str = "127.0.0.1:8080", workers: int = 2, live: bool = True) -> int:
    """Serve `directory` until a signal comes; 0, or 1 with the reason on standard error.

    `http` is HOST:PORT, :PORT, PORT or [v6]:PORT; port 0 lets the kernel choose.  `workers` is the number of
    worker processes.  `live`: pages in a browser renew themselves when a file is saved.
    """
    try:
        import waitress
        from waitress import wasyncore
    except ImportError:
        return _fail(NO_WAITRESS)
    if not os.path.isdir(directory):
        return _fail("%s is not a directory" % directory)
    signals = _Signals()
    try:
        with signals, _door(http) as door, _private_place() as place:
            address = os.path.join(place, "luafcgid2.sock")
            with _master(_settings(place, address, workers), door) as pid:
                changes = LiveReload(directory) if live else None
                coloured = devlog.colours(sys.stdout.isatty(), os.environ)
                front, sockets = Front(directory, address, _say, coloured=coloured, live=changes), {}
                server = waitress.create_server(front, sockets=[door], threads=HTTP_THREADS, map=sockets,
                                                ident="luafcgid2", asyncore_use_poll=True)
                if changes:
                    server.task_dispatcher.add_task = changes.gate(server.task_dispatcher.add_task)
                signals.watch(pid)
                _say("%s is on %s (Ctrl-C stops)" % (os.path.realpath(directory), _url(door)))
                try:
                    # One round at a time instead of server.run(): Python drops an exception that a signal handler
                    # raises inside a finalizer, and then the mark that it set must end the loop.
                    while not signals.number:
                        wasyncore.loop(timeout=ROUND_SECONDS, use_poll=True, map=sockets, count=1)
                finally:
                    if changes:
                        changes.close()
                    server.task_dispatcher.shutdown()
                    server.close()
    except Stop:
        pass
    except Error as error:
        return _fail(str(error))
    return _fail("the master has gone; see the log above") if signals.number == signal.SIGCHLD else 0


def _settings(place: str, address: str, workers: int) -> config.Config:
    """What a developer wants: each edit seen at once, errors on the page, nothing outside `place`."""
    return config.defaults(
        listen=address, workers=workers, pid_file=os.path.join(place, "master.pid"), temp_dir=place,
        session_store="sqlite:///" + os.path.join(place, "state.db"), session_cookie_secure=False,
        min_file_info_time=0, show_errors=True, on_reload_error="error", log_file_path="")


class _Signals:
    """The first signal raises Stop in the main thread; later ones do not interrupt the clearing up.

    `number` is the signal that came, 0 before.  A signal that our parent had us ignore (nohup) stays ignored.
    """

    def __init__(self) -> None:
        self.number = 0
        self._watched = 0
        self._before: dict = {}

    def __enter__(self) -> None:
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._stop)

    def __exit__(self, *failure: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def watch(self, pid: int) -> None:
        """Stop, too, when the child `pid` ends by itself; and have it stop at once when we do."""
        def on_child(number: int, frame: object) -> None:
            if _is_gone(pid):
                self._stop(number, frame)

        self._watched = pid
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, on_child)
        on_child(signal.SIGCHLD, None)

    def _stop(self, number: int, frame: object) -> None:
        if self.number:
            return
        self.number = number
        if self._watched and number != signal.SIGCHLD:
            # Now, not when waitress has waited for its threads: they wait for answers of scripts.
            os.kill(self._watched, signal.SIGINT)
        raise Stop


@contextlib.contextmanager
def _door(http: str) -> Iterator[socket.socket]:
    """The listening HTTP socket; ListenError where it cannot be had."""
    host, port = _host_and_port(http)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        door = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as failure:
        raise ListenError("cannot listen on http://%s: %s" % (http, failure)) from failure
    with door:
        yield door


def _host_and_port(http: str) -> Tuple[str, int]:
    host, _, port = http.rpartition(":")
    if not port.isdigit():
        raise ListenError("%r is not HOST:PORT, such as 127.0.0.1:8080" % http)
    return host.strip("[]") or "127.0.0.1", int(port)


def _url(door: socket.socket) -> str:
    host, port = door.getsockname()[:2]
    # B104: it is the other way round.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # nosec B104
    return "http://%s:%d/" % ("[%s]" % host if ":" in host else host, port)


@contextlib.contextmanager
def _private_place() -> Iterator[str]:
    place = tempfile.mkdtemp(prefix="luafcgid2-")
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _master(settings: config.Config, door: socket.socket) -> Iterator[int]:
    """A master in a child process, ready to serve; its pid.  Must be entered before there are threads.

    When it is left, workers that outlived their master have ended, too, or had STOP_SECONDS for it.
    """
    heard, told = os.pipe()
    # Master and workers hold the other end, and programs that scripts start do not.
    last, held = os.pipe()
    # A signal between fork and the child's own handlers would unwind the parent's `with` blocks in the child.
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        os.close(heard)
        os.close(last)
        door.close()
        _be_master(settings, told, parent, masked)
    try:
        os.close(told)
        os.close(held)
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        is_ready, reason, _ = ready.wait_for(heard, START_SECONDS)
        if not is_ready:
            raise BootError(reason or "the master does not start; see the log above")
        yield pid
    finally:
        os.close(heard)
        _end(pid)
        _wait_for_end(last)
        os.close(last)


def _be_master(settings: config.Config, told: int, parent: int, masked: set) -> None:
    """The child: it leaves by os._exit, because the parent's `with` blocks are on this stack too."""
    code = 1
    announcer = ready.Announcer(told)
    # Its standard error is the terminal, and stays: that is where the log goes.
    announcer.detached = False
    try:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        _die_with(parent)
        code = Master(settings, log.setup(settings, stderr=True), announcer).run()
    except Error as error:
        announcer.failed(str(error))
        code = error.exit_code
    except BaseException as error:
        announcer.failed("the master failed: %r" % error)
    finally:
        if os.getppid() != parent:
            shutil.rmtree(os.path.dirname(settings.listen), ignore_errors=True)
        os._exit(code)


def _die_with(parent: int) -> None:
    """Have the kernel send SIGTERM when the parent is gone however it went (Linux, prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _is_gone(pid: int) -> bool:
    """Whether the child has ended; reaps it if so, and may be asked again."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _end(pid: int) -> None:
    """Stop the master at once; kill it when it does not go."""
    for number in (signal.SIGINT, signal.SIGKILL):
        deadline = time.monotonic() + STOP_SECONDS
        if _is_gone(pid):
            return
        os.kill(pid, number)
        while not _is_gone(pid) and time.monotonic() < deadline:
            time.sleep(0.01)


def _wait_for_end(fd: int) -> None:
    """Wait until nobody holds the other end of the pipe any more, STOP_SECONDS at most."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll(STOP_SECONDS * 1000)


def _say(line: str) -> None:
    """One write for each line, so that the lines of several threads do not mix."""
    with contextlib.suppress(OSError):      # nobody reads it: no reason to fail a request
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _fail(reason: str) -> int:
    print("luafcgid2 serve: %s" % reason, file=sys.stderr)
    return 1
