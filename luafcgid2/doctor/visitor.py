"""Tries things as another user: one FastCGI request, and the way to a file.

In: an Identity (None: as we are), what to try.  Out: an `Outcome`, or the first obstacle.  Each try runs in a
child process that has become that user for good, so that the kernel decides, with groups and ACLs, and not a
look at mode bits.  facts.py and page.py call it.
"""
from __future__ import annotations

import codecs
import grp
import json
import os
import pwd
import select
import signal
import stat
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from .. import client
from ..errors import ProtocolError
from ..privileges import Identity, become

SLACK_SECONDS = 5.0


class Outcome(NamedTuple):
    """What became of one request.

    `status` is that of the answer, or 0; then `errno` is the system's error number (0 for others) and
    `message` the error.  `head_size` counts the bytes of the header block.
    """

    status: int
    errno: int = 0
    message: str = ""
    stderr: str = ""
    head_size: int = 0
    body_size: int = 0
    late: bool = False


def as_user(identity: Optional[Identity], seconds: float, function: Callable, *arguments: Any) -> Any:
    """What `function` returns in a child process that is `identity`; it must be JSON.  OSError when the child
    dies or takes longer than `seconds`."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(reader)
            become(identity)
            os.write(writer, json.dumps([function(*arguments)]).encode())
            code = 0
        except Exception as error:
            os.write(writer, json.dumps({"error": repr(error)}).encode())
        finally:
            os._exit(code)
    os.close(writer)
    try:
        said = os.read(reader, 65536) if select.select([reader], [], [], seconds)[0] else b""
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    found = json.loads(said or '{"error": "no answer"}')
    if isinstance(found, dict):
        raise OSError("the process that tried it as %s failed: %s" % (
            identity.name if identity else "another", found["error"]))
    return found[0]


def ask(identity: Optional[Identity], address: str, params: Dict[str, str], seconds: float) -> Outcome:
    """Send one FastCGI request as `identity`; an error is an Outcome, too."""
    # Looking up a host loads it, which that user may not be allowed to: Python can lie in root's home.
    codecs.lookup("idna")
    try:
        return Outcome(*as_user(identity, seconds + SLACK_SECONDS, _ask, address, params, seconds))
    except OSError as error:
        return Outcome(0, message=str(error))


def _ask(address: str, params: Dict[str, str], seconds: float) -> Outcome:
    try:
        answer = client.request(address, params, timeout=seconds)
    except TimeoutError as error:
        return Outcome(0, message=str(error), late=True)
    except OSError as error:
        return Outcome(0, error.errno or 0, error.strerror or str(error))
    except ProtocolError as error:
        return Outcome(0, message=str(error))
    stderr = answer.stderr.decode("utf-8", "backslashreplace")[:2000]
    return Outcome(answer.status, 0, "", stderr, len(answer.raw) - len(answer.body), len(answer.body))


def obstacle(identity: Optional[Identity], path: str, right: int) -> Tuple[str, str]:
    """(kind, path): what keeps `identity` from `path`: "missing" or "closed" and the first part of it that is,
    "denied" when the file itself refuses `right` (os.R_OK, os.W_OK), ("", "") for nothing."""
    found = as_user(identity, SLACK_SECONDS, _obstacle, path, right)
    return found[0], found[1]


def _obstacle(path: str, right: int) -> Tuple[str, str]:
    path = os.path.abspath(path)
    folders = [path]
    while folders[-1] != "/":
        folders.append(os.path.dirname(folders[-1]))
    for folder in reversed(folders[1:]):
        if not os.path.exists(folder):
            return "missing", folder
        if not os.access(folder, os.X_OK):
            return "closed", folder
    if not os.path.lexists(path):
        return "missing", path
    return ("", "") if os.access(path, right) else ("denied", path)


def describe(path: str) -> str:
    """ "mode 0660, owner www-data:www-data" of a file; OSError without one."""
    status = os.stat(path)
    return "mode %04o, owner %s:%s" % (stat.S_IMODE(status.st_mode), user_name(status.st_uid),
                                       group_name(status.st_gid))


def user_name(uid: int) -> str:
    """The name of a uid, or its number as text."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """The name of a gid, or its number as text."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
