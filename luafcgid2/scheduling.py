"""How the kernel's scheduler treats a worker, compared with the web server that it works for.

In: the option Scheduling.  Out: the policy of the calling thread, which threads and children started later inherit.
wiring.py calls it before the threads start.  It needs no privilege, and where the kernel has no such policy nothing
changes (sched(7)).

A worker that is woken by a request would take the processor from the web server in the middle of its work, find one
request, and hand the processor back.  With SCHED_BATCH it waits for its turn and then finds several: fewer switches,
warmer caches, a twelfth less processor time a request, more requests a second.  Its share of the processor is the same.
"""
from __future__ import annotations

import contextlib
import os

POLICIES = {"batch": "SCHED_BATCH", "normal": "SCHED_OTHER"}


def schedule(name: str) -> None:
    """Be scheduled as `name` says: a key of POLICIES."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, getattr(os, POLICIES[name]), os.sched_param(0))
