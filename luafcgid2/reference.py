"""Renders what the tables know: the sample configuration file, and the tables in README.rst and docs/security.rst.

In: OPTIONS and CHANGES.  Out: text on standard output.  `make sample` and `make docs` call it for whoever edits the
tables; the server never does.  Tests keep these files equal to what is made here.
"""
from __future__ import annotations

import sys
import textwrap
from typing import Callable, Dict, List
from collections.abc import Iterable, Sequence

from .changes import CHANGES
from .options import OPTIONS, Option, show

_HEAD = """\
-- Configuration of luafcgid2.
-- This file is a Lua 5.3 program; what it leaves in these global variables counts.  Lines commented out
-- show the defaults, or an example where the default is empty.  To test it:  luafcgid2 -t config.lua
-- Made from the table of options by  python -m luafcgid2.reference sample
"""
_CONFIG_EXAMPLE = """\
Config = {
  greeting = "Hello",
  -- what the virtual host blog.example.org sees as LocalConfig
  ["blog.example.org"] = { title = "Blog" },
}
"""
# What bounds something is one of these, or a number of such a kind in such a group.
_LIMIT_KINDS = ("int", "bytes", "size", "seconds")
_LIMITS = ("Workers", "WorkerThreads", "MaxRequests", "MaxWorkerMemory", "StopTimeout", "AllowedClients")
_LIMIT_GROUPS = ("Listener", "Lua states", "Scripts", "Requests", "Supervision", "Shared")
# Lowercase like the keys of the C luafcgid, and none of them: the C++ one's sample file has it.
_CPP_SPELLING = "entrypoint"
_OLD_NAMES = {"luafcgid2": "C++ luafcgid2", "luafcgid": "C luafcgid", "new": "new"}


def sample() -> str:
    """The sample etc/config.lua."""
    parts = [_HEAD]
    group = ""
    for option in OPTIONS:
        if option.effect == "ignored":
            continue
        if option.group != group:
            group = option.group
            parts.append("\n---- %s\n" % group)
        parts.append("\n" + _comment(option) + _setting(option))
    return "".join(parts)


def _comment(option: Option) -> str:
    words = option.doc
    if option.unit:
        words += " In %s." % option.unit
    if option.choices:
        words += " One of %s." % ", ".join(show(choice) for choice in option.choices)
    return "".join("-- %s\n" % line for line in textwrap.wrap(words, 100, break_long_words=False))


def _setting(option: Option) -> str:
    if option.name == "Config":
        return _CONFIG_EXAMPLE
    value = option.default if option.example is None else option.example
    return "%s%s = %s\n" % ("" if option.active else "-- ", option.name, show(value))


def rst() -> str:
    """The README's table of configuration keys, a reStructuredText list-table."""
    rows = []
    for option in OPTIONS:
        default = "" if option.effect == "ignored" or option.name == "Config" else _code(show(option.default))
        names = _code(option.name)
        older = [alias for alias in option.aliases if alias.lower() != option.name.lower()]
        spellings = [alias for alias in option.aliases if alias not in older]
        rows.append((names, default, _OLD_NAMES[option.since], ", ".join(_code(a) for a in older),
                     _meaning(option, spellings)))
    return _list_table(("Key", "Default", "Since", "C luafcgid", "Meaning"), (20, 18, 12, 12, 38), rows)


def _meaning(option: Option, spellings: Sequence[str]) -> str:
    words = _escape(option.doc)
    if option.minimum is not None or option.choices:
        words += " Allowed: %s." % _escape(option.allowed())
    if spellings:
        words += " Also written %s." % ", ".join(_code(alias) for alias in spellings)
    return words


def settings_rst() -> str:
    """The configuration reference of docs/: a section for each group, each key a `setting` (docs/_ext/pages.py)."""
    lines: List[str] = []
    group = ""
    for option in OPTIONS:
        if option.group != group:
            group = option.group
            lines += [group, "-" * len(group), ""]
        shown = option.effect == "used" and option.name != "Config"
        lines += [".. setting:: %s%s" % (option.name, " = " + show(option.default) if shown else ""), "",
                  "   " + _meaning(option, option.aliases), ""]
        if option.example is not None:
            lines += ["   Example: %s" % _code("%s = %s" % (option.name, show(option.example))), ""]
        if option.since != "new":
            lines += ["   A key of the %s." % _OLD_NAMES[option.since], ""]
    return "\n".join(lines)


def old_keys_rst() -> str:
    """The keys of the C luafcgid, and what they are called now, for docs/."""
    rows = [(_code(alias), ":setting:`%s`" % option.name if option.effect == "used" else "", _escape(option.doc))
            for option in OPTIONS for alias in (option.name,) + option.aliases
            if alias.islower() and alias != _CPP_SPELLING]
    return _list_table(("C luafcgid", "Now", "Meaning"), (16, 24, 60), sorted(rows))


def limits_rst() -> str:
    """The table of limits in docs/security.rst."""
    rows = [(_code(option.name), _code(show(option.default)), _escape(option.doc)) for option in OPTIONS
            if option.name in _LIMITS or option.kind in _LIMIT_KINDS and option.group in _LIMIT_GROUPS]
    return _list_table(("Key", "Default", "Meaning"), (24, 14, 62), rows)


def changes_rst() -> str:
    """The README's table of what changes for users of the C++ luafcgid2."""
    rows = [(change.area, _escape(change.before), _escape(change.now), _escape(change.advice))
            for change in CHANGES]
    return _list_table(("Area", "C++ luafcgid2", "Now", "What to do"), (10, 32, 34, 24), rows)


def _list_table(titles: Sequence[str], widths: Sequence[int], rows: Iterable[Sequence[str]]) -> str:
    lines: List[str] = [".. list-table::", "   :header-rows: 1",
                        "   :widths: " + " ".join(str(width) for width in widths), ""]
    for row in [titles] + list(rows):
        for index, cell in enumerate(row):
            lines.append("   %s - %s" % (" " if index else "*", cell))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _code(words: str) -> str:
    return "``%s``" % words


def _escape(words: str) -> str:
    # Characters that mean something in reStructuredText, as they occur in the tables.
    for character in "\\*`|_":
        words = words.replace(character, "\\" + character)
    return words


def readme() -> str:
    """README.rst of the current directory with its generated tables as they are now."""
    return _filled("README.rst", (("options", rst()), ("changes", changes_rst())))


def security() -> str:
    """docs/security.rst of the current directory with its generated table as it is now."""
    return _filled("docs/security.rst", (("limits", limits_rst()),))


def _filled(path: str, tables: Iterable[Sequence[str]]) -> str:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for mark, table in tables:
        before, opening, rest = text.partition(".. begin %s\n" % mark)
        _old, closing, after = rest.partition(".. end %s\n" % mark)
        text = before + opening + "\n" + table.strip() + "\n\n" + closing + after
    return text


_DOCUMENTS: Dict[str, Callable[[], str]] = {"sample": sample, "rst": rst, "changes": changes_rst,
                                           "settings": settings_rst, "luafcgid": old_keys_rst, "readme": readme,
                                           "security": security}


def main(arguments: Sequence[str]) -> int:
    """Print the document that the one argument names; 2 if there is none of that name."""
    if len(arguments) != 1 or arguments[0] not in _DOCUMENTS:
        sys.stderr.write("usage: python -m luafcgid2.reference %s\n" % "|".join(_DOCUMENTS))
        return 2
    sys.stdout.write(_DOCUMENTS[arguments[0]]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
