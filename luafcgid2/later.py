"""What a server imports only when something asks for it, and how it can be had where its user could not read it.

In: the Identity that the master is about to become.  Out: nothing; modules are loaded.  Only the master calls it, while
it is root.  Python below /root, or a program folder for root alone, is nothing that a server's user can import from:
there all is loaded at once, and takes its memory.
"""
from __future__ import annotations

import contextlib
import importlib
import os
from typing import Optional

from . import privileges

# Whoever writes an import into a function of the server's adds it here.
NAMES = ("difflib", "ipaddress", "json", "mimetypes", "multipart", "pickle", "random", "shutil", "subprocess",
         "tempfile", "luafcgid2.authorizer", "luafcgid2.details", "luafcgid2.errorpages", "luafcgid2.status.desk")


def load_what_cannot_be_read_by(identity: Optional[privileges.Identity]) -> None:
    """Load all of NAMES, unless `identity` (None: we stay who we are) can read Python's library and this package."""
    try:
        with privileges.acting_as(identity):
            for path in (os.__file__, __file__):
                open(path, "rb").close()
    except OSError:
        for name in NAMES:
            # One is not installed everywhere.
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
