"""Where the documentation has what `make bench` measured: results, pictures, and the tables of README.rst.

In: a result of bench.py, or those on disk.  Out: benchmarks/results/WORKLOAD.json, docs/charts/WORKLOAD-FIGURE.svg, and
what stands between the marks of README.rst, all below a root that is the checkout unless told otherwise.  bench.py and
the pages of docs/ call it.  It measures nothing.
"""
from __future__ import annotations

import json
import os
from typing import Any, Dict, Mapping

import charts
import report
from instance import HERE
from servers import SERVERS
from workloads import WORKLOADS

ROOT = os.path.dirname(HERE)
RESULTS = os.path.join("benchmarks", "results")
CHARTS = os.path.join("docs", "charts")
MARK = ".. %s measured %s\n"


def text(result: Mapping[str, Any]) -> str:
    """The table of one workload, its caption, and who is not in it."""
    words = report.left_out(result["left_out"], {key: server.title for key, server in SERVERS.items()})
    return "\n\n".join(filter(None, [report.table(result["rows"]), result["caption"], words]))


def results(root: str = ROOT) -> Dict[str, Any]:
    """The results on disk by workload, in the order of the table of workloads."""
    found = {}
    for name in WORKLOADS:
        path = os.path.join(root, RESULTS, name + ".json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                found[name] = json.load(file)
    return found


def write(root: str, result: Mapping[str, Any]) -> None:
    """One result and its pictures."""
    os.makedirs(os.path.join(root, RESULTS), exist_ok=True)
    with open(os.path.join(root, RESULTS, result["workload"] + ".json"), "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    charts.write(result, os.path.join(root, CHARTS), result["workload"] + "-")


def blocks(found: Mapping[str, Any]) -> Dict[str, str]:
    """What README.rst has between the marks of each name."""
    made: Dict[str, str] = {}
    if "hello" in found:
        made["hello"] = text(found["hello"])
    if len(found) > 1:
        made["overview"] = report.overview(list(found.values()))
    return made


def with_blocks(page: str, made: Mapping[str, str]) -> str:
    """`page` with new text between the marks; raises ValueError if a mark is not there."""
    for name, block in made.items():
        begin, end = MARK % ("begin", name), MARK % ("end", name)
        if page.count(begin) != 1 or page.count(end) != 1:
            raise ValueError("no %r, or more than one" % begin.strip())
        page = "%s%s\n%s\n\n%s%s" % (page.split(begin)[0], begin, block, end, page.split(end)[1])
    return page


def write_readme(root: str) -> None:
    """README.rst with the tables of the results on disk, where there is one."""
    path = os.path.join(root, "README.rst")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            page = file.read()
        with open(path, "w", encoding="utf-8") as file:
            file.write(with_blocks(page, blocks(results(root))))


def sections(found: Mapping[str, Any]) -> str:
    """What the documentation has of each workload but hello, as sections below one that is underlined with `-`."""
    parts = []
    for name, result in found.items():
        if name != "hello":
            aims = "\n".join("* %s: %s." % ("Reached" if aim["met"] else "Missed", aim["words"])
                             for aim in result["aims"])
            title = result["title"]
            parts += [title, "~" * len(title), "", ".. charts:: " + name, "", text(result), "", aims, ""]
    return "\n".join(parts)
