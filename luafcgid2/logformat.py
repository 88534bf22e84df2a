"""What a line of a log looks like: as text, or as one JSON object.

In: a logging.LogRecord.  Out: the line as bytes, ended by one newline.  log.py and syslogger.py print events with
it, accesslog.py borrows the escapes and the dates.  A caller may hang fields on a record by logging's `extra`:
`script` and `uri` (text), `seconds` (a number), `traceback` (text).  It opens and writes nothing.
"""
from __future__ import annotations

import logging
import os
import re
import time
from typing import Any, Callable, Dict, Union

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FIELDS = ("script", "uri", "seconds", "traceback")
# A message may hold what a client sent: no control character may reach the terminal of who reads the log, and
# a further line is indented, so that it cannot pass for an event of its own.
ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if code not in (9, 10)}
ESCAPES[10] = "\n    "
# What JSON itself lets stand in a string and a terminal obeys.
_JSON_ESCAPED = re.compile("[\x7f-\x9f]")


def severity(level: int) -> int:
    """The severity of syslog(3) and of sd-daemon(3) for a level of the logging module."""
    if level >= logging.CRITICAL:
        return 2
    if level >= logging.ERROR:
        return 3
    if level >= logging.WARNING:
        return 4
    return 6 if level >= logging.INFO else 7


def zone(moment: time.struct_time) -> str:
    """The offset from UTC as RFC 3339 writes it: +02:00."""
    minutes = moment.tm_gmtoff // 60
    return "%s%02d:%02d" % ("-" if minutes < 0 else "+", abs(minutes) // 60, abs(minutes) % 60)


def rfc3339(seconds: float) -> str:
    """A wall clock time (seconds since 1970) in local time, with milliseconds and zone."""
    moment = time.localtime(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + ".%03d" % (seconds % 1 * 1000) + zone(moment)


def readable(text: Union[str, bytes]) -> str:
    r"""Text that UTF-8 can hold: a byte that is no UTF-8 becomes \xHH."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return data.decode("utf-8", "backslashreplace")


class LineFormatter(logging.Formatter):
    """`2026-11-23 12:00:00.123 [pid] level: message`; the time is local.

    A message that does not name its record's `script` has it in front; a `traceback` stands below.
    """

    def __init__(self) -> None:
        super().__init__("%(message)s")

    def message(self, record: logging.LogRecord) -> str:
        """`level: message`; further lines are indented."""
        text = super().format(record)
        script = getattr(record, "script", "")
        if script and script not in text:
            text = "%s: %s" % (script, text)
        traceback = getattr(record, "traceback", "")
        if traceback:
            text += "\n" + traceback
        return "%s: %s" % (record.levelname.lower(), text.rstrip("\n").translate(ESCAPES))

    def line(self, record: logging.LogRecord) -> bytes:
        """The line for a file."""
        day = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        # os.getpid(), not record.process: the logging module may cache that over a fork.
        return encoded("%s.%03d [%d] %s\n" % (day, int(record.msecs), os.getpid(), self.message(record)))

    def format(self, record: logging.LogRecord) -> str:
        return self.line(record).decode("utf-8", "surrogateescape")


class JsonFormatter(LineFormatter):
    """One object a line: time (RFC 3339, milliseconds, zone), pid, level, message, and the FIELDS there are."""

    def __init__(self) -> None:
        super().__init__()
        self._dumps = json_dumps()

    def message(self, record: logging.LogRecord) -> str:
        found: Dict[str, Any] = {
            "time": rfc3339(record.created), "pid": os.getpid(), "level": record.levelname.lower(),
            "message": readable(logging.Formatter.format(self, record).rstrip("\n"))}
        for name in FIELDS:
            value = getattr(record, name, None)
            if value not in (None, ""):
                found[name] = readable(value) if isinstance(value, (str, bytes)) else value
        return self._dumps(found)

    def line(self, record: logging.LogRecord) -> bytes:
        return encoded(self.message(record) + "\n")


def formatter(name: str) -> LineFormatter:
    """The formatter of a LogFormat, "text" or "json"."""
    return JsonFormatter() if name == "json" else LineFormatter()


def json_dumps() -> Callable[[Dict[str, Any]], str]:
    """A function that makes one line of JSON, without control characters, of a dictionary."""
    # Here: who logs text does not pay for the module.
    import json
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode
    return lambda found: _JSON_ESCAPED.sub(lambda one: "\\u%04x" % ord(one.group()), encode(found))


def encoded(text: str) -> bytes:
    """Text as the bytes that it came from, whatever they are."""
    return text.encode("utf-8", "surrogateescape")
