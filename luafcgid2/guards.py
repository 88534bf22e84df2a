"""Carries out what the policies of supervision decide: hung requests, stopped workers, memory budget, quarantine.

In: the master's loop, the words of the workers, deaths, flushes.  Out: workers that are marked to be replaced or are
killed, scripts in quarantine, lines in the log.  A watcher of the master's loop; what is decided, and when, is
hung.py's, stopped.py's, memory.py's and quarantine.py's.
"""
from __future__ import annotations

import os
import signal
import time
from typing import Any, Callable, Dict, List, Optional, Set, Type

from . import procfs
from .decisions import Decision, EvictStates, Kill, Log, Retire, Strike
from .hung import HungWatch, hard_limit
from .memory import MemoryBudget
from .quarantine import Quarantine
from .stopped import StoppedWatch

SECOND = 10 ** 9


class Guards:
    """See the module's contract.  server: the Master, once it has its children."""

    def __init__(self, server: Any) -> None:
        self._server, self._logger = server, server.logger
        # Pids of workers that were killed on purpose: their deaths blame no script.
        self._killed: Set[int] = set()
        self._oom_kills = procfs.oom_kills()
        self._stopped = StoppedWatch(server.children)
        self._kept = server.kept.writer(-1)
        self.use(server.config)

    def use(self, config: Any) -> None:
        """Go by a configuration from now on."""
        board = self._server.scoreboard
        for line in board.quarantine:
            if line.path:
                line.path = b""
                board.header.quarantine_serial += 1
        board.header.shedding = 0
        self._quarantine = Quarantine(board, config.quarantine_strikes, config.quarantine_interval,
                                      config.quarantine_time, config.quarantine_max_time)
        self._hard = hard_limit(config.request_timeout, config.request_terminate_timeout)
        self._policies = (self._stopped, HungWatch(board, self._hard, config.stop_timeout),
                          MemoryBudget(board, config.memory_budget, os.getpid()), self._quarantine)

    def next_tick(self) -> Optional[float]:
        """When a policy wants to look, in seconds of the monotonic clock."""
        now = time.monotonic()
        times = [policy.next_tick(int(now * SECOND)) for policy in self._policies]
        return min((now + seconds for seconds in times if seconds is not None), default=None)

    def tick(self, now: float) -> None:
        """Let those policies look whose time has come."""
        moment = int(now * SECOND)
        for policy in self._policies:
            if policy.next_tick(moment) == 0:
                self._carry_out(policy.tick(moment))

    def hear(self) -> None:
        """Take what the workers have told of their scripts."""
        pipe = self._server.boot_pipe
        strikes, pipe.strikes = pipe.strikes, []
        changed, pipe.changed = pipe.changed, []
        self._carry_out(strikes)
        for path in changed:
            self._carry_out(self._quarantine.changed(path))

    def flush(self) -> None:
        """All scripts are loaded anew: let them try."""
        self._carry_out(self._quarantine.flush())

    def death(self, child: Any, status: int) -> None:
        """A worker is dead, and its slot still as it left it."""
        kills, before = procfs.oom_kills(), self._oom_kills
        self._oom_kills = kills
        self._keep(child)
        # What ran is neither answered nor counted by anybody else.
        header, lost = self._server.scoreboard.header, len(child.slot.running)
        header.past_requests += lost
        header.past_errors += lost
        if child.pid in self._killed or child.late:
            self._killed.discard(child.pid)
            return
        self._carry_out(self._quarantine.death(child.slot, status, time.monotonic_ns(), kills > before))

    def _keep(self, child: Any) -> None:
        """Keep what a dead worker left unanswered: more than script, method and URI is not known of it."""
        if self._kept is None:
            return
        for line in child.slot.running:
            params = {b"REQUEST_METHOD": line.method, b"REQUEST_URI": line.uri, b"SCRIPT_FILENAME": line.script}
            seconds = (time.monotonic_ns() - line.started) / SECOND if line.started else 0.0
            self._kept.keep(0, f"{child.name} died while it ran this", "", seconds,
                            {name: value for name, value in params.items() if value})

    def _carry_out(self, decisions: List[Decision]) -> None:
        for decision in decisions:
            ACTIONS[type(decision)](self, decision)

    def _retire(self, decision: Retire) -> None:
        child = self._server.children.find(decision.slot, decision.pid)
        if child is not None:
            child.worn = child.worn or decision.reason
            child.slot.hung = len(child.slot.running)

    def _kill(self, decision: Kill) -> None:
        child = self._server.children.find(decision.slot, decision.pid)
        if child is not None:
            self._logger.error("%s is killed: %s", child.name, decision.reason)
            header = self._server.scoreboard.header
            header.killed += 1
            # A worker counts those over RequestTimeout itself, unless it cannot.
            header.past_timeouts += sum(1 for line in child.slot.running if line.overran != line.started
                                        and 0 < self._hard * SECOND < time.monotonic_ns() - line.started)
            child.killed = True
            self._killed.add(child.pid)
            os.kill(child.pid, signal.SIGKILL)

    def _wake(self, decision: EvictStates) -> None:
        child = self._server.children.find(decision.slot, decision.pid)
        if child is not None:
            # It means nothing to a worker, but a sleeping one looks around.
            os.kill(child.pid, signal.SIGHUP)

    def _strike(self, decision: Strike) -> None:
        self._carry_out(self._quarantine.strike(decision.path, decision.reason, time.monotonic_ns(),
                                                decision.started))

    def _log(self, decision: Log) -> None:
        self._logger.log(decision.level, "%s", decision.text)


ACTIONS: Dict[Type[Any], Callable[[Guards, Any], None]] = {
    Retire: Guards._retire, Kill: Guards._kill, EvictStates: Guards._wake, Strike: Guards._strike, Log: Guards._log,
}
