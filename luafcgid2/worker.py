"""One worker process: threads that serve, and the main thread that watches over them.

In: what the master made before the fork: config, engine, listener, scoreboard, the pipe that tells of the
master's death.  Out: an exit code.  master.py calls `Worker.run` in the child and exits with its result.

Threads: one leads, that is, it polls and serves what is ready, inline.  The main thread ticks every CALM_TICK
seconds while there is work; when it sees the leader in the same request for a whole tick it makes a parked
thread the leader, and the old one parks when its request ends.  So short requests never pay for the other
threads (handing the GIL around at every system call halves the rate), and long ones do not block short ones.
After QUIET_TICKS ticks without work the main thread sleeps until the leader's next wake-up: an idle worker
never wakes.
"""
from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import threading
import time
from typing import Any, Optional, Tuple

import setproctitle

from . import log
from .accesslog import open_log
from .errors import BootError, Error
from .heap import Heap
from .popen import Popens
from .ready import Reporter
from .relay import Relay, is_long
from .scoreboard import DRAINING, READY
from .seat import Seat
from .wiring import (
    make_authorizer, make_desk, make_fastpath, make_monitor, make_poller, make_pool, make_responder, make_server,
    make_sessions, make_shared)

CALM_TICK = 0.02
# After a request that ran long others are likely: then it ticks faster, for ALERT_TICKS ticks, and a script need not
# run for a whole tick (relay.LONG).  Each tick takes the GIL from the leader once, which at 250 a second costs
# a twentieth of a busy worker's time.
ALERT_TICK = 0.004
ALERT_TICKS = 2500
QUIET_TICKS = 10
# While draining: seconds between two looks at what is still under way.
DRAIN_TICK = 0.01
# As php-fpm and gunicorn have them; a reload reaches workers through the generation, not through SIGHUP.
ACTIONS = {signal.SIGTERM: "stop", signal.SIGINT: "quit", signal.SIGQUIT: "quit", signal.SIGUSR1: "reopen",
           signal.SIGUSR2: "trace"}


class Worker:
    """See the module's contract.

    `index` counts from 0; `listener` is the bound socket; `master_pipe` reads EOF when the master is gone;
    b"1" is written to `ready_fd` once connections are accepted, b"2" whenever it wakes up; the slot's `awake` is
    1 from then on, until it sleeps again.  `handoff` (handoff.Handoff): by which workers leave each other their
    connections, when the slot's `heirs` says that others stay.  `kept` (kept.Writer) keeps failed requests.  `heap` was
    made before the fork, in pages that all workers share.
    """

    def __init__(self, index: int, config: Any, engine: Any, listener: socket.socket, scoreboard: Any,
                 master_pipe: int, logger: logging.Logger, ready_fd: Optional[int] = None,
                 handoff: Any = None, kept: Any = None, heap: Optional[Heap] = None) -> None:
        self._index, self._config, self._engine, self._scoreboard = index, config, engine, scoreboard
        self._listener, self._master_pipe, self._logger, self._ready_fd = listener, master_pipe, logger, ready_fd
        self._slot, self._handoff, self._kept, self._heap = scoreboard.slot(index), handoff, kept, heap or Heap()
        self._seats = [Seat(number, self._slot.lines[number]) for number in range(config.worker_threads)]
        self._spare_seat = Seat(config.worker_threads)
        self._relay = Relay()
        self._alert = 0
        self._title: Optional[bytes] = None

    def run(self) -> int:
        """Serve until told to stop; the exit code, 0.  Raises BootError when the worker cannot start."""
        try:
            self._boot()
        except (Error, OSError) as error:
            raise BootError(str(error)) from error
        # A line of a request that runs long may come while the main thread sleeps: it is woken to write it.
        log.batch(self._logger, lambda: os.write(self._wake_write, b"l"))
        try:
            graceful = self._watch()
            self._slot.state = DRAINING
            return self._drain() if graceful else 0
        finally:
            self._slot.state = DRAINING
            self._monitor.close()
            log.batch(self._logger, None)

    def _boot(self) -> None:
        self._handle_signals()
        config, scoreboard = self._config, self._scoreboard
        self._sessions = make_sessions(config, self._logger)
        self._shared = make_shared(config, self._sessions, self._logger)
        self._popens = Popens()
        self._pool = make_pool(config, self._engine, scoreboard, self._sessions, self._logger, self._popens,
                               self._shared, self._seats)
        self._desk = make_desk(config, scoreboard)
        reporter = Reporter(self._ready_fd) if self._ready_fd is not None else None
        self._responder = make_responder(config, self._pool, scoreboard, self._logger, reporter, self._desk, self._kept)
        access = open_log(config, self._logger)
        respond, authorize = self._responder.respond, make_authorizer(config, self._responder)
        if access:
            respond, authorize = access.around(respond), access.around(authorize)
        self._server = make_server(config, respond, self._logger, authorize)
        self._poller = make_poller(config, self._listener, self._server, self._logger, self._handoff)
        self._fast = make_fastpath(config, self._poller, self._server, self._responder, self._pool, self._relay,
                                   scoreboard, access, self._logger)
        self._monitor = make_monitor(config, self._slot, self._seats, self._pool, self._poller, access, self._logger,
                                     self._heap)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        threading.stack_size(self._engine.stack)
        try:
            for seat in self._seats:
                threading.Thread(target=self._sit, args=(seat,), name="thread %d" % seat.number, daemon=True).start()
        except RuntimeError as error:
            # Python's word for a thread that the system refuses: RLIMIT_NPROC, or a cgroup's pids.max.
            raise BootError("WorkerThreads = %d: %s" % (len(self._seats), error)) from error
        self._poller.accept_connections()
        self._slot.pid = os.getpid()
        self._slot.threads = config.worker_threads
        self._slot.since_start = int(time.time())
        self._slot.state = READY
        self._show(b"")
        self._tell(b"1")
        if self._index == 0:
            # After the privileges are dropped, or the file would belong to root.
            # By a service of its own: the check closes its store, and threads that serve may be using ours.
            make_sessions(config, self._logger).check()

    def _tell(self, word: bytes) -> None:
        """A word to the master, which looks after us only while somebody is awake."""
        self._slot.awake = 1
        if self._ready_fd is not None:
            with contextlib.suppress(OSError):
                os.write(self._ready_fd, word)

    def _handle_signals(self) -> None:
        """Signals become bytes in a pipe, which the main thread reads: Python's own handlers would wait for
        Lua to return.  Calls that a signal interrupts are restarted, for C modules that do not expect it."""
        self._signal_read, signal_write = os.pipe()
        os.set_blocking(self._signal_read, False)
        os.set_blocking(signal_write, False)
        signal.set_wakeup_fd(signal_write, warn_on_full_buffer=False)
        # SIGPIPE is among them because exec resets a handler but keeps an ignored signal ignored: commands that
        # scripts start must not inherit that from Python.
        for number in (*ACTIONS, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, lambda *_: None)
            signal.siginterrupt(number, False)

    def _sit(self, seat: Seat) -> None:
        """The life of one thread: parked, leading, parked again."""
        seat.ident, seat.native = threading.get_ident(), threading.get_native_id()
        epoch = 0
        while True:
            epoch = epoch or self._relay.park()
            self._lead(seat, epoch)
            epoch = self._relay.succeed()

    def _lead(self, seat: Seat, epoch: int) -> None:
        poller, pool, relay = self._poller, self._pool, self._relay
        lead = self._fast.run if self._fast else poller.wait
        relay.leader = seat

        def leading() -> bool:
            # Garbage first: a burst of large answers would leave that of all of them.
            return relay.epoch == epoch and not pool.pending

        while relay.epoch == epoch:
            try:
                if poller.idle:
                    lead(seat, epoch)
                    if relay.sleeping:
                        relay.sleeping = False
                        os.write(self._wake_write, b"x")
                poller.step(seat, leading)
                if pool.pending:
                    pool.spare_time()
            except Exception:
                # A fault of ours must cost one connection, not the thread that leads.
                self._logger.exception("unexpected error in thread %d", seat.number)
        # What we have polled gives no other edge, and who leads now may be waiting already.
        poller.reclaim()
        poller.rouse()

    def _stand_in(self) -> None:
        """All threads are busy: what the desk can answer is answered here, and requests on kept connections go to a
        worker that has a thread for them."""
        full = all(slot.busy >= slot.threads for _, slot in self._scoreboard.workers() if slot.state == READY)
        self._poller.stand_in(self._spare_seat, self._desk.wants if self._desk else None, full, not full)

    def _watch(self) -> bool:
        """The main thread's loop; True for a graceful end, False for one at once."""
        poll = select.poll()
        for fd in (self._signal_read, self._wake_read, self._master_pipe):
            poll.register(fd, select.POLLIN)
        self._relay.appoint()
        serial, quiet = -1, 0
        while True:
            if quiet < QUIET_TICKS:
                timeout: Optional[float] = (ALERT_TICK if self._alert else CALM_TICK) * 1000
            else:
                timeout = 1000 if self._poller.waiting else None
            for fd, _flags in poll.poll(timeout):
                if fd == self._wake_read:
                    os.read(fd, 4096)
                    quiet = 0
                    self._tell(b"2")
                elif fd == self._master_pipe:
                    self._logger.warning("the master is gone: worker %d leaves", self._index + 1)
                    return True
                else:
                    end = self._signalled()
                    if end is not None:
                        return end
            if self._poller.waiting:
                self._poller.check_times()
            log.flush(self._logger, log.BATCH_SECONDS)
            serial, quiet = self._look(serial, quiet)

    def _look(self, serial: int, quiet: int) -> Tuple[int, int]:
        """One look at the threads: (the leader's serial, ticks without work)."""
        self._monitor.tick()
        self._alert = max(0, self._alert - 1)
        leader = self._relay.leader
        if leader is None:
            return serial, 0
        if not leader.polling:
            # In a request, or in work that was put off: a top level or a collection may take as long.
            if (leader.serial == serial or (self._alert and is_long(leader))) and self._relay.is_stuck(leader):
                self._alert = ALERT_TICKS
                if not self._relay.appoint():
                    self._stand_in()
            return leader.serial, 0
        self._poller.rouse()
        if leader.serial != serial or self._slot.busy:
            return leader.serial, 0
        if quiet == QUIET_TICKS - 1:
            self._rest()
            self._relay.sleeping = True
            if leader.serial != serial or not leader.polling:
                # It came by before it could see the mark.
                self._relay.sleeping = False
                return leader.serial, 0
            self._slot.awake = 0
        return serial, quiet + 1

    def _rest(self) -> None:
        """Nothing to do for a while: clean up, say in the process title what was served last."""
        self._pool.housekeep()
        self._popens.reap()
        self._monitor.rest()
        leader = self._relay.leader
        while self._sessions.sweep() or self._shared.sweep():
            leader = self._relay.leader
            if leader is None or leader.serving:
                break
        if leader is not None:
            self._show(leader.script)
        log.flush(self._logger)

    def _show(self, script: bytes) -> None:
        if script != self._title:
            self._title = script
            name = " [%s]" % os.path.basename(script).decode("utf-8", "replace") if script else ""
            setproctitle.setproctitle("luafcgid2: worker %d%s" % (self._index + 1, name))

    def _signalled(self) -> Optional[bool]:
        """Act on the signals that came: True ends gracefully, False at once, None goes on."""
        end = None
        for number in os.read(self._signal_read, 4096):
            action = ACTIONS.get(number)
            if action == "quit":
                return False
            if action == "stop":
                end = True
            elif action == "reopen":
                log.reopen(self._logger)
                self._monitor.reopen()
            elif action == "trace":
                self._monitor.trace()
        return end

    def _drain(self) -> int:
        """Finish what is under way, StopTimeout seconds at most; then Lua's finalizers run."""
        poller, own = self._poller, Seat(len(self._seats))
        poller.stop_accepting()
        self._find_heirs(own)
        # A connection that woke this worker wakes no other (EPOLLEXCLUSIVE): it is taken, if only to be passed on.
        poller.accept_rest(own)
        # Or the way in stays open until the last request is done: clients would wait for nobody, and a
        # successor of a master that was killed would find the address in use.
        self._listener.close()
        deadline = time.monotonic() + self._config.stop_timeout
        poll = select.poll()
        poll.register(self._signal_read, select.POLLIN)
        empty = 0
        while time.monotonic() < deadline:
            self._find_heirs(own)
            left = poller.close_idle(own) + sum(seat.serving for seat in self._seats)
            self._monitor.tick()
            # A thread may be between taking an event and marking itself as serving, so one look is not enough.
            empty = empty + 1 if not left else 0
            if empty > 1:
                self._pool.close()
                return 0
            if poll.poll(DRAIN_TICK * 1000) and self._signalled() is False:
                return 0
            log.flush(self._logger, log.BATCH_SECONDS)
            leader = self._relay.leader
            if leader is not None and not leader.polling:
                self._relay.appoint()
        self._logger.warning("worker %d leaves after StopTimeout (%g s) with %d requests under way",
                             self._index + 1, self._config.stop_timeout, left)
        return 0

    def _find_heirs(self, own: Seat) -> None:
        """While draining: whether other workers stay to whom connections can be left.  The master may change its
        mind: when the whole server stops, everybody answers what there is."""
        self._poller.has_heirs = bool(self._handoff and self._slot.heirs)
        self._server.draining = not self._poller.has_heirs
        if self._server.draining:
            self._poller.accept_rest(own)
