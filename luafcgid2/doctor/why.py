"""Why no answer came: one sentence and what to change, for each way in which a request can fail.

In: facts, a visitor, the Outcome of a request that has no status.  Out: `(text, change)`.  The checks call it.  A
sentence opens with the status that a browser shows then: nginx answers 502 and 504, lighttpd 503 and 504.
"""
from __future__ import annotations

import errno
import os
from typing import Tuple

from .facts import Facts, Visitor
from .visitor import Outcome, describe, group_name, obstacle

START = "start it: luafcgid2ctl start, or sudo service luafcgid2 start"


def why_no_answer(facts: Facts, visitor: Visitor, address: str, outcome: Outcome) -> Tuple[str, str]:
    """Why a request of `visitor` to `address` got no answer, and what to change."""
    bad = "503" if visitor.server == "lighttpd" else "502"
    if outcome.late:
        return ("504: %s takes the connection, but gives no answer within %g seconds" % (
            address, facts.asked.seconds), "the workers hang or are all busy: look for slow scripts in %s, set more "
            "Workers or WorkerThreads, or luafcgid2ctl restart" % _log(facts))
    reason = _REASONS.get(outcome.errno)
    if reason is None:
        return ("%s: %s: %s" % (bad, address, outcome.message or os.strerror(outcome.errno)),
                "look into %s; is it luafcgid2 that listens there?" % _log(facts))
    text, change = reason(facts, visitor, address)
    return "%s: %s" % (bad, text), change


def _log(facts: Facts) -> str:
    return facts.config.log_file_path or "the log"


def _missing(facts: Facts, visitor: Visitor, address: str) -> Tuple[str, str]:
    text = "there is no socket %s" % address
    if facts.running and address != facts.target:
        return text, 'write "fastcgi_pass unix:%s;" (lighttpd: "socket") where the web server names %s' % (
            facts.target, address)
    if facts.running:
        return (text + ", though the server runs",
                "somebody removed the file, or Listen was changed since the start: luafcgid2ctl restart")
    return text, START


def _denied(facts: Facts, visitor: Visitor, address: str) -> Tuple[str, str]:
    kind, part = obstacle(visitor.identity, address, os.W_OK)
    if kind == "closed":
        return ("%s may not enter %s (%s), where the socket is" % (visitor.user, part, describe(part)),
                "chmod o+x %s, or move Listen to a directory that everybody may enter" % part)
    if not kind:
        return ("the kernel keeps %s from %s (%s)" % (visitor.user, address, describe(address)),
                "look whether SELinux or AppArmor forbids it")
    return ("%s may not write to %s (%s)" % (visitor.user, address, describe(address)),
            'set ListenMode = "0660" and ListenGroup = "%s" in %s, then luafcgid2ctl restart' % (
                group_name(visitor.identity.gid if visitor.identity else os.getegid()), facts.path or "config.lua"))


def _refused(facts: Facts, visitor: Visitor, address: str) -> Tuple[str, str]:
    if facts.running and address != facts.target:
        return ("nobody listens on %s; luafcgid2 listens on %s" % (address, facts.target),
                "name the address of Listen in the web server's configuration")
    return "nobody listens on %s" % address, START


def _full(facts: Facts, visitor: Visitor, address: str) -> Tuple[str, str]:
    waiting = " (%d wait, ListenBacklog gives room for %d)" % facts.queue if facts.queue else ""
    return ("the backlog of %s is full%s" % (address, waiting),
            "the workers hang or are too few: look for slow scripts in %s, set more Workers or WorkerThreads, or "
            "luafcgid2ctl restart" % _log(facts))


_REASONS = {errno.ENOENT: _missing, errno.ENOTDIR: _missing, errno.EACCES: _denied, errno.EPERM: _denied,
            errno.ECONNREFUSED: _refused, errno.EAGAIN: _full}
