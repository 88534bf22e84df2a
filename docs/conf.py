"""Sphinx's configuration for this site: `make docs` builds it into build/docs.

It needs nothing but a checkout and the extra `docs`; no page loads anything from elsewhere.
"""
from __future__ import annotations

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), os.path.join(HERE, "_ext")]

from luafcgid2 import __version__  # noqa: E402

project = "luafcgid2"
author = "luafcgid2 authors"
copyright = "luafcgid2 authors, MIT license"  # noqa: A001
release = version = __version__
extensions = ["pages"]
exclude_patterns = ["_ext"]
# `make docs` asks for every link to be right (-n), and for no warning (-W).
primary_domain = None
highlight_language = "none"
smartquotes = False
html_theme = "furo"
html_title = "luafcgid2 " + release
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False

with open(os.path.join(os.path.dirname(HERE), "benchmarks", "results", "hello.json"), encoding="utf-8") as file:
    _results = json.load(file)
rst_epilog = ".. |measured| replace:: %(measured)s\n.. |machine| replace:: %(machine)s\n" % _results
