"""What changes while the server runs: its configuration (reload) and its code (upgrade).

In: what was asked for by signal, the words of the processes that help with it, the deaths of those.  Out: a new
configuration handed to the roster, or a new master that takes over; in any case an outcome for luafcgid2ctl and a
line in the log.  Part of master.py's loop, which calls `act` each time it wakes up.  One thing at a time, and until
it has worked the old configuration or the old master is in charge.
"""
from __future__ import annotations

import os
import signal
from typing import Any, Optional

from .orders import NOTE, RELOAD, Orders
from .reload import ConfigReader, Reading, judge
from .upgrade import Upgrade, inheritance_of


class Changeover:
    """See the module's contract.  server: the Master.  `successor`: pid of the master that has taken over, or 0."""

    def __init__(self, server: Any) -> None:
        self._server, self._logger = server, server.logger
        self._orders = Orders(server.scoreboard.header)
        self._reader: Optional[ConfigReader] = None
        self._remark = ""                           # on the reload under way
        self._upgrade: Optional[Upgrade] = None
        self.successor = 0

    def ask(self, kind: str) -> None:
        """Note that RELOAD or UPGRADE is wished for."""
        self._orders.ask(kind)

    @property
    def deadline(self) -> Optional[float]:
        """When `act` has something to do although nothing happens."""
        return self._upgrade.deadline if self._upgrade else None

    def act(self, now: float) -> None:
        """Begin what was asked for, if nothing else is under way; end an upgrade that takes too long."""
        if self._upgrade is not None and self._upgrade.deadline <= now:
            self._upgrade.expire(now)
        if self._server.stopping or self.successor or not self._server.announced:
            return
        kind = self._orders.next()
        if kind is None:
            return
        try:
            (self._read_config if kind == RELOAD else self._start_upgrade)()
        except OSError as error:
            self._refuse(f"a process cannot be started: {error}")

    def bury(self, pid: int, status: int) -> None:
        """A child that is no worker is dead, with this wait status."""
        if self._upgrade is not None and pid == self._upgrade.pid:
            self._upgrade_failed(status)
        elif pid == self.successor and status:
            self._serve_again()

    def stop(self) -> None:
        """The server stops: whoever was about to take over shall not."""
        if self._upgrade is not None:
            os.kill(self._upgrade.pid, signal.SIGQUIT)

    def _refuse(self, reason: str) -> None:
        what = "the configuration stays as it was" if self._orders.current == RELOAD else "no upgrade"
        self._logger.error("%s: %s", what, reason)
        self._finish(reason)

    def _finish(self, outcome: str = "") -> None:
        """What was asked for is over; outcome: why it changed nothing, or a remark, or ""."""
        if self._orders.current == RELOAD:
            self._server.announce("ready")
        self._orders.finish(outcome)

    # --- reload

    def _read_config(self) -> None:
        server = self._server
        if server.origin.load is None:
            self._finish()
            return
        self._reader = ConfigReader(server.origin.load, server.signals, self._enter_reader)
        server.listen_to(self._reader.fd, self._hear_config)

    def _enter_reader(self) -> None:
        self._server.enter_child()
        # The file may run for long: nobody shall find the door open then, if the server stops meanwhile.
        self._server.listener.close(unlink=False)

    def _hear_config(self, fd: int) -> None:
        reading = self._reader.hear()
        if reading is not None:
            self._server.turn_away(fd)
            self._reader = None
            if not self._server.stopping:
                self._take_config(reading)

    def _take_config(self, reading: Reading) -> None:
        server = self._server
        if reading.error:
            self._refuse(reading.error)
            return
        config, changed, kept = judge(reading.config, server.config, server.roster.most, server.scoreboard.threads)
        self._remark = ""
        if kept:
            names = ", ".join(kept)
            self._remark = f"{NOTE}unchanged until upgrade or restart: {names}"
            self._logger.warning("a running server cannot change %s: this needs luafcgid2ctl upgrade (LuaVersion, "
                                 "Listen, PidFile, room for more workers or threads) or restart", names)
        if not changed:
            self._finish(self._remark)
            return
        self._logger.info("new configuration (%s): workers are replaced", ", ".join(changed))
        server.use(config)
        server.roster.begin(config)

    def trial_ended(self, error: str) -> None:
        """The new configuration is in force, or `error` says why it is not."""
        server = self._server
        server.use(server.roster.config)
        server.guards.use(server.config)
        if error:
            self._refuse(error)
            return
        for text in server.config.warnings:
            self._logger.warning("%s", text)
        self._logger.info("new configuration in force")
        self._finish(self._remark)

    # --- upgrade

    def _start_upgrade(self) -> None:
        server = self._server
        if not server.origin.arguments:
            self._refuse("the server was not started by the command luafcgid2")
            return
        self._logger.info("SIGUSR2: starting a new master")
        left = inheritance_of(server.listener, server.pid_file, server.handoff, server.config,
                              server.announcer.detached)
        self._upgrade = Upgrade(server.origin.arguments, left, server.notifier.to_environment())
        for fd in self._upgrade.fds:
            server.listen_to(fd, self._hear_upgrade)

    def _hear_upgrade(self, fd: int) -> None:
        self._upgrade.hear(fd)
        if fd not in self._upgrade.fds:
            self._server.turn_away(fd)
        if self._upgrade.is_ready:
            self._hand_over()

    def _end_upgrade(self) -> Upgrade:
        ended, self._upgrade = self._upgrade, None
        for fd in ended.fds:
            self._server.turn_away(fd)
        return ended

    def _upgrade_failed(self, status: int) -> None:
        reason = self._end_upgrade().why(status)
        # It may have died just after it had put its own number there.
        self._server.pid_file.name_us()
        if not self._server.stopping:
            self._refuse(reason)

    def _hand_over(self) -> None:
        ended = self._end_upgrade()
        ended.close()
        self.successor = ended.pid
        self._logger.info("the new master (pid %d) serves; this one leaves when its requests are answered", ended.pid)
        self._server.announce("handed over")
        self._finish()
        if self._orders.give_up():
            os.kill(self.successor, signal.SIGHUP)
        self._server.roster.close()
        self._server.roster.dismiss(heirs=True)

    def _serve_again(self) -> None:
        self._logger.error("the new master (pid %d) has died: this one goes on", self.successor)
        self.successor = 0
        if not self._server.stopping:
            self._server.pid_file.name_us()
            self._server.roster.reopen()
