"""What this site has beyond Sphinx: pages made from the project's own tables, and names of Lua and of config.lua.

In: the checkout.  Out: the directive `made` puts what a table says into a page (`.. made:: api`, `settings`,
`changes`, `luafcgid`), `readme` does so with chapters of README.rst, `charts` draws and `workloads` shows what was
measured; `luaname` and `setting` describe one name, and the roles `lua` and `setting` link to it.
"""
from __future__ import annotations

import json
import os
import re
import sys
from typing import Any, Dict, List

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [ROOT, os.path.join(ROOT, "benchmarks")]

import annotations  # noqa: E402
import charts  # noqa: E402
import published  # noqa: E402
from luafcgid2 import reference  # noqa: E402
from luafcgid2.options import OPTIONS  # noqa: E402

TYPES = os.path.join(ROOT, "luafcgid2", "types", "luafcgid2.lua")
README = os.path.join(ROOT, "README.rst")
RESULTS = os.path.join(ROOT, "benchmarks", "results", "%s.json")


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _api() -> str:
    return annotations.rst(annotations.parse(_text(TYPES)), [option.name for option in OPTIONS])


class Made(SphinxDirective):
    """`.. made:: NAME`: text of one of the makers, as if it stood there."""

    required_arguments = 1
    makers = {"api": (_api, TYPES), "settings": (reference.settings_rst, reference.__file__),
              "changes": (reference.changes_rst, reference.__file__),
              "luafcgid": (reference.old_keys_rst, reference.__file__)}

    def run(self) -> List[nodes.Node]:
        maker, source = self.makers[self.arguments[0]]
        self.env.note_dependency(source)
        self.state_machine.insert_input(StringList(maker().splitlines(), source), source)
        return []


def label(title: str) -> str:
    """The label of a chapter of README.rst on the page that has it."""
    return "readme-" + re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def chapters(text: str) -> Dict[str, str]:
    """The chapters of README.rst by their titles, with links to each other and pictures as docs/ has them."""
    parts = re.split(r"(?m)^(\S.*)\n-{4,}\n", text)
    titles = parts[1::2]
    found = {}
    for title, body in zip(titles, parts[2::2]):
        for other in titles:
            # The words of a link may be on two lines.
            words = r"\s".join(map(re.escape, other.split()))
            body = re.sub("`%s`_" % words, lambda _, to=other: ":ref:`%s`" % label(to), body)
        body = body.replace(".. image:: docs/", ".. image:: ")
        # Pygments knows an older lighttpd.
        body = body.replace(".. code-block:: lighttpd", ".. code-block:: text")
        found[title] = ".. _%s:\n\n%s\n%s\n%s" % (label(title), title, "-" * len(title), body)
    return found


class Readme(SphinxDirective):
    """`.. readme::` and below it titles of chapters of README.rst, one a line."""

    has_content = True

    def run(self) -> List[nodes.Node]:
        self.env.note_dependency(README)
        found = chapters(_text(README))
        missing = [title for title in self.content if title not in found]
        if missing:
            raise self.error("README.rst has no chapter %s" % ", ".join(missing))
        lines = "\n".join(found[title] for title in self.content).splitlines()
        self.state_machine.insert_input(StringList(lines, README), README)
        return []


class Charts(SphinxDirective):
    """`.. charts:: WORKLOAD`: the committed results of `make bench`, a picture for each figure."""

    required_arguments = 1

    def run(self) -> List[nodes.Node]:
        path = RESULTS % self.arguments[0]
        self.env.note_dependency(path)
        results = json.loads(_text(path))
        made: List[nodes.Node] = []
        for figure in charts.figures(results):
            made.append(nodes.raw("", '<div class="chart">%s</div>' % charts.svg(results, figure), format="html"))
        return made


class Workloads(SphinxDirective):
    """`.. workloads::`: a section for each other workload that was measured."""

    def run(self) -> List[nodes.Node]:
        found = published.results()
        for name in found:
            self.env.note_dependency(RESULTS % name)
        lines = published.sections(found).splitlines()
        self.state_machine.insert_input(StringList(lines, published.__file__), published.__file__)
        return []


def _signature(env: Any, text: str, node: addnodes.desc_signature) -> str:
    """Shows `text` and gives the name that it begins with."""
    name = text.split("(")[0].split(" = ")[0]
    node += addnodes.desc_name(name, name)
    if len(text) > len(name):
        node += addnodes.desc_annotation(text[len(name):], text[len(name):])
    return name


def setup(app: Sphinx) -> Any:
    """Called by Sphinx."""
    app.add_directive("made", Made)
    app.add_directive("charts", Charts)
    app.add_directive("workloads", Workloads)
    app.add_directive("readme", Readme)
    app.add_object_type("luaname", "lua", indextemplate="single: %s", parse_node=_signature)
    app.add_object_type("setting", "setting", indextemplate="single: %s (setting)", parse_node=_signature)
    return {"parallel_read_safe": True, "version": "1"}
