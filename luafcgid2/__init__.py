"""luafcgid2: a pre-fork FastCGI server that runs Lua scripts inside Python.

In: nothing.  Out: `__version__`, which setup.cfg, `luafcgid2 --version` and the status page read.  Anyone may
import it; it imports nothing, so that a build can read the version before the dependencies are installed.
"""
__version__ = "0.1.0"
