"""Events as datagrams to the system's log, as syslog(3) sends them: `LogFilePath = "syslog"`.

In: the path of the socket, a facility, a formatter of logformat.py.  Out: one datagram an event,
`<priority>Nov 23 12:00:00 luafcgid2[pid]: level: message` (RFC 3164).  log.py makes it.  It never waits and
raises nothing: what a missing, restarted or full syslogd does not take is counted, and the number is sent
before the next event that it takes.
"""
from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from typing import Optional

from .logformat import MONTHS, LineFormatter, encoded, severity

NAME = "luafcgid2"
# By syslog(3): a facility's number takes the upper bits of the priority.
FACILITIES = {"user": 1, "daemon": 3, **{"local%d" % number: 16 + number for number in range(8)}}
# rsyslog's maxMessageSize; others take no more than that either.
DATAGRAM = 8192


class SyslogHandler(logging.Handler):
    """See the module's contract.  `problem` is "" or why the last event could not be sent."""

    lock: threading.RLock
    formatter: LineFormatter

    def __init__(self, path: str, facility: str, formatter: LineFormatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.problem, self.lost = "", 0
        self._path, self._facility = path, FACILITIES[facility]
        self._socket: Optional[socket.socket] = None
        self.reopen()

    def reopen(self) -> None:
        """Connect anew: who listens at the path may be another one now."""
        with self.lock, contextlib.suppress(OSError):
            self._hang_up()
            self._connect()

    def forget(self) -> None:
        """Count lost events from here on."""
        self.lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # The number first: what comes after it was not lost.
            if self.lost and self._send(self._lost_line(record)):
                self.lost = 0
            if self.lost or not self._send(self._datagram(record)):
                self.lost += 1
        except (UnicodeError, ValueError, TypeError):
            # A bad format must not end a request.
            self.lost += 1

    def close(self) -> None:
        with self.lock:
            self._hang_up()
        super().close()

    def _datagram(self, record: logging.LogRecord) -> bytes:
        moment = time.localtime(record.created)
        # English whatever the locale is, and the day padded by a space: so wants RFC 3164.
        head = "<%d>%s %2d %s %s[%d]: " % (
            self._facility << 3 | severity(record.levelno), MONTHS[moment.tm_mon - 1], moment.tm_mday,
            time.strftime("%H:%M:%S", moment), NAME, os.getpid())
        return encoded(head + self.formatter.message(record))[:DATAGRAM]

    def _lost_line(self, record: logging.LogRecord) -> bytes:
        text = "%d event%s could not be sent to %s: %s" % (self.lost, "" if self.lost == 1 else "s", self._path,
                                                           self.problem)
        return self._datagram(logging.LogRecord(record.name, logging.WARNING, "", 0, text, None, None))

    def _send(self, data: bytes) -> bool:
        try:
            try:
                self._connected().send(data)
            except BlockingIOError:
                raise
            except OSError:
                # A restarted syslogd made a new socket; the old connection stays refused for ever.
                self._hang_up()
                self._connected().send(data)
        except OSError as error:
            self.problem = error.strerror or str(error)
            return False
        return True

    def _connected(self) -> socket.socket:
        return self._socket or self._connect()

    def _connect(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            made.connect(self._path)
        except OSError as error:
            self.problem = error.strerror or str(error)
            made.close()
            raise
        self.problem, self._socket = "", made
        return made

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
