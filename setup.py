"""The compiled part of the package; setup.cfg says everything else."""
from setuptools import Extension, setup

PARTS = ("fastpath", "claim", "connections", "crossing", "fields", "gather", "gather_type", "request", "uploads")
SOURCES = ["luafcgid2/native/%s.c" % name for name in PARTS]
HEADERS = ["luafcgid2/native/%s.h" % name for name in ("clock", "fastpath", "fields", "gather", "request")]

# Optional: where it cannot be compiled, requests take the same way in Python.
setup(ext_modules=[Extension("luafcgid2._fastpath", SOURCES, depends=HEADERS, optional=True,
                             extra_compile_args=["-O2", "-Wall", "-Wextra"])])
