"""The manual pages luafcgid2(8), luafcgid2ctl(8) and luafcgid2-config(5), made from what the programs know.

In: the click commands, the OPTIONS table, the master's signal handlers.  Out: roff on standard output, or a file
for each page in a directory.  `make man` and `make install` call it, so that a page is never older than the
program; the server never does.  The same sources make the same pages.
"""
from __future__ import annotations

import inspect
import os
import signal
import sys
from typing import Callable, Dict, List, Tuple
from collections.abc import Sequence

import click

from . import __version__, cli, ctl
from .errors import BootError, ConfigError
from .master import HANDLERS
from .options import OPTIONS, Option, show
from .roff import Page

SOURCE = "luafcgid2 " + __version__
OLD_NAMES = {"luafcgid": "the C luafcgid", "luafcgid2": "the C++ luafcgid2"}
SERVER_EXIT = (
    ("0", "It was told to stop, and has."),
    ("1", "The listener or the pid file cannot be had."),
    ("2", "The command line has a mistake."),
    (str(BootError.exit_code), "No worker can boot."),
    (str(ConfigError.exit_code), "The configuration cannot be used; nothing was started."),
)
CONTROL_EXIT = (
    ("0", "Done. For status: it runs."),
    ("1", "Not done. For status: it is dead and has left its pid file."),
    ("2", "The command line has a mistake."),
    ("3", "For status: it does not run."),
    ("4", "No right to do that. For status: whether it runs cannot be told."),
    ("6", "The configuration cannot be used."),
    ("7", "The server does not run."),
)
ENVIRONMENT = (
    ("LISTEN_FDS, LISTEN_PID", "The socket that systemd passes; it goes before Listen."),
    ("NOTIFY_SOCKET", "Where systemd is told that the server is ready, reloads and stops."),
    ("WATCHDOG_USEC, WATCHDOG_PID", "How often systemd wants a sign of life."),
)
FILES = (
    (ctl.DEFAULT_CONFIG, "The configuration; see luafcgid2-config(5)."),
    ("/etc/default/luafcgid2", "Settings of the init script and of the systemd unit."),
    ("/var/log/luafcgid2/luafcgid2.log", "The log, unless LogFilePath says otherwise."),
    ("/var/tmp/luafcgid2.sock",  # nosec B108  # a line of the manual
     "Where the web server connects to, unless Listen says otherwise."),
)
CONFIG_INTRO = """\
The configuration of luafcgid2 is a Lua 5.3 program; what it leaves in the global variables below counts. A key that
is not set has its default. A mistake (a wrong type, a value out of range, a syntax error, a key that is spelt
wrong) is told with file, line, key and what is allowed.

"luafcgid2 -t FILE" tests a file and prints the settings in effect. "luafcgid2ctl migrate FILE" tells what changes
for a file of the C++ luafcgid2 or of the C luafcgid.
"""
CONFIG_EXAMPLE = """\
Workers       = 2
Listen        = "/var/tmp/luafcgid2.sock"
SessionStore  = "sqlite:///var/lib/luafcgid2/state.db"
Config        = { greeting = "Hello" }
"""


def server_page() -> str:
    """luafcgid2(8)."""
    page = Page("luafcgid2", "8", SOURCE, "FastCGI server for Lua scripts")
    _commands(page, "luafcgid2", cli.main)
    page.section("Signals")
    page.paragraphs("The master takes these:")
    for number, method in HANDLERS.items():
        if number != signal.SIGCHLD:
            page.item(signal.Signals(number).name, inspect.cleandoc(method.__doc__))
    _items(page, "Exit status", SERVER_EXIT)
    _items(page, "Environment", ENVIRONMENT)
    _items(page, "Files", FILES)
    page.see_also(("luafcgid2ctl", "8"), ("luafcgid2-config", "5"), ("nginx", "8"), ("lighttpd", "8"))
    return str(page)


def control_page() -> str:
    """luafcgid2ctl(8)."""
    page = Page("luafcgid2ctl", "8", SOURCE, "control a luafcgid2 server in the background")
    _commands(page, "luafcgid2ctl", ctl.main)
    _items(page, "Exit status", CONTROL_EXIT)
    _items(page, "Files", FILES)
    page.see_also(("luafcgid2", "8"), ("luafcgid2-config", "5"))
    return str(page)


def config_page() -> str:
    """luafcgid2-config(5)."""
    page = Page("luafcgid2-config", "5", SOURCE, "configuration file of luafcgid2")
    page.section("Description")
    page.paragraphs(CONFIG_INTRO)
    page.section("Keys")
    group = ""
    for option in OPTIONS:
        if option.group != group:
            group = option.group
            page.subsection(group)
        default = "" if option.effect == "ignored" or option.name == "Config" else "= " + show(option.default)
        page.item(option.name, _meaning(option), default)
    page.section("Example")
    page.example(CONFIG_EXAMPLE)
    _items(page, "Files", FILES[:1])
    page.see_also(("luafcgid2", "8"), ("luafcgid2ctl", "8"))
    return str(page)


def _meaning(option: Option) -> str:
    words = option.doc
    if option.effect != "ignored":
        words += " Allowed: %s." % option.allowed()
    if option.aliases:
        words += " Also written: %s." % ", ".join(option.aliases)
    if option.since in OLD_NAMES:
        words += " Known from %s." % OLD_NAMES[option.since]
    return words


def _items(page: Page, title: str, rows: Sequence[Sequence[str]]) -> None:
    page.section(title)
    for term, words in rows:
        page.item(term, words)


def _commands(page: Page, name: str, group: click.Group) -> None:
    """The synopsis, the description and the commands of a program."""
    outer = click.Context(group, info_name=name)
    inner = {verb: click.Context(command, info_name=verb, parent=outer) for verb, command in group.commands.items()}
    page.section("Synopsis")
    page.usage(name, *group.collect_usage_pieces(outer))
    page.section("Description")
    page.paragraphs(inspect.cleandoc(group.help or ""))
    page.section("Options")
    _options(page, outer)
    page.section("Commands")
    for verb, context in inner.items():
        pieces = context.command.collect_usage_pieces(context)
        page.subsection(" ".join([verb, *(pieces if _records(context) else pieces[1:])]))
        page.paragraphs(inspect.cleandoc(context.command.help or ""))
        _options(page, context)


def _options(page: Page, context: click.Context) -> None:
    for record in _records(context):
        page.item(*record)


def _records(context: click.Context) -> List[Tuple[str, str]]:
    """(spellings, meaning) of a command's own options."""
    options = [one for one in context.command.params if isinstance(one, click.Option)]
    return [record for record in (one.get_help_record(context) for one in options) if record]


PAGES: Dict[str, Callable[[], str]] = {
    "luafcgid2.8": server_page, "luafcgid2ctl.8": control_page, "luafcgid2-config.5": config_page}


def main(arguments: List[str]) -> int:
    """Print the page that the one argument names, or write them all into the directory that it names; 2 if it is
    neither."""
    if len(arguments) == 1 and arguments[0] in PAGES:
        sys.stdout.write(PAGES[arguments[0]]())
        return 0
    if len(arguments) != 1 or not os.path.isdir(arguments[0]):
        sys.stderr.write("usage: python -m luafcgid2.manual DIRECTORY|%s\n" % "|".join(PAGES))
        return 2
    for name, make in PAGES.items():
        with open(os.path.join(arguments[0], name), "w", encoding="utf-8") as file:
            file.write(make())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
