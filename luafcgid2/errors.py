"""The project's own exceptions; every module raises these and nothing else on purpose.

What goes in: a message that names the thing and the value.  What comes out: an exception whose class
says who must act: `status` is the HTTP status of errors that end one request, `exit_code` the exit code of
errors that end a process (78 is EX_CONFIG of sysexits.h).  Anyone may raise and catch them.  This module
formats no pages and writes no log.
"""


class Error(Exception):
    """Base of every error that luafcgid2 raises on purpose."""

    status = 500
    exit_code = 1


class ConfigError(Error):
    """The configuration cannot be used: nothing is started."""

    exit_code = 78


class ProtocolError(Error):
    """The web server's bytes break FastCGI 1.0: that connection is closed."""


class ListenError(Error):
    """The listener cannot be opened."""


class SessionError(Error):
    """The session store cannot be used."""


class ScriptError(Error):
    """A script does not compile, or raised an error.

    `traceback` is the Lua traceback as text ("" where there is none).
    """

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class ScriptNotFound(Error):
    """No such script below the allowed roots."""

    status = 404


class ScriptForbidden(Error):
    """The script exists but must not, or cannot, be read."""

    status = 403


class RequestTooLarge(Error):
    """The request's body is over MaxPostSize."""

    status = 413


class RequestRefused(Error):
    """What the client sent is nothing that its script can use: it gets this HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ParamsTooLarge(Error):
    """The request's params, its headers among them, are over MaxParamsSize or MaxParams (RFC 6585, section 5)."""

    status = 431


class NoRoom(Error):
    """The disk is too full for the request's body."""

    status = 507


class ScriptTimeout(ScriptError):
    """The script ran longer than it may."""

    status = 504


class ScriptMemory(ScriptError):
    """The script wanted more memory than there is for it."""


class Unavailable(Error):
    """The request is refused for now: its script is in quarantine, or memory is short.

    `wait` is how many seconds the client shall wait, for Retry-After.
    """

    status = 503

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.wait = wait


class ControlError(Error):
    """A verb of luafcgid2ctl failed; `exit_code` follows the LSB table."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class BootError(Error):
    """A worker cannot boot: starting another would fail in the same way."""

    exit_code = 3
