"""Pictures (SVG) of what `make bench` measured.

In: the JSON file that `bench.py --json FILE` writes.  Out: one SVG for each of FIGURES, as text for docs/, or as files:
`python benchmarks/charts.py FILE FOLDER`.  It measures nothing and needs Python only.  Text and bars take the colour of
the text around the picture, so that it is readable on a dark page, too; ours have one of their own.
"""
from __future__ import annotations

import json
import os
import sys
from typing import Any, Dict, List, NamedTuple
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

# Units of the picture, which scales with the page; a phone shows it at about three quarters.
WIDTH, VALUE_WIDTH, BAR, LABEL, GAP, TITLE, TEXT = 480, 70, 14, 17, 10, 40, 13
OURS = "luafcgid2"
ACCENT = "#2f7fd1"


class Figure(NamedTuple):
    """A column of the table.  `key` in a row, `form` of the number, `scale` from the unit of the file to ours."""

    key: str
    title: str
    better: str
    form: str = "%.0f"
    scale: float = 1.0


FIGURES = (
    Figure("rate", "Requests per second", "longer is better"),
    Figure("cpu", "CPU time for one request, in microseconds", "shorter is better", "%.1f"),
    Figure("p50", "Median time to the answer (p50), in milliseconds", "shorter is better", "%.2f"),
    Figure("pss", "Memory, in MB (PSS)", "shorter is better", "%.1f", 1 / 1048576),
)


def _bar(top: float, row: Mapping[str, Any], figure: Figure, largest: float, ours: bool) -> List[str]:
    length = max(1.0, row[figure.key] / largest * (WIDTH - VALUE_WIDTH))
    bar = 'fill="%s"' % ACCENT if ours else 'fill="currentColor" fill-opacity="0.35"'
    return [
        '<text x="0" y="%g"%s>%s</text>' % (top + 12, ' font-weight="600"' if ours else "", escape(row["title"])),
        '<rect x="0" y="%g" width="%.1f" height="%d" rx="2" %s/>' % (top + LABEL, length, BAR, bar),
        '<text x="%.1f" y="%g">%s</text>' % (length + 6, top + LABEL + 12, figure.form % (
            row[figure.key] * figure.scale))]


def svg(results: Mapping[str, Any], figure: Figure) -> str:
    """One figure of all servers, as bars below each other."""
    rows: Dict[str, Any] = results["rows"]
    largest = max(row[figure.key] for row in rows.values())
    height = TITLE + len(rows) * (LABEL + BAR + GAP)
    lines = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" fill="currentColor" '
             'font-family="sans-serif" font-size="%d">' % (WIDTH, height, TEXT),
             "<title>%s</title>" % escape(figure.title),
             '<text x="0" y="12" font-weight="600">%s</text>' % escape(figure.title),
             '<text x="0" y="28" fill-opacity="0.7">%s</text>' % escape(figure.better)]
    for number, (name, row) in enumerate(rows.items()):
        lines += _bar(TITLE + number * (LABEL + BAR + GAP), row, figure, largest, name.startswith(OURS))
    return "\n".join(lines + ["</svg>"]) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write a file for each figure; 2 for wrong arguments."""
    if len(arguments) != 2:
        print("usage: python benchmarks/charts.py RESULTS.json FOLDER", file=sys.stderr)
        return 2
    with open(arguments[0], encoding="utf-8") as file:
        results = json.load(file)
    os.makedirs(arguments[1], exist_ok=True)
    for figure in FIGURES:
        with open(os.path.join(arguments[1], figure.key + ".svg"), "w", encoding="utf-8") as file:
            file.write(svg(results, figure))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
