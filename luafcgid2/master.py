"""The master: binds, forks the workers, supervises them; it never touches a request.

In: a Config, the logger and the Announcer of whoever waits for the start.  Out: `Master.run()` returns when
the last worker is gone, and its own socket file and pid file with it.  Called by the `luafcgid2` command.
Signals only wake the loop, which answers each with one `handle_` method; an idle master sleeps without a
timeout.  Workers are told that the master died by the end of a pipe that nobody else may hold open.  What a
worker does between fork and exit is worker.py's.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import select
import signal
import time
from typing import Callable, Dict, Iterator, NamedTuple, Optional

import setproctitle

from . import __version__, log, privileges
from .errors import BootError
from .listener import Listener, open_listener
from .notify import Notifier
from .pidfile import PidFile
from .ready import Announcer, BootPipe
from .runtime import Engine
from .scoreboard import STARTING, Scoreboard
from .sessions import open_store
from .signals import SignalQueue
from .supervision import FIRST_DELAY, LONG_LIFE, RestartBudget, could_not_boot, describe_death
from .worker import Worker

QUICK_STOP_SECONDS = 1.0        # a worker in a Lua loop does not hear SIGQUIT
GRACE_SECONDS = 1.0             # the workers count StopTimeout themselves; this is the time for their goodbye
SPARE_DESCRIPTORS = 256         # for files, databases and pipes of scripts beside the connections
SPARE_SLOTS = 16                # of the scoreboard: for workers that drain while their successors serve
FORK_PAUSE_SECONDS = 1.0        # until the next try when the system has no process to give


class Child(NamedTuple):
    """A running worker: its number and when it was forked (seconds of the monotonic clock)."""

    index: int
    started: float


class Master:
    """One server.

    config: a Config; logger: from log.setup; announcer: whom to tell that the server is ready.  `run` may be
    called once, in the main thread, and raises ControlError (pid file), ListenError, ConfigError (unknown
    user) or BootError (no worker can boot).
    """

    def __init__(self, config: object, logger: logging.Logger, announcer: Optional[Announcer] = None) -> None:
        self.config = config
        self.logger = logger
        self.announcer = announcer or Announcer()
        self.notifier = Notifier.from_environment()
        self.workers = config.worker_count
        self.scoreboard = Scoreboard(2 * self.workers + SPARE_SLOTS, config.worker_threads)
        self.scoreboard.header.used = self.workers
        self.budget = RestartBudget(config.restart_limit, config.restart_interval)
        self.children: Dict[int, Child] = {}
        self.due: Dict[int, float] = {}             # worker number -> when to fork it
        self.kill_at: Optional[float] = None        # when the workers that still run get SIGKILL
        self.stopping = False
        self.served = False                         # whether a worker was ever ready
        self.boot_error = ""                        # what the last worker that could not boot said
        self.failure = ""                           # why the server gives up
        self.poll = select.poll()

    def run(self) -> int:
        """Serve until told to stop; the exit code, 0."""
        setproctitle.setproctitle(f"luafcgid2: master ({os.path.basename(self.config.path) or 'defaults'})")
        identity = privileges.resolve(self.config.user, self.config.group)
        with SignalQueue(HANDLERS) as self.signals, PidFile(self.config.pid_file, identity) as self.pid_file, \
                self._listening() as self.listener, BootPipe() as self.boot_pipe, \
                self._alive_pipe() as self.alive_fd:
            self.poll.register(self.signals.fd, select.POLLIN)
            self.poll.register(self.boot_pipe.fd, select.POLLIN)
            self._settle(identity)
            self.due = dict.fromkeys(range(self.workers), 0.0)
            while self.children or not self.stopping:
                self._act_on_time()
                self._wait()
        if self.failure:
            raise BootError(self.failure)
        self.logger.info("stopped")
        return 0

    # --- what there is to hold while serving

    @contextlib.contextmanager
    def _listening(self) -> Iterator[Listener]:
        listener = open_listener(self.config, self.logger)
        try:
            yield listener
        finally:
            listener.close(unlink=True)

    @contextlib.contextmanager
    def _alive_pipe(self) -> Iterator[int]:
        """The read end for the workers: it ends when the master, the only writer, is gone."""
        alive_fd, self.alive_write_fd = os.pipe()
        try:
            yield alive_fd
        finally:
            os.close(alive_fd)
            os.close(self.alive_write_fd)

    def _settle(self, identity: Optional[privileges.Identity]) -> None:
        """Everything that the workers shall inherit is there; become the user and prepare the memory."""
        # These load Python modules: while they surely can be read, and into pages that all workers share.
        open_store(self.config.session_store, self.logger)
        self.engine = Engine(self.config.lua_version)
        self.engine.prelude()
        self.engine.default_cpath()
        _allow_descriptors(self.config.max_connections + SPARE_DESCRIPTORS)
        privileges.become(identity)
        if identity is None and os.geteuid() == 0:
            self.logger.warning("scripts run as root: set User")
        elif identity is None and self.config.user:
            self.logger.warning("User = %r has no effect: only root can change the user", self.config.user)
        if self.announcer.detached:
            # From here on nobody reads it; a program that a script starts must not block or die on it.
            with open(os.devnull, "wb", buffering=0) as null:
                os.dup2(null.fileno(), 2)
        self.logger.info("luafcgid2 %s: %d workers of %d threads, Lua %s, listening on %s", __version__,
                         self.workers, self.config.worker_threads, self.config.lua_version,
                         self.listener.describe())
        # Objects that the collector never visits again stay in pages that all workers share.
        gc.collect()
        gc.freeze()

    def announce(self, state: str) -> None:
        """Tell the service manager; state: "ready", "reloading" or "stopping"."""
        if state == "ready":
            self.notifier.ready(f"Serving with {self.workers} workers on the {self.listener.describe()}")
        elif state == "reloading":
            self.notifier.reloading()
        else:
            self.notifier.stopping(self.config.stop_timeout + GRACE_SECONDS)

    # --- the loop

    def _wait(self) -> None:
        for fd, _ in self.poll.poll(self._timeout()):
            if fd == self.boot_pipe.fd:
                self._hear_workers()
                continue
            for number in self.signals.read():
                HANDLERS[number](self)

    def _timeout(self) -> Optional[float]:
        times = list(self.due.values())
        if self.kill_at is not None:
            times.append(self.kill_at)
        if self.notifier.watchdog:
            times.append(self.notifier.next_tick())
        return max(0.0, (min(times) - time.monotonic()) * 1000 + 1) if times else None

    def _act_on_time(self) -> None:
        now = time.monotonic()
        self.notifier.tick(now)
        for index in [index for index, moment in self.due.items() if moment <= now]:
            del self.due[index]
            self._fork(index)
        if self.kill_at is not None and self.kill_at <= now:
            self.kill_at = None
            for pid, child in self.children.items():
                self.logger.warning("worker %d (pid %d) did not stop in time: killed", child.index + 1, pid)
            self._tell_workers(signal.SIGKILL)

    def _hear_workers(self) -> None:
        serving, error = self.boot_pipe.hear()
        self.boot_error = error or self.boot_error
        if serving and not self.served:
            self.served = True
            self.logger.info("ready")
            self.announcer.ready()
            self.announce("ready")

    def _tell_workers(self, number: int) -> None:
        for pid in self.children:
            os.kill(pid, number)        # not reaped yet, so the pid is still theirs

    # --- one method a signal

    def handle_chld(self) -> None:
        """Reap the dead."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            child = self.children.pop(pid, None)
            if child is not None:
                self._bury(pid, child, status)

    def handle_hup(self) -> None:
        """Flush: Lua states and scripts of earlier generations are replaced at their next use."""
        self.announce("reloading")
        self.logger.info("SIGHUP: generation %d", self.scoreboard.flush())
        self.announce("ready")

    def handle_usr1(self) -> None:
        """Open the log anew, here and in the workers."""
        log.reopen(self.logger)
        self._tell_workers(signal.SIGUSR1)
        self.logger.info("SIGUSR1: log reopened")

    def handle_term(self) -> None:
        """Stop when the requests under way are answered, or StopTimeout is over."""
        self._stop(signal.SIGTERM, self.config.stop_timeout + GRACE_SECONDS)

    def handle_int(self) -> None:
        """Stop at once."""
        self._stop(signal.SIGQUIT, QUICK_STOP_SECONDS)

    def _stop(self, number: int, seconds: float) -> None:
        if not self.stopping:
            self.logger.info("stopping %s", "gracefully" if number == signal.SIGTERM else "at once")
            self.announce("stopping")
        self.stopping = True
        self.due.clear()
        # Before the workers go: a new connection is refused rather than left in a queue that nobody serves.
        self.listener.close(unlink=True)
        kill_at = time.monotonic() + seconds
        self.kill_at = kill_at if self.kill_at is None else min(self.kill_at, kill_at)
        self._tell_workers(number)

    # --- workers come and go

    def _bury(self, pid: int, child: Child, status: int) -> None:
        self._hear_workers()            # what it wrote last
        self.scoreboard.give_back(child.index)
        text = f"worker {child.index + 1} (pid {pid}) {describe_death(status)}"
        reason, self.boot_error = self.boot_error, ""
        text += f": {reason}" if reason and status else ""
        if self.stopping:
            self.logger.info("%s", text)
            return
        now = time.monotonic()
        on_purpose = status == 0 and now - child.started >= LONG_LIFE
        delay = 0.0 if on_purpose else self.budget.spend(now)
        if could_not_boot(status):
            delay = max(delay, FIRST_DELAY)
        if not self.served and (could_not_boot(status) or self.budget.exhausted):
            self.failure = text
            self.logger.info("no worker has ever been ready: the server gives up")
            self._stop(signal.SIGQUIT, QUICK_STOP_SECONDS)
            return
        again = f"; the next one starts in {delay:g} s" if delay else ""
        self.logger.log(logging.INFO if on_purpose else logging.ERROR, "%s%s", text, again)
        self.due[child.index] = now + delay

    def _fork(self, index: int) -> None:
        try:
            with self.signals.blocked():
                self.scoreboard.slot(index).state = STARTING
                pid = os.fork()
                if not pid:
                    self._be_worker(index)
        except OSError as error:
            now = time.monotonic()
            self.due[index] = now + max(FORK_PAUSE_SECONDS, self.budget.spend(now))
            self.logger.error("worker %d cannot be forked: %s", index + 1, error.strerror)
        else:
            self.children[pid] = Child(index, time.monotonic())

    def _be_worker(self, index: int) -> None:
        code = 1
        try:
            # All that only the master may hold: the lock, the end of the pipe that tells that it lives, ...
            self.signals.drop({signal.SIGUSR1: lambda number, frame: log.reopen(self.logger)})
            self.pid_file.forget()
            self.announcer.close()
            os.close(self.alive_write_fd)
            # The worker closes its copy; ours is for what goes wrong before that.
            code = Worker(index, self.config, self.engine, self.listener.socket, self.scoreboard,
                          self.alive_fd, self.logger, ready_fd=os.dup(self.boot_pipe.write_fd)).run()
        except BootError as error:
            code = error.exit_code
            self.boot_pipe.cannot(str(error))
        except BaseException as error:
            self.logger.critical("worker %d", index + 1, exc_info=True)
            self.boot_pipe.cannot(repr(error))
            if not self.scoreboard.slot(index).pid:
                code = BootError.exit_code
        finally:
            # Not sys.exit: the master's `with` blocks are on this stack too.
            os._exit(code)


def _allow_descriptors(wanted: int) -> None:
    """Raise the soft limit of open files towards `wanted`: with the usual 1,024 a worker would run out of
    descriptors before it has MaxConnections connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


HANDLERS: Dict[int, Callable[[Master], None]] = {
    signal.SIGCHLD: Master.handle_chld, signal.SIGHUP: Master.handle_hup, signal.SIGUSR1: Master.handle_usr1,
    signal.SIGTERM: Master.handle_term, signal.SIGINT: Master.handle_int, signal.SIGQUIT: Master.handle_int,
}
