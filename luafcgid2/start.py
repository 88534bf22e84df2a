"""The command `luafcgid2` where all it shall do is serve; everything else it says and does is cli.py's.

In: the command line.  Out: an exit code: 0; 78 (EX_CONFIG) for a configuration that cannot be used; 1 for a
listener or pid file that cannot be had; 3 when no worker can boot.  Called by the console script, by
`python -m luafcgid2` and by cli.py.

The master keeps in memory whatever was imported before it, and its workers do.  So a command line that needs no
parser, as init scripts write it, is not given to one: click and what it needs would take 2 MB.
"""
from __future__ import annotations

import functools
import os
import sys
from typing import Any, List, Optional, Tuple

from .errors import Error
from .ready import Announcer

DEFAULT_COMMAND, DEFAULT_CONFIG = "run", "config.lua"
COMPLETION = "_LUAFCGID2_COMPLETE"


def main() -> None:
    """The program."""
    plain = None if COMPLETION in os.environ else plainly(sys.argv[1:])
    if plain:
        keep_standard_descriptors()
        sys.exit(foreground(*plain))
    from .cli import main as command
    command(prog_name="luafcgid2")


def plainly(words: List[str]) -> Optional[Tuple[str, str]]:
    """(configuration file, user) of a command line that is `run [--user USER] [CONFIG]`, or nothing but CONFIG;
    None for any other."""
    user = ""
    if words[:1] == [DEFAULT_COMMAND]:
        words = words[1:]
        if words[:1] == ["--user"] and len(words) > 1:
            user, words = words[1], words[2:]
    elif len(words) == 1 and not ("/" in words[0] or words[0].endswith(".lua")):
        # It may be a command.
        return None
    if len(words) > 1 or user.startswith("-") or (words and (not words[0] or words[0].startswith("-"))):
        return None
    return (words or [DEFAULT_CONFIG])[0], user


def foreground(config: str, user: str = "") -> int:
    """Serve with the file `config` until a signal comes; the exit code, with the reason on standard error.

    `user`: whom to become when root starts a server whose configuration names nobody.
    """
    announcer = Announcer.from_environment()
    try:
        return _serve(config, user, announcer)
    except Error as error:
        announcer.failed(str(error))
        print(f"luafcgid2: {error}", file=sys.stderr)
        return error.exit_code


def _serve(path: str, user: str, announcer: Announcer) -> int:
    from . import log, privileges
    from .master import Master, Origin
    from .upgrade import Inheritance
    inheritance = Inheritance.from_environment()
    if inheritance.master:
        # Not a terminal waits for us but the master that we replace.
        announcer.detached = inheritance.detached
    as_root = os.geteuid() == 0
    config = _load(path, user, as_root)
    origin = Origin(functools.partial(_load, config.path, user, as_root),
                    ("run", *(["--user", user] if user else []), config.path), inheritance)
    identity = privileges.resolve(config.user, config.group)
    if announcer.detached:
        # A daemon keeps no file system busy; the configuration's paths are absolute by now.
        os.chdir("/")
    logger = log.setup(config, identity=identity)
    for text in config.warnings:
        logger.warning("%s", text)
    try:
        return Master(config, logger, announcer, origin).run()
    except Error as error:
        logger.error("%s", error)
        raise


def _load(path: str, user: str, as_root: bool) -> Any:
    from . import config as configuration
    config = configuration.load(path)
    if user and not config.user and as_root:
        config = configuration.load(path, {"user": user})
    return config


def keep_standard_descriptors() -> None:
    """Whoever started us may have closed 0, 1 or 2; a log or a socket must not get their numbers."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
