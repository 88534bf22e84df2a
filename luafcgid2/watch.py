"""A running server as text for a terminal, or as JSON.

In: the master's pid and the Config.  Out: a snapshot, a short summary, JSON; ControlError where the scoreboard
cannot be read.  luafcgid2ctl and top.py call it.  It reads shared memory only: no worker is asked, so it answers
while all of them are busy.
"""
from __future__ import annotations

import json
import time
from typing import Any, Dict, List, Tuple

from .errors import ControlError
from .scoreboard import Scoreboard
from .snapshot import take
from .units import count, duration, share, short_time, size

NO_RIGHTS = 4                   # LSB 5.0, exit codes of init scripts
COLUMN = 12


def look(pid: int, config: Any) -> Dict[str, Any]:
    """A snapshot of the server whose master has that pid."""
    try:
        scoreboard = Scoreboard.of(pid)
    except PermissionError as error:
        raise ControlError(f"pid {pid} belongs to another user: its figures are for root and for that user",
                           NO_RIGHTS) from error
    except (OSError, LookupError, ValueError) as error:
        raise ControlError(f"pid {pid}: its scoreboard cannot be read: {error}") from error
    return take(scoreboard, config, time.monotonic_ns(), time.time())


def report(pid: int, config: Any, as_json: bool = False) -> str:
    """What `luafcgid2ctl status` adds to its first line, or the whole snapshot as JSON."""
    snapshot = look(pid, config)
    return json.dumps(snapshot, indent=2) if as_json else summary(snapshot)


def summary(found: Dict[str, Any]) -> str:
    """A few aligned lines."""
    return "\n".join(f"  {name.ljust(COLUMN)}{words}" for name, words in summary_lines(found))


def summary_lines(found: Dict[str, Any]) -> List[Tuple[str, str]]:
    """(name, words) of each line of the summary."""
    latency, memory = found["latency"], found["memory"]
    lines = [
        ("uptime", f"{duration(found['start since'])}, generation {found['generation']}"),
        ("workers", f"{found['total workers']}, {count(found['restarts'])} restarted"),
        ("threads", f"{found['active processes']} of {found['total processes']} busy, "
                    f"{found['max active processes']} at most so far"),
        ("requests", f"{count(found['requests'])}, {count(found['errors'])} errors "
                     f"({share(found['errors'], found['requests'])}), {count(found['timeouts'])} timed out"),
        ("latency", f"p50 {short_time(latency['p50 ms'])}, p95 {short_time(latency['p95 ms'])}, "
                    f"p99 {short_time(latency['p99 ms'])}"),
        ("waiting", f"{found['listen queue']} connections, {found['max listen queue']} at most so far"),
        ("memory", memory_words(memory)),
        ("Lua", f"{count(found['lua states']['total'])} states, {size(memory['lua heap kb'])}"),
    ]
    if found["shedding"]:
        lines.append(("shedding", "short of memory: requests are refused"))
    if found["hung"]:
        lines.append(("hung", f"{found['hung']} threads"))
    lines += [("quarantine", f"{entry['script']} for another {duration(entry['seconds left'] + .999)}")
              for entry in found["quarantine"]]
    return lines


def memory_words(memory: Dict[str, int]) -> str:
    """Memory in use and what of the budget that is."""
    if not memory["budget kb"]:
        return size(memory["pss kb"]) if memory["pss kb"] else "not measured: no MemoryBudget"
    return (f"{size(memory['pss kb'])}, {share(memory['pss kb'], memory['budget kb'])} "
            f"of {size(memory['budget kb'])}")
