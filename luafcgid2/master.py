"""The master: binds, forks the workers, supervises them; it never touches a request.

In: a Config, the logger, the Announcer of whoever waits for the start, and where the Config came from.  Out:
`Master.run()` returns when the last worker is gone, and its own socket file and pid file with it, unless another
master has taken them over.  Called by the `luafcgid2` command.  Signals only wake the loop, which answers each
with one `handle_` method; an idle master sleeps without a timeout.  Workers are told that the master died by the
end of a pipe that nobody else may hold open.  Who works is roster.py's, how processes begin and end children.py's,
what a worker does between fork and exit worker.py's.
"""
from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import setproctitle

from . import __version__, later, log, privileges
from . import config as configuration
from .census import Census
from .changeover import Changeover
from .children import GRACE_SECONDS, Children, allow_descriptors
from .door import Door
from .errors import BootError
from .guards import Guards
from .handoff import Handoff
from .heap import Heap
from .kept import Kept
from .listener import Listener, adopt, open_listener
from .notify import Notifier
from .orders import RELOAD, UPGRADE
from .pidfile import PidFile
from .ready import AlivePipe, Announcer, BootPipe
from .reload import LOG_OPTIONS
from .roster import Roster
from .runtime import Engine
from .scaling import Scaler
from .scoreboard import Scoreboard
from .sessions import open_store
from .signals import SignalQueue
from .upgrade import Inheritance
from .wear import Wear
from .worker import Worker

QUICK_STOP_SECONDS = 1.0        # a worker in a Lua loop does not hear SIGQUIT
SPARE_DESCRIPTORS = 256         # for files, databases and pipes of scripts beside the connections
# Room in the scoreboard for a reload that wants more of them, and for workers that drain while others serve.
LEAST_WORKERS, LEAST_THREADS, SPARE_SLOTS = 8, 16, 16
TICK_SECONDS = 0.5              # between two looks of the watchers, while any worker is awake


class Origin(NamedTuple):
    """Where a Config came from.  load: reads the file anew (Config or Error), None for no file; arguments: the
    command's, to begin again with; inheritance: what the master left that this one replaces."""

    load: Optional[Callable[[], Any]] = None
    arguments: Tuple[str, ...] = ()
    inheritance: Inheritance = Inheritance()


class Master:
    """One server.

    config: a Config; logger: from log.setup; announcer: whom to tell that the server is ready; origin: an Origin.
    `run` may be called once, in the main thread, and raises ControlError (pid file), ListenError, ConfigError
    (unknown user) or BootError (no worker can boot).

    `watchers` look after the workers: objects with `tick(now)`, called every TICK_SECONDS while any worker is
    awake, once more when all are asleep, and when `next_tick()` says so: a time, or None for never by itself.
    """

    def __init__(self, config: Any, logger: logging.Logger, announcer: Optional[Announcer] = None,
                 origin: Optional[Origin] = None) -> None:
        self.config, self.logger, self.origin = config, logger, origin or Origin()
        self.announcer = announcer or Announcer()
        self.notifier = Notifier.from_environment()
        self.scoreboard = Scoreboard(2 * max(config.worker_count, LEAST_WORKERS) + SPARE_SLOTS,
                                     max(2 * config.worker_threads, LEAST_THREADS))
        self.kept = Kept(self.scoreboard.slots, config.keep_failed_requests)
        self.scoreboard.header.since_start = self.scoreboard.header.since_reload = int(time.time())
        self.changeover, self.door = Changeover(self), Door(self)
        self.watchers: List[Any] = []
        self.pulse: Optional[float] = None          # when the watchers tick next
        self.stopping = self.announced = False
        self.boot_error = ""                        # what the last worker that could not boot said
        self.failure = ""                           # why the server gives up
        self.poll = select.poll()
        self.heard: Dict[int, Callable[[int], None]] = {}

    def run(self) -> int:
        """Serve until told to stop; the exit code, 0."""
        setproctitle.setproctitle(f"luafcgid2: master ({os.path.basename(self.config.path) or 'defaults'})")
        identity = privileges.resolve(self.config.user, self.config.group)
        inherited = self.origin.inheritance.pid_file
        with SignalQueue(HANDLERS) as self.signals, \
                PidFile(self.config.pid_file, identity, inherited) as self.pid_file, \
                self._listening() as self.listener, BootPipe() as self.boot_pipe, \
                AlivePipe() as self.alive_pipe:
            self.listen_to(self.signals.fd, self._hear_signals)
            self.listen_to(self.boot_pipe.fd, self._hear_workers)
            self._settle(identity)
            self.handoff = Handoff(self.origin.inheritance.handoff)
            self.children = Children(self.scoreboard, self.signals, self.logger, self._be_worker)
            self.roster = Roster(self.config, self.children, self.logger, self.changeover.trial_ended)
            self.guards = Guards(self)
            self.watchers += [Wear(self.roster), Scaler(self.roster), self.guards, self.notifier,
                              Census(self.scoreboard, self.listener.socket, self.logger)]
            while self.children or not (self.stopping or self.changeover.successor):
                self._act_on_time()
                self._wait()
        if self.failure:
            raise BootError(self.failure)
        self.logger.info("stopped")
        return 0

    # --- what there is to hold while serving

    @contextlib.contextmanager
    def _listening(self) -> Iterator[Listener]:
        left = self.origin.inheritance
        if left.listener >= 0 and left.listen == self.config.listen:
            listener = adopt(left.listener, left.text)
        else:
            listener = open_listener(self.config, self.logger)
            if left.listener >= 0:
                os.close(left.listener)
        try:
            yield listener
        finally:
            listener.close(unlink=not self.changeover.successor)

    def _settle(self, identity: Optional[privileges.Identity]) -> None:
        """Everything that the workers shall inherit is there; become the user and prepare the memory."""
        self.use(self.config)
        self.engine, self.heap = Engine(self.config.lua_version), Heap()
        self.engine.prelude()
        later.load_what_cannot_be_read_by(identity)
        privileges.become(identity)
        privileges.warn(identity, self.config.user, self.logger)
        if self.announcer.detached:
            # From here on nobody reads it; a program that a script starts must not block or die on it.
            with open(os.devnull, "wb", buffering=0) as null:
                os.dup2(null.fileno(), 2)
        manner = "" if self.config.process_manager == "static" else f", {self.config.process_manager}"
        self.logger.info("luafcgid2 %s: %d workers of %d threads%s, Lua %s, listening on %s", __version__,
                         self.config.worker_count, self.config.worker_threads, manner, self.config.lua_version,
                         self.listener.describe())
        # Objects that the collector never visits again stay in pages that all workers share.
        gc.collect()
        gc.freeze()

    def use(self, config: Any) -> None:
        """What the master itself does for a configuration, before workers are forked with it."""
        # This loads Python modules: while they surely can be read, and into pages that all workers share.
        open_store(config.session_store, self.logger)
        allow_descriptors(config.max_connections + SPARE_DESCRIPTORS)
        if LOG_OPTIONS.intersection(configuration.differences(self.config, config)):
            log.setup(config)
        self.config = config

    def announce(self, state: str) -> None:
        """Tell the service manager; state: "ready", "reloading", "stopping", or "handed over": the main process is
        self.changeover.successor from then on."""
        if state == "ready":
            self.notifier.ready(f"Serving with {self.roster.target} workers on the {self.listener.describe()}")
        elif state == "reloading":
            self.notifier.reloading()
        elif state == "handed over":
            self.notifier.handed_over(self.changeover.successor)
        else:
            self.notifier.stopping(self.config.stop_timeout + GRACE_SECONDS)

    # --- the loop

    def listen_to(self, fd: int, hear: Callable[[int], None]) -> None:
        self.heard[fd] = hear
        self.poll.register(fd, select.POLLIN)

    def turn_away(self, fd: int) -> None:
        if self.heard.pop(fd, None):
            self.poll.unregister(fd)

    def _wait(self) -> None:
        for fd, _ in self.poll.poll(self._timeout()):
            if fd in self.heard:
                self.heard[fd](fd)

    def _timeout(self) -> Optional[float]:
        times = [*self.roster.next_time(), self.pulse, self.changeover.deadline,
                 *(watcher.next_tick() for watcher in self.watchers)]
        due = [moment for moment in times if moment is not None]
        return max(0.0, (min(due) - time.monotonic()) * 1000 + 1) if due else None

    def _act_on_time(self) -> None:
        now = time.monotonic()
        self._tick(now)
        self.roster.balance(now)
        self.scoreboard.header.target = self.roster.target
        if self.roster.served and not self.announced:
            self._begin_service()
        if self.roster.failure and not self.stopping:
            self._give_up(self.roster.failure)
        self.door.watch()
        self.changeover.act(now)

    def _tick(self, now: float) -> None:
        everybody = self.pulse is not None and self.pulse <= now
        if everybody:
            self.pulse = now + TICK_SECONDS if self.children.awake else None
        for watcher in self.watchers:
            moment = watcher.next_tick()
            if everybody or (moment is not None and moment <= now):
                watcher.tick(now)

    def _hear_signals(self, fd: int) -> None:
        for number in self.signals.read():
            HANDLERS[number](self)

    def _hear_workers(self, fd: int) -> None:
        self.boot_error = self.boot_pipe.hear()[1] or self.boot_error
        self.guards.hear()
        woken, self.boot_pipe.woken = self.boot_pipe.woken, False
        if woken and self.pulse is None:
            self.pulse = time.monotonic() + TICK_SECONDS

    def _begin_service(self) -> None:
        """The first worker serves: from now on this is the server."""
        self.announced = True
        self.pid_file.name_us()
        left = self.origin.inheritance
        if left.path and left.listen == self.config.listen:
            self.listener.own(left.path)
        elif left.path:
            # Nobody answers there any more: the master before us only finishes what it has.
            with contextlib.suppress(OSError):
                os.unlink(left.path)
        self.logger.info("ready")
        self.announcer.ready()
        self.announce("ready")

    # --- one method a signal

    def handle_chld(self) -> None:
        """Reap the dead."""
        for pid, status, child in self.children.reap():
            if child is not None:
                self._hear_workers(self.boot_pipe.fd)           # what it wrote last
                self.guards.death(child, status)
                reason, self.boot_error = self.boot_error, ""
                self.roster.bury(child, status, reason)
            else:
                self.changeover.bury(pid, status)

    def handle_hup(self) -> None:
        """Flush: Lua states and scripts of earlier generations are replaced at their next use.  Then read the
        configuration again."""
        self.announce("reloading")
        self.logger.info("SIGHUP: generation %d", self.scoreboard.flush())
        self.guards.flush()
        self.changeover.ask(RELOAD)

    def handle_usr1(self) -> None:
        """Open the log anew, here and in the workers."""
        log.reopen(self.logger)
        self.children.tell(signal.SIGUSR1)
        self.logger.info("SIGUSR1: log reopened")

    def handle_usr2(self) -> None:
        """Hand over to a new master."""
        self.changeover.ask(UPGRADE)

    def handle_ttin(self) -> None:
        """One worker more."""
        self.roster.resize(1)
        self.logger.info("SIGTTIN: %d workers", self.roster.target)

    def handle_ttou(self) -> None:
        """One worker fewer."""
        self.roster.resize(-1)
        self.logger.info("SIGTTOU: %d workers", self.roster.target)

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
        self.changeover.stop()
        self.roster.close()
        # Before the workers go: a new connection is refused rather than left in a queue that nobody serves.
        self.turn_away(self.listener.socket.fileno())
        self.listener.close(unlink=not self.changeover.successor)
        self.roster.dismiss(number, seconds)

    def _give_up(self, reason: str) -> None:
        self.failure = reason
        self.logger.info("no worker has ever been ready: the server gives up")
        self._stop(signal.SIGQUIT, QUICK_STOP_SECONDS)

    # --- in the child

    def enter_child(self) -> None:
        """Let go of all that only the master may hold: the lock, the end of the pipe that tells that it lives, ..."""
        self.signals.drop({signal.SIGUSR1: lambda number, frame: log.reopen(self.logger)})
        self.pid_file.forget()
        self.announcer.close()
        self.alive_pipe.forget()

    def _be_worker(self, number: int, config: Any) -> None:
        code = 1
        try:
            self.enter_child()
            code = Worker(number, config, self.engine, self.listener.socket, self.scoreboard, self.alive_pipe.fd,
                          self.logger, self.boot_pipe.write_fd, self.handoff, self.kept.writer(number), self.heap).run()
        except BootError as error:
            code = error.exit_code
            self.boot_pipe.cannot(str(error))
        except BaseException as error:
            self.logger.critical("worker %d", number + 1, exc_info=True)
            self.boot_pipe.cannot(repr(error))
            if not self.scoreboard.slot(number).pid:
                code = BootError.exit_code
        finally:
            # Not sys.exit: the master's `with` blocks are on this stack too.
            os._exit(code)


HANDLERS: Dict[int, Callable[[Master], None]] = {
    signal.SIGCHLD: Master.handle_chld, signal.SIGHUP: Master.handle_hup, signal.SIGUSR1: Master.handle_usr1,
    signal.SIGUSR2: Master.handle_usr2, signal.SIGTTIN: Master.handle_ttin, signal.SIGTTOU: Master.handle_ttou,
    signal.SIGTERM: Master.handle_term, signal.SIGINT: Master.handle_int, signal.SIGQUIT: Master.handle_int,
}
