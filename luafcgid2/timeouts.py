"""Which connections are waited for, until when, and why they are closed then: the three time-outs of a connection.

In: connections of poller.py after each read or send, the time (monotonic seconds).  Out: their `deadline` and
`reason`; those that are overdue are closed, with a line in the log.  A connection is touched under its lock only.

Rules.  HeaderTimeout: the params of a request must be whole so long after their first byte, or after the connection,
however they trickle.  ReadTimeout: an unfinished request must move on by PROGRESS bytes in each such span.
SendTimeout: some of an answer must be taken in each.  0 sets no bound.  Between two requests there is none.
"""
from __future__ import annotations

from collections import Counter
from math import inf
from typing import Any, List, Set

from .complaints import Complaints

# Less than this in the whole of ReadTimeout is a client that holds a connection, not one that is slow.
PROGRESS = 1024
# Seconds in which one over MaxConnections must begin.
EXTRA_PATIENCE = 1.0
# Seconds between two looks: there may be a thousand connections to look at.
CHECK_PAUSE = 0.25


def full(most: int) -> str:
    """Why a connection is closed when there are `most` already."""
    return "MaxConnections (%d) reached" % most


class Timeouts:
    """See the module's contract.  header, read, send: in seconds, 0 = none; most: MaxConnections.  `waiting`:
    connections that have a deadline, or wait for room to send."""

    def __init__(self, header: float, read: float, send: float, most: int, complaints: Complaints) -> None:
        self._complaints, self._next_check = complaints, 0.0
        self._header, self._read, self._send = header or inf, read or inf, send or inf
        self._reasons = {"header": "the params of a request were not whole after HeaderTimeout (%g s)" % header,
                         "extra": full(most),
                         "silent": "nothing came for ReadTimeout (%g s)" % read,
                         "middle": "nothing came for ReadTimeout (%g s) in the middle of a request" % read,
                         "trickle": "fewer than %d bytes came in ReadTimeout (%g s)" % (PROGRESS, read),
                         "send": "the web server took nothing of an answer for SendTimeout (%g s)" % send}
        self.waiting: Set[Any] = set()

    def wait_for(self, connection: Any, now: float) -> None:
        """It has an unfinished request, was never used, or has something left to send."""
        if connection not in self.waiting:
            connection.mark, connection.head_since = -PROGRESS, 0.0
        if connection.outbox is not None:
            self._sending(connection, now)
        else:
            self._reading(connection, now)
        if connection.deadline < inf or connection.outbox is not None:
            self.waiting.add(connection)
        else:
            self.waiting.discard(connection)

    def _sending(self, connection: Any, now: float) -> None:
        # Negative, so that whatever is read afterwards is progress.
        mark = -PROGRESS - connection.outbox.size
        if connection.mark != mark:
            connection.mark, connection.moved, connection.head_since = mark, now, 0.0
        connection.deadline, connection.reason = connection.moved + self._send, self._reasons["send"]

    def _reading(self, connection: Any, now: float) -> None:
        taken = connection.taken
        if not connection.mark <= taken < connection.mark + PROGRESS:
            connection.mark, connection.moved = taken, now
        header = min(self._header, EXTRA_PATIENCE) if connection.extra else self._header
        due, head_due = connection.moved + self._read, connection.find_head_since(now) + header
        if head_due < due:
            connection.deadline, reason = head_due, "extra" if connection.extra else "header"
        else:
            connection.deadline = due
            reason = "trickle" if taken > connection.mark else "middle" if connection.partial else "silent"
        connection.reason = self._reasons[reason]

    def _gathering(self, connection: Any, now: float) -> None:
        # Nobody told of what it has read meanwhile.
        gather = connection.gather
        connection.mark, connection.moved = connection.taken - gather.since_mark, gather.moved
        self._reading(connection, now)

    def close_overdue(self, now: float) -> List[Any]:
        """Close the connections whose time is over; those that must be served, for something came meanwhile."""
        if now < self._next_check:
            return []
        self._next_check = now + CHECK_PAUSE
        reasons: Counter[str] = Counter()
        come = []
        for connection in list(self.waiting):
            if now >= connection.deadline and connection.lock.acquire(False):
                try:
                    if connection.gather is not None:
                        self._gathering(connection, now)
                    # It may have been served since it was looked at.
                    if connection in self.waiting and connection.expired(now):
                        reasons[connection.reason] += 1
                        connection.close()
                        self.waiting.discard(connection)
                finally:
                    connection.lock.release()
                if connection.pending:
                    come.append(connection)
        for reason, count in reasons.items():
            # They may be a thousand.
            closed = "connection" if count == 1 else "%d connections" % count
            self._complaints.say(reason, "%s closed: %s" % (closed, reason))
        return come
