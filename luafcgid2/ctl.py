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
UNUSABLE = 2                                              # of lint
STATUS_STALE, STATUS_STOPPED, STATUS_UNKNOWN = 1, 3, 4     # of status, by the same table


@click.group()
@click.option("-c", "--config", "path", metavar="CONFIG", type=click.Path(), default=DEFAULT_CONFIG,
              show_default=True, help="The server's configuration file.")
@click.version_option(__version__, prog_name="luafcgid2ctl", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context, path: str) -> None:
    """Control a luafcgid2 server in the background, and help to write its scripts.

    \b
    Examples:
      luafcgid2ctl status                # does it run, and how does it fare
      luafcgid2ctl doctor --help          # each verb says more
      luafcgid2ctl new blog              # begin a site
      luafcgid2ctl lint blog/www         # check its scripts
      luafcgid2ctl failed                # what went wrong lately
    """
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


@verb()
@click.argument("id", default="")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def failed(path: str, id: str, as_json: bool) -> None:
    """List the last failed requests; with ID, show one.

    A request is listed when its script failed, ran too long or brought its worker down. The server keeps the last
    KeepFailedRequests of them in memory, with cookies and credentials masked.

    \b
    Examples:
      luafcgid2ctl failed             # what went wrong lately
      luafcgid2ctl failed 1.3         # params, body and traceback of one
      luafcgid2ctl replay 1.3         # run it again
    """
    from . import failed as requests
    entries = requests.load(control.running(control.find(path)))
    if id:
        entries = [requests.find(entries, id)]
    click.echo(requests.as_json(entries) if as_json else
               requests.details(entries[0]) if id else requests.listing(entries))


@verb()
@click.argument("id", default="")
@click.option("--param", "changes", metavar="NAME=VALUE", multiple=True, help="Set a param, such as HTTP_COOKIE.")
def replay(path: str, id: str, changes: tuple) -> None:
    """Run a failed request again, in a fresh Lua state.

    It prints the answer, or the error with its traceback, and the times. Without ID it is the latest. The script
    runs for real, as the server's user: what it writes stays. The exit code
    is 1 when it fails again, and 0 when it does not.

    \b
    Examples:
      luafcgid2ctl replay                                # the latest
      luafcgid2ctl replay 1.3                            # ID as `failed` lists it
      luafcgid2ctl replay 1.3 --param HTTP_COOKIE=a=b    # cookies are masked: give your own
    """
    from . import failed as requests
    config = control.find(path)
    pid = control.running(config)
    outcome = requests.replay(config, pid, requests.find(requests.load(pid), id), changes)
    click.echo(outcome.text)
    if outcome.error:
        click.echo(outcome.error, err=True)
    sys.exit(FAILED if outcome.failed else 0)


@verb(unusable=ConfigError.exit_code)
def check(path: str) -> None:
    """Test the configuration and print the effective settings."""
    from .check import check as check_file
    click.echo(check_file(path))


@verb(unusable=UNUSABLE)
@click.argument("dir", type=click.Path(), default="")
def lint(path: str, dir: str) -> None:
    """Find errors and accidental globals in scripts.

    Every script below DIR is compiled by the Lua that runs it; none runs. DIR is that of ScriptRoots, or the
    current one. Globals need luacheck (Debian: lua-check); a .luacheckrc in DIR
    counts. The exit code is 0 when nothing is wrong, 1 when something is, 2 when nothing could be looked at.

    \b
    Examples:
      luafcgid2ctl lint                  # everything that the server may run
      luafcgid2ctl lint www              # before `git commit`
    """
    from . import lint as linter
    config = control.load_or_defaults(path, DEFAULT_CONFIG)
    problems = 0
    for folder in [dir] if dir else config.script_roots or (".",):
        try:
            report = linter.lint(config, folder)
        except ControlError as error:
            _fail(error, UNUSABLE)
        problems += len(report.problems)
        click.echo(linter.shown(report, "."))
    sys.exit(FAILED if problems else 0)


@verb(unusable=FAILED)
@click.argument("name", type=click.Path())
def new(path: str, name: str) -> None:
    """Begin a site in a new folder NAME.

    It writes a first script and snippets for nginx and lighttpd. Nothing is overwritten: when one of the files is
    there, none is written.

    \b
    Examples:
      luafcgid2ctl new blog              # blog/www/index.lua, blog/nginx.conf, blog/lighttpd.conf
      luafcgid2 serve blog/www           # look at it: http://127.0.0.1:8080/
    """
    from . import starter
    click.echo(starter.create(control.load_or_defaults(path, DEFAULT_CONFIG), name))


@verb(unusable=FAILED)
@click.argument("script", type=click.Path(exists=True, dir_okay=False))
@click.option("--env", "params", metavar="NAME=VALUE", multiple=True, help="Set a value of Env.")
@click.option("--body", default="", help="What Receive() gives.")
def repl(path: str, script: str, params: tuple, body: str) -> None:
    """Open a Lua prompt in a state of SCRIPT.

    The top level of SCRIPT has run, its globals are there. An expression prints its value, and what Send() sent is
    shown. Each piece of code is a request of its own: locals
    end with it. It runs for real: what it writes stays. Ctrl-C stops code that runs, Ctrl-D ends, .help tells more.
    With standard input from a file or a pipe the exit code is 1 when anything failed.

    \b
    Examples:
      luafcgid2ctl repl www/index.lua
      > main()                                        # what a visitor gets
      > lf.parse("a=1&b=2")                           # { a = "1", b = "2" }
      luafcgid2ctl repl www/index.lua --env QUERY_STRING=name=Ann
      echo 'main()' | luafcgid2ctl repl www/index.lua # in a test
    """
    from . import repl as prompt
    values = {}
    for each in params:
        name, equals, value = os.fsencode(each).partition(b"=")
        if not name or not equals:
            raise ControlError(f"{each!r} is not NAME=VALUE")
        values[name] = value
    config = control.load_or_defaults(path, DEFAULT_CONFIG)
    sys.exit(0 if prompt.run(config, control.master_of(config), script, values, os.fsencode(body)) else FAILED)


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
