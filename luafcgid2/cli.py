"""The command `luafcgid2`: run the server in the foreground, test a configuration, serve a directory.

In: a command line that start.py leaves to it.  Out: an exit code, as there.  Called by start.py, and by manual.py for
the manual page.  A first word that is no command is the configuration file, as in the ancestor.  What is heavy is
imported where it is used.
"""

from __future__ import annotations

import sys
from typing import List

import click
from click.shell_completion import CompletionItem

from . import __version__
from .errors import Error
from .start import DEFAULT_COMMAND, DEFAULT_CONFIG, foreground, keep_standard_descriptors

OWN_OPTIONS = ("--help", "--version")


class CommandOrConfig(click.Group):
    """A group in which anything but a command or the group's own options belongs to `run`."""

    def parse_args(self, ctx: click.Context, args: List[str]) -> List[str]:
        # The shell's completion asks about a command line that has no first word yet: both are possible then.
        unfinished = ctx.resilient_parsing and not args
        if not unfinished and (not args or (args[0] not in self.commands and args[0] not in OWN_OPTIONS)):
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> List[CompletionItem]:
        """The commands that begin so; if there is none, the shell looks for a configuration file."""
        return super().shell_complete(ctx, incomplete) or click.Path().shell_complete(ctx, self, incomplete)


@click.group(cls=CommandOrConfig, subcommand_metavar="[-t] [CONFIG] | serve [DIR]")
@click.version_option(__version__, prog_name="luafcgid2", message="%(prog)s %(version)s")
def main() -> None:
    """A pre-fork FastCGI server that runs Lua scripts.

    With a configuration file, or none for config.lua in the current directory, it serves in the foreground
    until SIGTERM (when the requests under way are done) or SIGINT (at once). See also luafcgid2ctl.
    """
    keep_standard_descriptors()


@main.command(DEFAULT_COMMAND)
@click.option("-t", "--test", is_flag=True, help="Test the configuration, print the settings, start nothing.")
@click.option("--user", default="", help="User to become when root starts a server whose CONFIG sets none.")
@click.argument("config", type=click.Path(), default=DEFAULT_CONFIG)
def run(test: bool, user: str, config: str) -> None:
    """Serve with CONFIG in the foreground (the word run may be left out)."""
    if not test:
        sys.exit(foreground(config, user))
    from .check import check
    try:
        click.echo(check(config))
    except Error as error:
        click.echo(f"luafcgid2: {error}", err=True)
        sys.exit(error.exit_code)


@main.command()
@click.argument("directory", metavar="[DIR]", type=click.Path(), default=".")
@click.option("--http", metavar="HOST:PORT", default="127.0.0.1:8080", show_default=True,
              help="Where to answer HTTP.")
@click.option("--live/--no-live", default=True, show_default=True,
              help="Renew the page in the browser when a file is saved.")
def serve(directory: str, http: str, live: bool) -> None:
    """Serve DIR over HTTP, for development: files, index.html and Lua scripts.

    A page in the browser renews itself when a file below DIR is saved. Errors of scripts are shown in the page, with
    source, traceback and Env. Each request is one line on the terminal (NO_COLOR=1: without colours).

    \b
    Examples:
      luafcgid2 serve                          # this folder, on http://127.0.0.1:8080/
      luafcgid2 serve site --http 0.0.0.0:80   # for the whole network, as root
      luafcgid2 serve site --no-live           # pages stay as they are
    """
    from . import serve as server
    try:
        sys.exit(server.main(directory, http, live=live))
    except Error as error:
        click.echo(f"luafcgid2: {error}", err=True)
        sys.exit(error.exit_code)
