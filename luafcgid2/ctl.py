"""The command `luafcgid2ctl`: start, stop and question a server in the background.

In: a verb and the configuration that the server runs with.  Out: an exit code of the LSB table for init
scripts, and one line that says what happened.  Called by the console script, by init.d/luafcgid2 and by
logrotate.  Whether a server runs is told by the lock on its pid file, never by a number that it may hold.
This module runs no server in its own process.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, Callable

import click

from . import __version__, control
from .control import FAILED, NOT_CONFIGURED
from .errors import ConfigError, ControlError, Error, ListenError

DEFAULT_CONFIG = "/etc/luafcgid2/config.lua"
STATUS_STALE, STATUS_STOPPED, STATUS_UNKNOWN = 1, 3, 4     # of status, by the same table


@click.group()
@click.option("-c", "--config", "path", metavar="CONFIG", type=click.Path(), default=DEFAULT_CONFIG,
              show_default=True, help="The server's configuration file.")
@click.version_option(__version__, prog_name="luafcgid2ctl", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context, path: str) -> None:
    """Control a luafcgid2 server in the background."""
    ctx.obj = os.path.abspath(path)


def verb(unusable: int = NOT_CONFIGURED) -> Callable:
    """Make a click command of a function that takes the configuration's path.

    unusable: the exit code when the configuration cannot be used.  Errors become one line and an exit code.
    """
    def wrap(function: Callable) -> click.Command:
        @click.pass_obj
        def command(path: str, **options: Any) -> None:
            try:
                function(path, **options)
            except (ConfigError, ListenError) as error:
                _fail(error, unusable)
            except Error as error:
                _fail(error, error.exit_code)
        command.__doc__ = function.__doc__
        command.__click_params__ = getattr(function, "__click_params__", [])
        return main.command(function.__name__)(command)
    return wrap


def _fail(error: Error, code: int) -> None:
    click.echo(f"luafcgid2ctl: {error}", err=True)
    sys.exit(code)


start_options = [
    click.option("--user", default="", help="User to become when root starts it and CONFIG names none."),
    click.option("--timeout", default=60.0, show_default=True, help="Seconds until it must be ready."),
]


def with_start_options(function: Callable) -> Callable:
    """The options that start and restart share."""
    for option in reversed(start_options):
        function = option(function)
    return function


@verb()
@with_start_options
def start(path: str, user: str, timeout: float) -> None:
    """Start the server; return when it accepts connections, or with its error."""
    control.start(control.load(path), user, timeout)


@verb()
def stop(path: str) -> None:
    """Stop the server when the requests under way are answered."""
    control.stop(control.find(path))


@verb()
@with_start_options
def restart(path: str, user: str, timeout: float) -> None:
    """Stop and start; a configuration that cannot be used leaves the server running."""
    config = control.load(path)
    from .check import check
    check(path)
    control.stop(config)
    control.start(config, user, timeout)


@verb(unusable=FAILED)
@click.option("--timeout", default=60.0, show_default=True, help="Seconds until it must be done.")
def reload(path: str, timeout: float) -> None:
    """Make the server load its scripts and its configuration anew; no request fails.

    Exit code 1 when the configuration cannot be used: the server goes on with the one that it has.
    """
    config = control.find(path)
    click.echo(control.order(config, signal.SIGHUP, timeout, "luafcgid2 has reloaded",
                      "luafcgid2 keeps its old configuration"))


@verb(unusable=FAILED)
@click.option("--timeout", default=70.0, show_default=True, help="Seconds until it must be done.")
def upgrade(path: str, timeout: float) -> None:
    """Hand over to newly installed code; no request fails.

    A new master takes the socket, the old one finishes its requests and leaves. Exit code 1 when the new one does
    not start: the old one goes on.
    """
    config = control.find(path)
    click.echo(control.order(config, signal.SIGUSR2, timeout, "luafcgid2 has a new master",
                      "luafcgid2 keeps its old master"))


@verb()
def reopen(path: str) -> None:
    """Make the server open its log file anew, after logrotate moved it away."""
    pid = control.send(control.find(path), signal.SIGUSR1)
    click.echo(f"luafcgid2 reopens its log (pid {pid})")


@verb(unusable=STATUS_UNKNOWN)
@click.option("--full", is_flag=True, help="Add a summary, as on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known, as JSON.")
def status(path: str, full: bool, as_json: bool) -> None:
    """Tell whether the server runs: 0 yes, 1 dead with a pid file left, 3 no, 4 unknown."""
    config = control.find(path)
    try:
        found = control.look(config)
    except ControlError as error:
        raise ControlError(str(error), STATUS_UNKNOWN) from error
    if found.state == "running":
        _report(found.pid, config, full or sys.stdout.isatty(), as_json)
        return
    if found.state == "stale":
        click.echo(f"luafcgid2 is dead: pid {found.pid} left {config.pid_file}", err=as_json)
        sys.exit(STATUS_STALE)
    click.echo("luafcgid2 is not running", err=as_json)
    sys.exit(STATUS_STOPPED)


def _report(pid: int, config: Any, full: bool, as_json: bool) -> None:
    from .watch import report
    if not as_json:
        click.echo(f"luafcgid2 is running (pid {pid})")
    try:
        if full or as_json:
            click.echo(report(pid, config, as_json))
    except ControlError as error:
        # It runs, and that is what the exit code tells; but no program shall take nothing for JSON.
        _fail(error, STATUS_UNKNOWN if as_json else 0)


@verb()
@click.option("--interval", default=2.0, show_default=True, type=click.FloatRange(0.1), help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Print one table and end.")
def top(path: str, interval: float, once: bool) -> None:
    """Show workers, requests under way and scripts, live."""
    from .top import run
    config = control.find(path)
    run(lambda: control.running(config), config, interval, once)


@verb()
@click.argument("pid", type=click.IntRange(0), default=0)
@click.option("--timeout", default=5.0, show_default=True, help="Seconds to wait for each worker.")
def trace(path: str, pid: int, timeout: float) -> None:
    """Print what a worker's threads run now, with the Lua traceback; without PID that of all workers."""
    click.echo(control.trace(control.find(path), pid, timeout))


@verb(unusable=ConfigError.exit_code)
def check(path: str) -> None:
    """Test the configuration and print the effective settings."""
    from .check import check as check_file
    click.echo(check_file(path))


@main.command()
@click.argument("config", type=click.Path(), required=False)
@click.pass_obj
def migrate(path: str, config: str) -> None:
    """Tell what changes for CONFIG, a file of the C++ luafcgid2 or of the C luafcgid."""
    from .migrate import report_file
    try:
        click.echo(report_file(os.path.abspath(config) if config else path))
    except Error as error:
        _fail(error, error.exit_code)


@main.command()
@click.option("--url-path", "url", metavar="PATH", default="", help="A page, as /x.lua or http://host/x.lua.")
@click.option("--script", metavar="FILE", default="", help="A page, by its file.")
@click.option("--user", default="", help="Ask as this user; by default as the web server's.")
@click.option("--nginx", metavar="FILE", default="", help="nginx's configuration, instead of the running one's.")
@click.option("--lighttpd", metavar="FILE", default="", help="lighttpd's configuration.")
@click.option("--timeout", "seconds", default=5.0, show_default=True, help="Seconds to wait for an answer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def doctor(path: str, **asked: Any) -> None:
    """Say why a page does not come, and what to change; 0: nothing is wrong."""
    from .doctor.report import run
    try:
        sys.exit(run(path, **asked))
    except Error as error:
        _fail(error, FAILED)


if __name__ == "__main__":
    main(prog_name="luafcgid2ctl")
