"""What a running server of a benchmark is, and what it is asked to run: the words that all modules share.

In: nothing.  Out: Missing, Task, Running, and where the scripts are.  It starts and measures nothing.
"""
from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPTS = os.path.join(HERE, "scripts")
BACKLOG = 1024
READY_SECONDS = 10.0


class Missing(Exception):
    """Something that a server needs is not installed; the message says what and how to get it."""


@dataclass(frozen=True)
class Task:
    """What a server will be asked for.

    `script`: the name of the script of most requests, `slow` of the others, "" if there are none.  `settings`: lines
    for luafcgid2's configuration; other servers have no use for them.  `many`: a folder of scripts that are asked for
    by their names instead, "" if there is none.  `processes` of a web server that runs them itself.
    """

    script: str = "hello"
    slow: str = ""
    settings: str = ""
    many: str = ""
    processes: int = 1


@dataclass(frozen=True)
class Running:
    """A started server: the unix socket it listens on and the ids of the processes we started.

    `url` instead of a socket is that of a server which needs no web server in front.
    """

    path: str
    pids: Tuple[int, ...]
    url: str = ""
