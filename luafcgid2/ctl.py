"""The command `luafcgid2ctl`: start, stop and question a server in the background.

In: a verb and the configuration that the server runs with.  Out: an exit code of the LSB table for init
scripts, and one line that says what happened.  Called by the console script, by init.d/luafcgid2 and by
logrotate.  Whether a server runs is told by the lock on its pid file, never by a number that it may hold.
This module runs no server in its own process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any, Callable, List

import click

from . import __version__
from .errors import ConfigError, ControlError, Error, ListenError
from .pidfile import PidFile, Probe, probe
from .ready import VARIABLE, wait_for

DEFAULT_CONFIG = "/etc/luafcgid2/config.lua"
# LSB 5.0, "Init Script Actions": exit codes of start and friends, then those of status.
FAILED, NO_RIGHTS, NOT_CONFIGURED, NOT_RUNNING = 1, 4, 6, 7
STATUS_STALE, STATUS_STOPPED, STATUS_UNKNOWN = 1, 3, 4
KILL_SECONDS = 5.0              # how long the kernel may need after SIGKILL
SLACK_SECONDS = 5.0             # what a master may need beyond its StopTimeout
STEP_SECONDS = 0.02
SERVER = (sys.executable, "-m", "luafcgid2", "run")


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
    _start(_load(path), user, timeout)


@verb()
def stop(path: str) -> None:
    """Stop the server when the requests under way are answered."""
    _stop(_find(path))


@verb()
@with_start_options
def restart(path: str, user: str, timeout: float) -> None:
    """Stop and start; a configuration that cannot be used leaves the server running."""
    config = _load(path)
    from .check import check
    check(path)
    _stop(config)
    _start(config, user, timeout)


@verb()
def reload(path: str) -> None:
    """Make the server load its scripts anew; no request fails."""
    pid = _signal(_find(path), signal.SIGHUP)
    click.echo(f"luafcgid2 reloads its scripts (pid {pid})")


@verb()
def reopen(path: str) -> None:
    """Make the server open its log file anew, after logrotate moved it away."""
    pid = _signal(_find(path), signal.SIGUSR1)
    click.echo(f"luafcgid2 reopens its log (pid {pid})")


@verb(unusable=STATUS_UNKNOWN)
@click.option("--full", is_flag=True, help="Add a summary, as on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known, as JSON.")
def status(path: str, full: bool, as_json: bool) -> None:
    """Tell whether the server runs: 0 yes, 1 dead with a pid file left, 3 no, 4 unknown."""
    config = _find(path)
    try:
        found = _probe(config)
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
    config = _find(path)
    run(lambda: _running(config), config, interval, once)


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


def _load(path: str) -> Any:
    from . import config as configuration
    return configuration.load(path)


def _find(path: str) -> Any:
    """The configuration of a server that may run already.  While its file has a mistake, what can be read of it,
    or else the defaults, are enough if they lead to a running server; if not, ConfigError."""
    from . import config as configuration
    try:
        return _load(path)
    except ConfigError as error:
        try:
            config = configuration.load(path, lenient=True)
        except ConfigError:
            config = configuration.defaults()
        if not config.pid_file or probe(config.pid_file).state != "running":
            raise
        click.echo(f"luafcgid2ctl: {error}\nluafcgid2ctl: going on with the server of {config.pid_file}", err=True)
        return config


def _probe(config: Any) -> Probe:
    if not config.pid_file:
        raise ControlError("PidFile is empty: the server cannot be found without one", NOT_CONFIGURED)
    deadline = time.monotonic() + SLACK_SECONDS
    while True:
        try:
            found = probe(config.pid_file)
        except OSError as error:
            raise ControlError(f"PidFile = {config.pid_file!r}: {error.strerror}", NO_RIGHTS) from error
        # Locked but empty: a master is about to write its number, or has just removed it.
        if found.state != "running" or found.pid or time.monotonic() > deadline:
            return found
        time.sleep(STEP_SECONDS)


def _start(config: Any, user: str, timeout: float) -> None:
    found = _probe(config)
    if found.state == "running":
        click.echo(f"luafcgid2 is already running (pid {found.pid})")
        return
    words = [*SERVER, *(["--user", user] if user else []), config.path]
    pipes: List[int] = []
    try:
        ready_r, ready_w = os.pipe()
        errors_r, errors_w = os.pipe()
        pipes += [ready_r, errors_r]
        try:
            server = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors_w,
                pass_fds=(ready_w,), start_new_session=True, env=dict(os.environ, **{VARIABLE: str(ready_w)}))
        finally:
            os.close(ready_w)
            os.close(errors_w)
        ready, message, errors = wait_for(ready_r, timeout, errors_r)
    finally:
        for fd in pipes:
            os.close(fd)
    if ready:
        # It outlives us on purpose.
        server.returncode = 0
        if errors:
            click.echo(errors, err=True)
        click.echo(f"luafcgid2 is running (pid {server.pid})")
        return
    code = _end(server)
    # Its standard error repeats the message, unless it died of something else.
    raise ControlError(message or errors or f"the server ended with code {code} and said nothing",
                       NOT_CONFIGURED if code == ConfigError.exit_code else FAILED)


def _end(server: subprocess.Popen) -> int:
    """The exit code of a server that is not ready, ended if need be."""
    for number in (None, signal.SIGINT, signal.SIGKILL):
        if number is not None:
            server.send_signal(number)
        try:
            return server.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    return FAILED


def _running(config: Any) -> int:
    """The pid of the master.  ControlError when none runs."""
    found = _probe(config)
    if found.state != "running":
        raise ControlError("luafcgid2 is not running", NOT_RUNNING)
    return found.pid


def _signal(config: Any, number: int) -> int:
    """Signal the master; its pid.  ControlError when none runs or it may not be signalled."""
    found = _probe(config)
    if found.state != "running":
        raise ControlError("luafcgid2 is not running", NOT_RUNNING)
    if not found.trusted:
        raise ControlError(f"{config.pid_file} names pid {found.pid}, a process that its owner could not "
                           "signal: nothing is done", NO_RIGHTS)
    try:
        os.kill(found.pid, number)
    except OSError as error:
        raise ControlError(f"pid {found.pid}: {error.strerror}", NO_RIGHTS) from error
    return found.pid


def _stop(config: Any) -> None:
    found = _probe(config)
    if found.state == "stale":
        # Taking the file and letting it go removes it.
        with PidFile(config.pid_file):
            click.echo(f"luafcgid2 was dead; {config.pid_file} is removed")
        return
    if found.state == "absent":
        click.echo("luafcgid2 is not running")
        return
    pid = _signal(config, signal.SIGTERM)
    if not _gone(config, pid, config.stop_timeout + SLACK_SECONDS):
        _signal(config, signal.SIGKILL)
        if not _gone(config, pid, KILL_SECONDS):
            raise ControlError(f"luafcgid2 (pid {pid}) does not stop", FAILED)
    click.echo(f"luafcgid2 is stopped (pid {pid})")


def _gone(config: Any, pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = _probe(config)
        if found.state != "running" or found.pid != pid:
            return True
        time.sleep(STEP_SECONDS)
    return False


if __name__ == "__main__":
    main(prog_name="luafcgid2ctl")
