"""Which workers a signal has stopped (SIGSTOP, a job control's SIGTSTP) and nobody wakes again.

In: the workers, whose `stopped` children.py keeps by what the kernel tells, and the time in nanoseconds of the
monotonic clock.  Out: decisions.  guards.py makes one StoppedWatch and asks it as it asks the policies.

A stopped worker hears nothing, and what web servers have sent on its connections waits in the kernel, where nobody
can count it.  So whoever stops a worker is told at once, and the worker is killed, and with that replaced, when it
has not gone on for PATIENCE seconds.  One that a debugger holds may take its time.  This module signals nobody.
"""
from __future__ import annotations

import logging
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from .decisions import Decision, Kill, Log
from .procfs import is_traced

SECOND = 10 ** 9
# Less than the 60 seconds after which nginx gives up on an answer.
PATIENCE = 30.0
SLEPT = 5.0                     # seconds that a tick may be late before the master counts as stopped itself


class StoppedWatch:
    """See the module's contract.

    workers: objects with number, pid, name and stopped (children.Child); traced: whether a debugger holds a process.
    """

    def __init__(self, workers: Iterable[Any], traced: Callable[[int], bool] = is_traced) -> None:
        self._workers, self._traced = workers, traced
        # (pid, stopped since) -> when its patience is over.
        self._due: Dict[Tuple[int, float], int] = {}

    def next_tick(self, now: int) -> Optional[float]:
        """Seconds until the next tick is due, 0 = now; None = none while no worker is stopped."""
        dues = [self._due.get((worker.pid, worker.stopped), now) for worker in self._stopped()]
        return max(0, min(dues) - now) / SECOND if dues else None

    def tick(self, now: int) -> List[Decision]:
        """Look at the workers that are stopped."""
        before, self._due = self._due, {}
        decisions: List[Decision] = []
        for worker in self._stopped():
            key = (worker.pid, worker.stopped)
            due = before.get(key)
            if due is None:
                decisions.append(Log(logging.WARNING, "%s is stopped by a signal; if it does not go on within %g s it "
                                                      "is replaced" % (worker.name, PATIENCE)))
            elif now < due:
                self._due[key] = due
                continue
            elif now - due < SLEPT * SECOND and not self._traced(worker.pid):
                decisions.append(Kill(worker.number, worker.pid, "it was stopped by a signal for %g s" % PATIENCE))
            self._due[key] = now + int(PATIENCE * SECOND)
        return decisions

    def _stopped(self) -> List[Any]:
        return [worker for worker in self._workers if worker.stopped is not None]
