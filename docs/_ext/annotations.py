"""The annotation file for editors (luafcgid2/types/luafcgid2.lua) as data, and as the API reference.

In: its text.  Out: `parse` gives sections of entries; `names` what a script sees; `rst` reStructuredText whose
directive `luaname` and role `lua` pages.py defines.  It knows as much of LuaLS's annotations as that file uses, and
raises ValueError, with the line, for anything else.
"""
from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Set, Tuple
from collections.abc import Iterable

_TAG = re.compile(r"---@(\w+) ?(.*)")
_FUNCTION = re.compile(r"function ([\w.:]+)\(([^)]*)\) end")
_TABLE = re.compile(r"(local )?(\w+) = (\{\}|nil|true|2)")
# A name -> the role that links to it.
Links = Dict[str, str]
# Kinds of brackets inside which a blank does not end a type.
_OPENING, _CLOSING = "{[(<", "}])>"


class Value(NamedTuple):
    """A parameter, result or field: `name` may be empty for a result."""

    name: str
    type: str
    text: str


class Entry:
    """One name: a function, a table or a value.  `name` is as scripts write it."""

    def __init__(self) -> None:
        self.name = self.signature = self.type = self.kind = ""
        self.words: List[str] = []
        self.parameters: List[Value] = []
        self.results: List[Value] = []
        self.fields: List[Value] = []
        self.overloads: List[str] = []

    @property
    def text(self) -> str:
        """What it is, in one paragraph."""
        return " ".join(self.words)


class Section(NamedTuple):
    """A heading of the file and what stands below it."""

    title: str
    entries: List[Entry]


def _split(text: str) -> Tuple[str, str]:
    """A type and the words behind it."""
    depth = 0
    for at, char in enumerate(text):
        depth += (char in _OPENING) - (char in _CLOSING)
        if char == " " and not depth and text[at - 1] not in ":,":
            return text[:at], text[at + 1:]
    return text, ""


def _tagged(entry: Entry, tag: str, rest: str) -> None:
    if tag in ("param", "field"):
        found = re.match(r"(\.\.\.|[\w.]+|\[\w+\])(\??) (.*)", rest)
        if not found:
            raise ValueError("@%s %s" % (tag, rest))
        kind, words = _split(found[3])
        values = entry.parameters if tag == "param" else entry.fields
        values.append(Value(found[1], kind + found[2], words))
    elif tag == "return":
        kind, words = _split(rest)
        name, _, words = words.partition(" ")
        entry.results.append(Value(name, kind, words))
    elif tag == "class":
        entry.kind = rest
    elif tag == "type":
        entry.type = rest
    elif tag == "overload":
        entry.overloads.append(rest)
    elif tag not in ("meta", "alias"):
        raise ValueError("@" + tag)


def parse(text: str) -> List[Section]:
    """The sections of an annotation file."""
    sections = [Section("", [])]
    entry = Entry()
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entry = _line(line, entry, sections)
        except ValueError as error:
            raise ValueError("line %d: %s" % (number, error)) from None
    return [section for section in sections if section.entries]


def _line(line: str, entry: Entry, sections: List[Section]) -> Entry:
    """Takes one line; the entry that the next one belongs to."""
    tag, function, table = _TAG.fullmatch(line), _FUNCTION.fullmatch(line), _TABLE.fullmatch(line)
    if tag:
        _tagged(entry, tag[1], tag[2])
    elif line.startswith("---"):
        entry.words.append(line[3:])
    elif line.startswith("-- "):
        if line.endswith(":"):
            sections.append(Section(line[3:-1], []))
    elif function or table:
        entry.name = function[1] if function else table[2]
        entry.signature = "%s(%s)" % (function[1], function[2]) if function else ""
        sections[-1].entries.append(entry)
        return Entry()
    elif line:
        raise ValueError(line)
    # Between a class and the variable of that class there may be an empty line.
    return entry if line or entry.kind else Entry()


def names(sections: List[Section]) -> Set[str]:
    """What a script sees: globals, and the functions in them as `lf.get`; `con:puts` for methods."""
    hidden = {entry.name for section in sections for entry in section.entries if entry.name in ("con", "File")}
    return {entry.name for section in sections for entry in section.entries} - hidden


def _types(text: str) -> str:
    text, optional = (text[:-1], ", optional") if text.endswith("?") else (text, "")
    return "``%s``%s" % (text.replace("luafcgid2.", ""), optional)


def _linked(text: str, known: Links) -> str:
    """`code` of Markdown: a link where it is a name that has a place."""
    def code(found: "re.Match[str]") -> str:
        role = known.get(found[1].split("(")[0])
        return ":%s:`%s <%s>`" % (role, found[1], found[1].split("(")[0]) if role else "``%s``" % found[1]
    return re.sub(r"`([^`]*)`", code, text)


def _values(values: List[Value], known: Links) -> List[str]:
    lines = []
    for value in values:
        head = "**%s**" % value.name.replace("...", "\\...") if value.name else ""
        words = _linked(value.text, known)
        lines.append("   * %s" % " ".join(part for part in (head, "(%s)" % _types(value.type), words) if part))
    return lines


def _entry(entry: Entry, known: Links) -> List[str]:
    kind = entry.type or entry.kind
    lines = [".. luaname:: " + (entry.signature or entry.name), ""]
    for overload in entry.overloads:
        lines.insert(1, "             " + re.sub(r"^fun", entry.name, overload.split(":")[0]))
    if entry.words:
        lines += ["   " + _linked(entry.text, known), ""]
    if not entry.signature and kind and not kind.startswith("luafcgid2."):
        lines += ["   Type: %s" % _types(kind), ""]
    fields = "Fields of " + _types(entry.kind) if entry.signature else "Fields"
    for title, values in (("Parameters", entry.parameters), ("Gives", entry.results), (fields, entry.fields)):
        if values:
            lines += ["   %s:" % title, ""] + _values(values, known) + [""]
    return lines


def rst(sections: List[Section], settings: Iterable[str]) -> str:
    """The API reference, without a title; names of `settings` lead to the configuration reference."""
    known = dict.fromkeys(settings, "setting")
    known.update(dict.fromkeys(names(sections), "lua"))
    lines: List[str] = []
    for section in sections:
        lines += [section.title, "-" * len(section.title), ""]
        for entry in section.entries:
            lines += _entry(entry, known)
    return "\n".join(lines)
