"""How much memory one Lua state may take (ScriptMaxMemory), and when that is enforced: while Lua's own code runs.

In: a size, and the state's runtime.  Out: Lua's "not enough memory" in a script that wants more.  state.py makes one
for each state where a limit is set; the prelude calls `enter`, each host function `leave`.  It knows no scripts.

lupa passes values to Lua outside of any protection: an argument that does not fit aborts the process, and a result
that does not fit leaves a callback without giving Python's lock back, for ever.  So there is no limit while Python is
at work.  A finalizer that Lua runs while Python passes a value may call host functions, which is why the ways in are
counted: only the return to the outermost Lua code puts the limit in force.
"""
from __future__ import annotations

import re
from typing import Any, Callable

# What Lua says; coroutine.wrap and the string library put a position before it.
EXHAUSTED = re.compile(r"([^\n]+:\d+: )?not enough memory(?: for buffer allocation)?")


class Allowance:
    """See the module's contract.  `size`: bytes of the whole state, the prelude among them.

    It must not keep the runtime alive, whose host functions keep this: `forget` ends that."""

    __slots__ = ("size", "_depth", "_set")

    def __init__(self, size: int) -> None:
        self.size, self._depth = size, 1
        self._set: Callable[..., Any] = _nothing

    def attach(self, runtime: Any) -> None:
        """The runtime, which was made to be bounded, before any script's code runs in it."""
        self._set = runtime.set_max_memory

    def enter(self) -> None:
        """Lua goes on: called by the prelude before a script's code, and after a host function's results are there."""
        self._depth -= 1
        if not self._depth:
            self._set(self.size, True)

    def leave(self) -> None:
        """Python is at work: called first in each host function."""
        self._depth += 1
        self._set(0)

    def lift(self) -> None:
        """The crossing is over, whichever way: there is no limit until the next `enter`."""
        self._depth = 1
        self._set(0)

    def forget(self) -> None:
        """The state is closed next."""
        self.lift()
        self._set = _nothing


def _nothing(*_ignored: Any) -> None:
    """What is done to a runtime that is no more."""
