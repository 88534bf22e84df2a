"""Writes the many scripts of a hundred lines that are asked for in turn.

In: a folder and a number.  Out: the same scripts for each server that runs scripts by their names, in folders of the
shape of scripts/.  asking.py calls it.
"""
from __future__ import annotations

import os
from typing import Dict, List, Tuple

LINES = 100
# What a script consists of, four lines a function, and its end, which says hello.
FUNCTIONS: Dict[str, Tuple[str, str, str]] = {
    ".lua": ("-- Script {number}.",
             "local function part_{part}(text, number)\n  local length = #text + number * {part}\n"
             "  return length, text .. \"{part}\"\nend",
             "function main(env, con)\n  Send(\"Hello, world!\")\nend"),
    ".php": ("<?php\n// Script {number}.",
             "function part_{number}_{part}($text, $number) {{\n    $length = strlen($text) + $number * {part};\n"
             "    return [$length, $text . \"{part}\"];\n}}",
             "echo \"Hello, world!\";"),
}
OTHER_ENDS = {
    "wsapi": "return function()\n  return 200, { [\"Content-Type\"] = \"text/html\" }, coroutine.wrap(function()\n"
             "    coroutine.yield(\"Hello, world!\")\n  end)\nend",
    "nginx": "ngx.print(\"Hello, world!\")",
}


def text(extension: str, end: str, number: int) -> str:
    """Script `number`, of LINES lines."""
    head, function, _ = FUNCTIONS[extension]
    lines = head.format(number=number).splitlines()
    part = 0
    last = end.splitlines()
    while len(lines) + 4 + len(last) <= LINES:
        part += 1
        lines += function.format(number=number, part=part).splitlines()
    comment = "//" if extension == ".php" else "--"
    lines += ["%s filler" % comment] * (LINES - len(lines) - len(last))
    return "\n".join([*lines, *last]) + "\n"


def names(count: int) -> List[str]:
    """Names of `count` scripts, without folder and extension."""
    return ["s%04d" % number for number in range(count)]


def write(folder: str, count: int) -> None:
    """`count` scripts for each server."""
    kinds = [("", extension, ends[2]) for extension, ends in FUNCTIONS.items()]
    kinds += [(below, ".lua", end) for below, end in OTHER_ENDS.items()]
    for below, extension, end in kinds:
        os.makedirs(os.path.join(folder, below), exist_ok=True)
        for number, name in enumerate(names(count)):
            with open(os.path.join(folder, below, name + extension), "w", encoding="utf-8") as file:
                file.write(text(extension, end, number))
