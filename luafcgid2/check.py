"""Testing a configuration without starting anything: `luafcgid2 -t` and `luafcgid2ctl check`.

In: a path.  Out: the effective settings and what to think of them, as text; ConfigError or ListenError for
what would stop a start.  It binds nothing, writes nothing and needs no root.
"""

from __future__ import annotations

import logging
import os
import stat
from typing import Any, List

from . import config as configuration
from . import listener, privileges
from .errors import ListenError
from .sessions import open_store


def check(path: str) -> str:
    """Everything about the file at `path` that can be told beforehand, warnings last."""
    config = configuration.load(path)
    _check_listener(listener.parse(config.listen))
    open_store(config.session_store, logging.getLogger("luafcgid2"))
    for account, number in ((config.user, privileges.user_id), (config.listen_owner, privileges.user_id),
                            (config.group, privileges.group_id), (config.listen_group, privileges.group_id)):
        if account:
            number(account)
    remarks = [f"warning: {text}" for text in _missing(config)]
    return "\n".join([configuration.describe(config).rstrip("\n"), *remarks, f"{config.path}: OK"])


def _check_listener(address: listener.Address) -> None:
    if address.kind != "unix":
        return
    folder = os.path.dirname(address.path)
    if not os.path.isdir(folder):
        raise ListenError(f"{address}: there is no directory {folder}")
    if os.path.exists(address.path) and not stat.S_ISSOCK(os.stat(address.path).st_mode):
        raise ListenError(f"{address}: that file is no socket, and it would not be replaced")


def _missing(config: Any) -> List[str]:
    folders = [("LogFilePath", os.path.dirname(config.log_file_path)),
               ("SlowLogPath", os.path.dirname(config.slow_log_path)),
               ("AccessLogPath", os.path.dirname(config.access_log_path)),
               ("PidFile", os.path.dirname(config.pid_file)), ("TempDir", config.temp_dir)]
    folders += [("ScriptRoots", root) for root in config.script_roots]
    return [f"{name}: there is no directory {folder}" for name, folder in folders
            if folder and not os.path.isdir(folder)]
