"""Pictures (SVG) of what `make bench` measured.

In: the JSON file that `bench.py --json FILE` writes.  Out: one SVG for each figure of its workload, as text for docs/,
or as files: `python benchmarks/charts.py FILE FOLDER`.  It measures nothing and needs Python only.  Inside a page text
and bars take the colour of the text around the picture; a file has a ground of its own, dark where the reader wants it.
"""
from __future__ import annotations

import json
import os
import sys
from typing import Any, Dict, List, NamedTuple
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

# Units of the picture, which scales with the page; a phone shows it at about three quarters.
WIDTH, VALUE_WIDTH, BAR, LABEL, GAP, TITLE, TEXT, MARGIN = 480, 70, 14, 17, 10, 40, 13, 16
OURS = "luafcgid2"
ACCENT = "#2f7fd1"
STYLE = ("<style>svg{color:#1f2328}.ground{fill:#ffffff;stroke:#d1d9e0}"
         "@media (prefers-color-scheme:dark){svg{color:#e6edf3}.ground{fill:#15191f;stroke:#3d444d}}</style>")


class Figure(NamedTuple):
    """A column of the table.  `key` in a row, `form` of the number, `scale` from the unit of the file to ours."""

    key: str
    title: str
    better: str
    form: str = "%.0f"
    scale: float = 1.0


_RATE = Figure("rate", "Requests per second", "longer is better")
_CPU = Figure("cpu", "CPU time for one request, in microseconds", "shorter is better", "%.1f")
_P50 = Figure("p50", "Median time to the answer (p50), in milliseconds", "shorter is better", "%.2f")
_P99 = Figure("p99", "99 of 100 answers took at most (p99), in milliseconds", "shorter is better", "%.1f")
_PSS = Figure("pss", "Memory, in MB (PSS)", "shorter is better", "%.1f", 1 / 1048576)
_EACH = Figure("each", "Memory of an idle connection, in bytes", "shorter is better")
# The figures that tell what a workload is about; those of DEFAULT for any other one.
FIGURES: Mapping[str, Sequence[Figure]] = {
    "hello": (_RATE, _CPU, _P50, _PSS), "threads": (_CPU,), "lru": (_RATE, _CPU, _PSS), "idle": (_P50, _P99, _EACH),
    "mixed": (_P99,), "cpu": (_RATE,), "footprint": ()}
DEFAULT = (_RATE, _CPU)


def figures(results: Mapping[str, Any]) -> Sequence[Figure]:
    """Those that are drawn of a result."""
    return FIGURES.get(results.get("workload", "hello"), DEFAULT)


def _bar(top: float, row: Mapping[str, Any], figure: Figure, largest: float, ours: bool) -> List[str]:
    length = max(1.0, row[figure.key] / largest * (WIDTH - VALUE_WIDTH))
    bar = 'fill="%s"' % ACCENT if ours else 'fill="currentColor" fill-opacity="0.35"'
    return [
        '<text x="0" y="%g"%s>%s</text>' % (top + 12, ' font-weight="600"' if ours else "", escape(row["title"])),
        '<rect x="0" y="%g" width="%.1f" height="%d" rx="2" %s/>' % (top + LABEL, length, BAR, bar),
        '<text x="%.1f" y="%g">%s</text>' % (length + 6, top + LABEL + 12, figure.form % (
            row[figure.key] * figure.scale))]


def svg(results: Mapping[str, Any], figure: Figure, alone: bool = False) -> str:
    """One figure of all servers that have it, as bars below each other; `alone`: for a file of its own."""
    rows: Dict[str, Any] = {name: row for name, row in results["rows"].items() if figure.key in row}
    largest = max([row[figure.key] for row in rows.values()] + [1e-9])
    height = TITLE + len(rows) * (LABEL + BAR + GAP)
    edge = MARGIN if alone else 0
    size = (WIDTH + 2 * edge, height + 2 * edge)
    lines = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="%d %d %d %d" role="img" fill="currentColor" '
             'font-family="sans-serif" font-size="%d">' % (-edge, -edge, *size, TEXT),
             "<title>%s</title>" % escape(figure.title)]
    if alone:
        lines += [STYLE, '<path class="ground" d="M%g %gh%dv%dh-%dz"/>' % (
            0.5 - edge, 0.5 - edge, size[0] - 1, size[1] - 1, size[0] - 1)]
    lines += ['<text x="0" y="12" font-weight="600">%s</text>' % escape(figure.title),
              '<text x="0" y="28" fill-opacity="0.7">%s</text>' % escape(figure.better)]
    for number, (name, row) in enumerate(rows.items()):
        lines += _bar(TITLE + number * (LABEL + BAR + GAP), row, figure, largest, name.startswith(OURS))
    return "\n".join(lines + ["</svg>"]) + "\n"


def write(results: Mapping[str, Any], folder: str, prefix: str = "") -> None:
    """A file in `folder` for each figure."""
    os.makedirs(folder, exist_ok=True)
    for figure in figures(results):
        with open(os.path.join(folder, prefix + figure.key + ".svg"), "w", encoding="utf-8") as file:
            file.write(svg(results, figure, alone=True))


def main(arguments: Sequence[str]) -> int:
    """Write a file for each figure; 2 for wrong arguments."""
    if len(arguments) != 2:
        print("usage: python benchmarks/charts.py RESULTS.json FOLDER", file=sys.stderr)
        return 2
    with open(arguments[0], encoding="utf-8") as file:
        write(json.load(file), arguments[1])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
