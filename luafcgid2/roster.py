"""Who works: how many workers there shall be, with which configuration, and who takes whose place.

In: the Config in force, a new one, deaths, the time.  Out: workers that begin and workers that are told to leave.
The master calls `balance` after whatever happened; everything else only changes what `balance` aims at.  A worker
that must go (its configuration is an old one, or it is worn) is told so only once its successor serves, so there
are never fewer that serve than before.  A new configuration is on trial until all work with it: when a worker
cannot boot with it, the former one is in force again.  This module reads no file and handles no signal.
"""
from __future__ import annotations

import logging
import signal
import time
from typing import Any, Callable, List, Optional

from . import scaling
from .children import Child, Children
from .scoreboard import READY
from .supervision import FIRST_DELAY, LONG_LIFE, RestartBudget, could_not_boot, describe_death, is_innocent
from .wear import limit_of

FORK_PAUSE_SECONDS = 1.0        # until the next try when the system has no process to give
TRIAL_SECONDS = 30.0            # in which a worker must boot with a new configuration


class Roster:
    """See the module's contract.

    on_trial_end(error): called when a new configuration is in force ("") or dropped (why).  `config` is what the
    next worker is forked with; `target` the most workers there may be (Workers, SIGTTIN, SIGTTOU); `wanted` how
    many there should be now; `served` whether a worker was ever ready; `failure` why the server must give up.
    """

    def __init__(self, config: Any, children: Children, logger: logging.Logger,
                 on_trial_end: Callable[[str], None]) -> None:
        self.config, self.children, self._logger, self._on_trial_end = config, children, logger, on_trial_end
        self.former: Optional[Any] = None
        self.closed = False
        self.served = False
        self.failure = ""
        self._holds: List[float] = []           # for each missing worker that must wait: until when
        self._budget = RestartBudget(config.restart_limit, config.restart_interval)
        self._adopt(config)
        self.wanted = scaling.first(config, self.target)

    # --- what to aim at

    def _adopt(self, config: Any) -> None:
        self.target = min(config.worker_count, self.most)
        self._budget.limit, self._budget.interval = config.restart_limit, config.restart_interval

    @property
    def most(self) -> int:
        """How many workers the scoreboard has room for, while as many others leave."""
        return self.children.scoreboard.slots // 2

    @property
    def replacing(self) -> bool:
        """Whether somebody works who must go."""
        return any(map(self._is_outdated, self.children.staff))

    def _is_outdated(self, child: Child) -> bool:
        return bool(child.worn) or child.config is not self.config

    def begin(self, config: Any) -> None:
        """Replace all workers by ones with `config`, if these can boot."""
        self.former, self.config = self.config, config
        if config.worker_count != self.former.worker_count:
            self._adopt(config)
        # Even ondemand must show once that the configuration serves.
        self._aim(max(1, self.wanted))

    def _drop_trial(self, reason: str) -> None:
        bad, self.config, self.former = self.config, self.former, None
        if bad.worker_count != self.config.worker_count:
            self._adopt(self.config)
        self._aim(self.wanted)
        self._on_trial_end(reason)

    def _aim(self, wanted: int) -> None:
        self.wanted = self.target if self.config.process_manager == "static" else min(wanted, self.target)

    def resize(self, step: int) -> None:
        """One worker more (step 1) or fewer (-1); with dynamic and ondemand that is the most there may be."""
        self.target = max(1, min(self.most, self.target + step))
        self._aim(self.wanted)

    def close(self) -> None:
        """From now on nobody is started, nobody is replaced."""
        self.closed = True

    def reopen(self) -> None:
        """Take up work again after `close`."""
        self.closed = False
        self._aim(max(1, self.wanted))

    # --- getting there

    def next_time(self) -> List[float]:
        """When `balance` has something to do although nothing happens."""
        return self.children.deadlines() + ([] if self.closed else self._holds)

    def balance(self, now: float) -> None:
        """Start and let go whoever must be; end a trial that is over."""
        self.children.kill_overdue(now)
        self.children.notice_ready()
        self.served = self.served or any(child.ready for child in self.children)
        if self.closed:
            return
        self._holds = [moment for moment in self._holds if moment > now]
        self._let_go_old()
        self._let_go_surplus()
        for _ in range(self._count_to_start()):
            if not self.children.has_room or not self._start():
                break
        self._end_trial()

    def _let_go_old(self) -> None:
        staff = self.children.staff
        ready = sum(child.ready for child in staff)
        successor = any(child.ready and not self._is_outdated(child) for child in staff)
        for child in filter(self._is_outdated, staff):
            if child.ready and not (successor and ready > self.wanted):
                continue
            ready -= child.ready
            if child.worn:
                self.children.scoreboard.header.retired += 1
                self._logger.info("%s is replaced: %s", child.name, child.worn)
            self.children.let_go(child, heirs=successor)

    def _let_go_surplus(self) -> None:
        staff = self.children.staff
        if self.former is not None or any(map(self._is_outdated, staff)):
            return
        surplus = len(staff) - self.wanted
        # Who has not begun yet, then who was idle for longest.
        staff.sort(key=lambda child: (child.ready, child.slot.busy, child.idle_since))
        surplus = max(0, surplus)
        for child in staff[:surplus]:
            self.children.let_go(child, heirs=any(other.ready for other in staff[surplus:]))

    def _count_to_start(self) -> int:
        staff = self.children.staff
        missing = self.wanted - len(staff) - len(self._holds)
        if missing > 0:
            return missing
        if self._holds or not self.replacing or not all(child.ready for child in staff):
            return 0
        # One successor at a time; one in any case, or nobody could be let go.
        return int(len(staff) <= self.wanted or all(map(self._is_outdated, staff)))

    def _start(self) -> bool:
        try:
            child = self.children.fork(self.config)
        except OSError as error:
            now = time.monotonic()
            self._holds.append(now + max(FORK_PAUSE_SECONDS, self._budget.spend(now)))
            self._logger.error("a worker cannot be forked: %s", error.strerror)
            return False
        child.most = limit_of(self.config)
        if self.former is not None:
            child.kill_at = child.started + TRIAL_SECONDS
        return True

    def _end_trial(self) -> None:
        if self.former is None:
            return
        staff = self.children.staff
        if len(staff) >= self.wanted and all(child.ready and child.config is self.config for child in staff):
            self.former = None
            self._on_trial_end("")

    # --- deaths

    def bury(self, child: Child, status: int, reason: str) -> None:
        """A worker is dead.  status: what wait(2) told; reason: what it said last, or ""."""
        self.children.notice_ready()
        was_ready = child.ready or child.slot.state >= READY
        self.children.scoreboard.give_back(child.number)
        died = describe_death(status, child.late or child.killed)
        text = f"{child.name} {died}" + (f": {reason}" if reason and status else "")
        if child.late and not was_ready:
            text = f"{child.name} did not boot within {TRIAL_SECONDS:g} seconds"
        if child.leaving or self.closed:
            self._logger.info("%s", text)
            return
        self.children.scoreboard.header.restarts += 1
        if self.former is not None and child.config is self.config and not was_ready:
            self._logger.error("%s", text)
            self._drop_trial(text)
            return
        self._replace(child, status, text, was_ready)

    def _replace(self, child: Child, status: int, text: str, was_ready: bool) -> None:
        now = time.monotonic()
        on_purpose = status == 0 and now - child.started >= LONG_LIFE
        free = on_purpose or is_innocent(status, was_ready)
        delay = 0.0 if free else self._budget.spend(now)
        if could_not_boot(status):
            delay = max(delay, FIRST_DELAY)
        self.served = self.served or was_ready
        if not self.served and (could_not_boot(status) or self._budget.exhausted):
            self.failure = self.failure or text
            return
        if delay:
            self._holds.append(now + delay)
            text += f"; the next one starts in {delay:g} s"
        self._logger.log(logging.INFO if on_purpose else logging.ERROR, "%s", text)

    def dismiss(self, number: int = signal.SIGTERM, seconds: Optional[float] = None, heirs: bool = False) -> None:
        """Tell everybody to leave by signal `number`; `seconds` and `heirs` as for Children.let_go."""
        for child in self.children:
            self.children.let_go(child, number, seconds, heirs)
