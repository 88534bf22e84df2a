"""`luafcgid2ctl top`: a running server as a table that renews itself.

In: a function that finds the master, the Config, how often to look.  Out: the screen, until Ctrl-C; or one
table.  ControlError when rich is not installed, or the server ends.  luafcgid2ctl calls it.  Like watch.py it
reads shared memory and asks no worker.
"""
from __future__ import annotations

import os
import sys
import time
from typing import Any, Callable, Dict, Iterable, List, Optional

from .errors import ControlError
from .units import count, duration, short_time, size
from .watch import look, memory_words

LONG_MS = 1000                  # a request that runs for longer is marked
SCRIPTS = 8
HELP = "Ctrl-C ends"


def run(find: Callable[[], int], config: Any, interval: float, once: bool) -> None:
    """Show the server of the master that `find()` gives, every `interval` seconds; `once`: one table."""
    try:
        import rich.live as live
    except ImportError as error:
        raise ControlError(f"top needs the Python package rich: {sys.executable} -m pip install rich") from error
    from rich.console import Console
    console = Console()
    before = look(find(), config)
    if once:
        # A rate takes two looks.
        time.sleep(interval)
        console.print(screen(look(find(), config), before))
        return
    try:
        with live.Live(screen(before, None, console.height), console=console, screen=True, auto_refresh=False) as shown:
            while True:
                time.sleep(interval)
                found = look(find(), config)
                shown.update(screen(found, before, console.height), refresh=True)
                before = found
    except KeyboardInterrupt:
        return


def screen(found: Dict[str, Any], before: Optional[Dict[str, Any]], height: int = 0) -> Any:
    """What is shown, as something that rich can print.

    before: an earlier snapshot, for the rates; height: lines of the terminal, 0 for as many as there are.
    """
    from rich.console import Group
    running = sorted((entry for entry in found["processes"] if entry["state"] == "Running"),
                     key=lambda entry: -entry["request duration"])
    scripts = found["scripts"][:SCRIPTS]
    if height:
        # Head, the tables' own lines, and one line a worker: what is left is for requests.
        room = height - 17 - len(found["workers"]) - len(scripts)
        running = running[:max(3, room)]
    return Group(_head(found, before, HELP if height else ""), "", _workers(found), "", _running(running, found),
                 "", _scripts(scripts))


def _head(found: Dict[str, Any], before: Optional[Dict[str, Any]], words: str) -> Any:
    from rich.text import Text
    latency = found["latency"]
    text = Text.assemble(("luafcgid2 ", "bold blue"), found["version"], "  up ",
                         (duration(found["start since"]), "bold"), "  ", _mood(found), ("   " + words, "dim"), "\n")
    rows = (
        (("requests/s", rate(found, before, "requests")), ("errors/s", rate(found, before, "errors")),
         ("busy", f"{found['active processes']} of {found['total processes']}"),
         ("waiting", str(found["listen queue"]))),
        (("requests", count(found["requests"])), ("errors", count(found["errors"])),
         ("p50", short_time(latency["p50 ms"])), ("p95", short_time(latency["p95 ms"]))),
    )
    for row in rows:
        text.append("\n")
        for name, figure in row:
            text.append(f"{name} ", "dim")
            text.append(figure.ljust(22 - len(name)), "bold")
    text.append("\nmemory ", "dim")
    text.append(memory_words(found["memory"]))
    for entry in found["quarantine"]:
        text.append("\nquarantine ", "dim")
        text.append(f"{entry['script']} for another {duration(entry['seconds left'] + .999)}", "yellow")
    return text


def _mood(found: Dict[str, Any]) -> Any:
    if found["shedding"]:
        return "short of memory: requests are refused", "bold red"
    if found["hung"]:
        return f"hung threads: {found['hung']}", "bold red"
    if found["quarantine"]:
        return f"scripts in quarantine: {len(found['quarantine'])}", "bold yellow"
    return "all is well", "green"


def rate(found: Dict[str, Any], before: Optional[Dict[str, Any]], key: str) -> str:
    """How much `key` grew in a second since `before`; "-" where that cannot be said."""
    if before is None or found["now"] <= before["now"] or found["start time"] != before["start time"]:
        return "-"
    grown = max(0, found[key] - before[key]) / (found["now"] - before["now"])
    return f"{grown:.0f}" if grown >= 10 or not grown else f"{grown:.1f}"


def _table(*heads: str) -> Any:
    """A table without frames; `#` opens the head of a column of numbers, `*` that of one that takes the rest."""
    from rich.table import Table
    from rich.text import Text
    table = Table(box=None, expand=True, pad_edge=False, header_style="bold dim")
    for head in heads:
        table.add_column(Text(head.lstrip("#*")), justify="right" if head[:1] == "#" else "left",
                         no_wrap=True, overflow="ellipsis", ratio=1 if head[:1] == "*" else None)
    return table


def _workers(found: Dict[str, Any]) -> Any:
    from rich.text import Text
    table = _table("PID", "STATE", "*THREADS", "#REQUESTS", "#ERRORS", "#STATES", "#HEAP", "#MEMORY", "#UP")
    for worker in found["workers"]:
        memory = worker["pss kb"] or worker["rss kb"]
        lamps = Text()
        for entry in found["processes"]:
            if entry["worker"] == worker["worker"]:
                lamps.append(*_lamp(entry))
        table.add_row(
            str(worker["pid"]), worker["state"], lamps, count(worker["requests"]), count(worker["errors"]),
            str(worker["lua states"]), size(worker["lua heap kb"]),
            size(memory) if memory else "-", duration(worker["start since"]))
    return table


def _lamp(entry: Dict[str, Any]) -> Iterable[str]:
    if entry["state"] != "Running":
        return "□", "dim"
    return "■", "yellow" if entry["request duration"] > LONG_MS * 1000 else "blue"


def _running(entries: Iterable[Dict[str, Any]], found: Dict[str, Any]) -> Any:
    from rich.text import Text
    if not found["active processes"]:
        return Text("Every thread is idle.", "dim")
    table = _table("#FOR", "", "*REQUEST", "#PID")
    for entry in entries:
        milliseconds = entry["request duration"] / 1000
        table.add_row(Text(short_time(milliseconds), "yellow" if milliseconds > LONG_MS else ""),
                      Text(entry["request method"], "blue"), Text(entry["request uri"]), str(entry["pid"]))
    return table


def _scripts(entries: List[Dict[str, Any]]) -> Any:
    from rich.text import Text
    if not entries:
        return ""
    # The folder that all are in would leave no room for their names.
    paths = [entry["script"] for entry in entries]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    table = _table("*SCRIPT in " + folder, "#REQUESTS", "#MEDIAN", "#95 %", "#LONGEST", "#ERRORS", "#STATES", "#HEAP")
    for entry, path in zip(entries, paths):
        table.add_row(Text(os.path.relpath(path, folder)), count(entry["requests"]), short_time(entry["p50 ms"]),
                      short_time(entry["p95 ms"]),
                      short_time(entry["max ms"]),
                      Text(count(entry["errors"]), "red" if entry["errors"] else ""),
                      str(entry["lua states"]), size(entry["lua heap kb"]))
    return table
