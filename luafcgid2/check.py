"""Testing a configuration without starting anything: `luafcgid2 -t` and `luafcgid2ctl check`.

In: a path.  Out: the effective settings and what to think of them, as text; ConfigError or ListenError for
what would stop a start.  It binds nothing, writes nothing and needs no root.
"""

from __future__ import annotations

import os
from typing import Any, List

from . import config as configuration
from . import listener, privileges


def check(path: str) -> str:
    """Everything about the file at `path` that can be told beforehand, warnings last."""
    config = configuration.load(path)
    listener.parse(config.listen)
    for account, number in ((config.user, privileges.user_id), (config.listen_owner, privileges.user_id),
                            (config.group, privileges.group_id), (config.listen_group, privileges.group_id)):
        if account:
            number(account)
    remarks = [f"warning: {text}" for text in (*config.warnings, *_missing(config))]
    remarks += [f"note: {text}" for text in config.notes]
    return "\n".join([configuration.describe(config).rstrip("\n"), *remarks, f"{config.path}: OK"])


def _missing(config: Any) -> List[str]:
    found = []
    folder = os.path.dirname(config.log_file_path)
    if folder and not os.path.isdir(folder):
        found.append(f"LogFilePath = {config.log_file_path!r}: there is no directory {folder}")
    script = config.startup_script
    if script and not os.path.isfile(script):
        found.append(f"StartupScript = {script!r}: there is no such file")
    return found
