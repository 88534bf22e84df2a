"""The words that start another Python with this package, whatever lies in the working directory.

In: a module of the package.  Out: the beginning of a command line.  `python -m` and `python -c` look for every module
in the working directory first: whoever may write there could have root, who says `luafcgid2ctl start` there, run
code of theirs.  Called by all that start Python: control.py, upgrade.py, luaconfig.py and the doctor.
"""
from __future__ import annotations

import os
import sys
from typing import List

# Behind all else, as a checkout that is not installed is found by it alone.
_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_CLEAN = "import sys; sys.path[:] = [path for path in sys.path if path] + [%r]; " % _HOME
_MODULE = "import runpy; runpy.run_module(%r, run_name='__main__', alter_sys=True)"


def module(name: str) -> List[str]:
    """`python -m name`, for a module or a package with a __main__; its arguments come next."""
    return [sys.executable, "-c", _CLEAN + _MODULE % name]


def statement(text: str) -> List[str]:
    """`python -c text`; its arguments come next."""
    return [sys.executable, "-c", _CLEAN + text]
