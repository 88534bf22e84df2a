"""Manual pages as text: man(7) macros, escaped.

In: words.  Out: lines of roff that groff and mandoc set without a warning.  manual.py calls it; it knows nothing
of what the pages say.
"""
from __future__ import annotations

import re
import textwrap
from typing import List, Tuple

_ESCAPES = {"\\": "\\e", "-": "\\-", "^": "\\(ha", "~": "\\(ti", "`": "\\(ga"}


def escape(words: str) -> str:
    """`words` as they shall be read: no character of them is a command, every hyphen can be searched for."""
    text = "".join(_ESCAPES.get(letter) or (letter if letter.isascii() else "\\[u%04X]" % ord(letter))
                   for letter in words)
    return re.sub(r"(?m)^(?=[.'])", "\\\\&", text)


def quoted(words: str) -> str:
    """`words` as one argument of a macro."""
    return '"%s"' % escape(words).replace('"', "\\(dq")


def bold(words: str) -> str:
    return "\\fB%s\\fR" % escape(words)


class Page:
    """One manual page, written from its head to its end; `str(page)` is the file.

    name: as in "luafcgid2ctl"; section: "8" or "5"; source: what it belongs to, with its version; purpose: what
    apropos(1) shows.
    """

    def __init__(self, name: str, section: str, source: str, purpose: str) -> None:
        manual = {"5": "File formats", "8": "System administration"}[section]
        # No date: the same sources make the same page on any day.
        self._lines: List[str] = [
            ".TH %s %s \"\" %s %s" % (quoted(name.upper()), section, quoted(source), quoted(manual)),
            ".nh", ".ad l"]
        self.section("Name")
        self._lines.append("%s \\- %s" % (escape(name), escape(purpose)))

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"

    def section(self, title: str) -> None:
        self._lines.append(".SH %s" % quoted(title.upper()))

    def subsection(self, title: str) -> None:
        self._lines.append(".SS %s" % quoted(title))

    def paragraphs(self, words: str) -> None:
        """Text whose paragraphs are divided by empty lines; one that opens with click's mark, a line with a backspace
        alone, keeps its lines."""
        for index, paragraph in enumerate(re.split(r"\n\s*\n", words.strip())):
            if paragraph.startswith("\b\n"):
                title, _, lines = paragraph[2:].partition("\n")
                self._lines += [".PP", escape(title)]
                self.example(textwrap.dedent(lines))
                continue
            if index or not self._lines[-1].startswith((".SH", ".SS")):
                self._lines.append(".PP")
            self._lines.append(escape(" ".join(paragraph.split())))

    def usage(self, *parts: str) -> None:
        """A line of a synopsis: the first part is typed as it is."""
        if not self._lines[-1].startswith(".SH"):
            self._lines.append(".br")
        self._lines.append(" ".join([bold(parts[0]), *map(escape, parts[1:])]))

    def item(self, term: str, words: str, rest: str = "") -> None:
        """A paragraph with a bold term before it, and `rest` of that line in plain letters."""
        self._lines += [".TP", bold(term) + (" " + escape(rest) if rest else "")]
        for index, paragraph in enumerate(re.split(r"\n\s*\n", words.strip())):
            self._lines += ([".IP"] if index else []) + [escape(" ".join(paragraph.split()))]

    def example(self, words: str) -> None:
        """Lines that are set as they are."""
        self._lines += [".RS 4", ".nf", escape(words.rstrip("\n")), ".fi", ".RE"]

    def see_also(self, *pages: Tuple[str, str]) -> None:
        """The last section: (name, section) of other pages."""
        self.section("See also")
        self._lines += ["%s(%s)%s" % (bold(name), section, "," if index + 1 < len(pages) else "")
                        for index, (name, section) in enumerate(pages)]
