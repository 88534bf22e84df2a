"""What luafcgid2ctl does to a server in the background: find it, start it, signal it, wait for it.

In: the Config of the server, or its path.  Out: a running or a stopped server, a line on the terminal, or a
ControlError whose exit code is that of the LSB table for init scripts.  Only ctl.py calls it.  Whether a server runs
is told by the lock on its pid file, never by a number that it may hold.
"""
from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from typing import Any, Dict, List

import click

from . import rerun
from .errors import ConfigError, ControlError
from .orders import NOTE, await_outcome
from .pidfile import PidFile, Probe, probe
from .ready import VARIABLE, wait_for

# LSB 5.0, "Init Script Actions": the exit codes of everything but status.
FAILED, NO_RIGHTS, NOT_CONFIGURED, NOT_RUNNING = 1, 4, 6, 7
KILL_SECONDS = 5.0              # how long the kernel may need after SIGKILL
SLACK_SECONDS = 5.0             # what a master may need beyond its StopTimeout
STEP_SECONDS = 0.02
SERVER = (*rerun.module("luafcgid2"), "run")


def load(path: str) -> Any:
    """The configuration in the file; ConfigError."""
    from . import config as configuration
    return configuration.load(path)


def load_or_defaults(path: str, usual: str) -> Any:
    """The configuration in the file, or the defaults where the `usual` path names none: a machine to write scripts on
    needs no server.  ConfigError."""
    from . import config as configuration
    return configuration.defaults() if path == usual and not os.path.exists(path) else load(path)


def master_of(config: Any) -> int:
    """The pid of the master, 0 when none runs or that cannot be told."""
    try:
        return running(config)
    except ControlError:
        return 0


def find(path: str) -> Any:
    """The configuration of a server that may run already.  While its file has a mistake, what can be read of it,
    or else the defaults, are enough if they lead to a running server; if not, ConfigError."""
    from . import config as configuration
    try:
        return load(path)
    except ConfigError as error:
        try:
            config = configuration.load(path, lenient=True)
        except ConfigError:
            config = configuration.defaults(**_guess_pid_file(path))
        if not config.pid_file or probe(config.pid_file).state != "running":
            raise
        click.echo(f"luafcgid2ctl: {error}\nluafcgid2ctl: going on with the server of {config.pid_file}", err=True)
        return config


def _guess_pid_file(path: str) -> Dict[str, str]:
    """What a file that is no Lua any more seems to say of PidFile."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = re.findall(r"""^\s*PidFile\s*=\s*["']([^"'\n]+)["']""", file.read(), re.MULTILINE)
    except OSError:
        return {}
    return {"pid_file": found[-1]} if found else {}


def look(config: Any) -> Probe:
    """What the pid file tells; ControlError when it cannot be read."""
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


def start(config: Any, user: str, timeout: float) -> None:
    """Start the server; returns when it is ready, else ControlError with its error."""
    found = look(config)
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
            server = subprocess.Popen(  # nosec B603  # ourselves; no shell, the words are an administrator's
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


def running(config: Any) -> int:
    """The pid of the master.  ControlError when none runs."""
    found = look(config)
    if found.state != "running":
        raise ControlError("luafcgid2 is not running", NOT_RUNNING)
    return found.pid


def send(config: Any, number: int) -> int:
    """Signal the master; its pid.  ControlError when none runs or it may not be signalled."""
    pid = _trusted(config)
    try:
        os.kill(pid, number)
    except OSError as error:
        raise ControlError(f"pid {pid}: {error.strerror}", NO_RIGHTS) from error
    return pid


def _trusted(config: Any) -> int:
    """The pid of the master.  ControlError when none runs or the pid file may name a process of somebody else."""
    found = look(config)
    if found.state != "running":
        raise ControlError("luafcgid2 is not running", NOT_RUNNING)
    if not found.trusted:
        raise ControlError(f"{config.pid_file} names pid {found.pid}, a process that its owner could not "
                           "signal: nothing is done", NO_RIGHTS)
    return found.pid


def trace(config: Any, pid: int, timeout: float) -> str:
    """What the threads of worker `pid` run, or of all workers (0), with Lua tracebacks, as text.  ControlError when
    there is no such worker."""
    from .scoreboard import READY, Scoreboard
    master = _trusted(config)
    try:
        workers = [(number, slot) for number, slot in Scoreboard.of(master).workers()
                   if slot.state >= READY and pid in (0, slot.pid)]
        if not workers:
            raise ControlError(f"pid {pid} is no worker of this server (master: pid {master})", FAILED)
        return "\n".join(f"worker {number + 1} (pid {slot.pid}): {_trace(slot, master, timeout)}"
                         for number, slot in workers)
    except (OSError, LookupError) as error:
        raise ControlError(f"pid {pid or master}: {error}", NO_RIGHTS) from error


def _trace(slot: Any, master: int, timeout: float) -> str:
    from .snapshot import shown
    before, deadline, pid = slot.traced, time.monotonic() + timeout, slot.pid
    # Workers write the scoreboard: a script that got at its own memory shall neither have root signal a process of
    # somebody else, nor send control characters to root's terminal.
    if os.stat(f"/proc/{pid}").st_uid != os.stat(f"/proc/{master}").st_uid:
        return "it is a process of somebody else: nothing is done"
    os.kill(pid, signal.SIGUSR2)
    while slot.traced == before:
        if time.monotonic() > deadline:
            return f"it does not answer within {timeout:g} s"
        time.sleep(STEP_SECONDS)
    lines = slot.trace.replace(b"\t", b"    ").split(b"\n")
    return "\n    ".join(shown(line) for line in lines) or "nothing runs"


def order(config: Any, number: int, timeout: float, done: str, refused: str) -> str:
    """Have the master reload or upgrade by signal `number`, and wait for what becomes of it: a line to print.
    ControlError with its reason when nothing changed, or after `timeout` seconds."""
    from .scoreboard import Scoreboard
    try:
        header = Scoreboard.of(running(config)).header
    except (OSError, LookupError):
        # Not root, or no /proc: it can be asked, but not watched.
        return f"luafcgid2 was asked (pid {send(config, number)}); its log says what became of it"
    asked = header.asked
    pid = send(config, number)
    outcome = await_outcome(header, asked, pid, timeout)
    if outcome and not outcome.startswith(NOTE):
        raise ControlError(f"{refused}: {outcome}", FAILED)
    return f"{done} (pid {look(config).pid})" + (f"; {outcome[len(NOTE):]}" if outcome else "")


def stop(config: Any) -> None:
    """Stop the server and wait for it, StopTimeout and a little more; then by SIGKILL."""
    found = look(config)
    if found.state == "stale":
        # Taking the file and letting it go removes it.
        with PidFile(config.pid_file):
            click.echo(f"luafcgid2 was dead; {config.pid_file} is removed")
        return
    if found.state == "absent":
        click.echo("luafcgid2 is not running")
        return
    pid = send(config, signal.SIGTERM)
    if not _gone(config, pid, config.stop_timeout + SLACK_SECONDS):
        send(config, signal.SIGKILL)
        if not _gone(config, pid, KILL_SECONDS):
            raise ControlError(f"luafcgid2 (pid {pid}) does not stop", FAILED)
    click.echo(f"luafcgid2 is stopped (pid {pid})")


def _gone(config: Any, pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look(config)
        if found.state != "running" or found.pid != pid:
            return True
        time.sleep(STEP_SECONDS)
    return False
