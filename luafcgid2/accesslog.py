r"""The access log: one line a request, written in batches (`AccessLogPath`, `AccessLogFormat`).

In: what `add` is told of each answered request.  Out: lines appended to the file, as "text" in the common log
format with three numbers behind it (milliseconds, milliseconds of CPU, KB of the Lua state), or as "json".

How a worker uses it (nobody else does):

- after the fork and after the privileges are dropped: `log = accesslog.open_log(config, logger)`; None: it is off;
- the server core gets `log.around(responder.respond)`, so that a worker without this log pays nothing; it calls
  `log.add` for each answer, which appends one tuple: nothing is decoded or written on the way of a response;
- the main thread: `log.flush(log.SECONDS)` at each tick, `log.flush()` before it rests and before it ends, and
  `log.reopen()` on SIGUSR1.  Only one thread at a time may call these two.

Lines stand in the order of `add` within a worker; those of several workers mix by batches.  A worker that is
killed loses what it had not flushed.  What a client sent is escaped as nginx does it: a quote, a backslash and
every byte that is no printable ASCII become \xHH.  Nothing here raises or stops a request: lines that cannot be
written, or that come faster than they are written, are counted, and a warning in the server's log says how many.
"""
from __future__ import annotations

import collections
import logging
import os
import re
import time
from typing import Any, Callable, Dict, Optional

from .errors import ProtocolError
from .logfile import LogFile
from .logformat import MONTHS, encoded, json_dumps, readable, rfc3339, zone
from .params import decode

# Looking first is ten times as fast as translating what needs it hardly ever.
_ESCAPED = re.compile(rb'[^ !#-\[\]-~]')
# A space ends a field of the common log format, except within the quotes.
_WORD_ESCAPED = re.compile(rb'[^!#-\[\]-~]')
# So many requests are kept at most when the file cannot be written fast enough; each holds its params.
MOST_WAITING = 8192
# So many make a batch before its time is over.
BATCH = 1000


class AccessLog:
    """See the module's contract.

    path: the file; style: "text" or "json"; logger: where trouble is told.  `problem` is "" or why the file could
    not be opened.
    """

    SECONDS = 1.0

    def __init__(self, path: str, style: str, logger: logging.Logger) -> None:
        self._logger = logger
        self._waiting: collections.deque[Any] = collections.deque()
        self._dropped = 0
        self._since: Optional[float] = None
        self._render = _json_renderer() if style == "json" else _text_renderer()
        self._file = LogFile(path)
        self._complain()

    @property
    def problem(self) -> str:
        if not self._file.problem:
            return ""
        lost = "; requests are not logged" if self._file.on_stderr else "; the file opened before is still in use"
        return "AccessLogPath = %r: %s%s" % (self._file.path, self._file.problem.partition(";")[0], lost)

    def add(self, params: bytes, status: int, sent_bytes: int, started_wall: float, seconds: float,
            cpu_seconds: float, heap_kb: int) -> None:
        """Take one answered request; any thread may call it.

        params: the raw PARAMS stream; status: of the answer; sent_bytes: of its body; started_wall: time.time() when
        it began; seconds: from then to the answer; cpu_seconds: of the thread meanwhile (time.thread_time_ns);
        heap_kb: of the Lua state afterwards, 0 where there was none.
        """
        if len(self._waiting) >= MOST_WAITING:
            self._dropped += 1
            return
        self._waiting.append((params, status, sent_bytes, started_wall, seconds, cpu_seconds, heap_kb))

    def around(self, respond: Callable[..., Any]) -> Callable[..., Any]:
        """The responder's function `respond`, which also tells this log."""
        def logged(params: bytes, body: Any, problem: int, seat: Any) -> Any:
            began, since, cpu = time.time(), time.monotonic(), time.thread_time_ns()
            head, rest = b"", b""
            try:
                answer = respond(params, body, problem, seat)
                head, rest = (answer, b"") if isinstance(answer, bytes) else answer[:2]
                return answer
            finally:
                stream = seat.stream
                if head or stream is not None:
                    status = stream.status if stream is not None else int(head[8:11])
                    size = len(rest) + (stream.body if stream is not None else len(head) - head.find(b"\r\n\r\n") - 4)
                    self.add(params, status, size, began, time.monotonic() - since,
                             (time.thread_time_ns() - cpu) / 1e9,
                             seat.heap or (seat.entry.heap if seat.entry else 0))
        return logged

    def flush(self, older_than: float = 0.0) -> None:
        """Write what waits, once it has waited for `older_than` seconds or makes a batch; 0: all of it."""
        waiting = self._waiting
        if not waiting:
            if not older_than and self._file.lost:
                self._write(b"")
            return
        if older_than and len(waiting) < BATCH:
            # The first tick that sees a line starts the clock: `add` is spared the look at it.
            now = time.monotonic()
            if self._since is None:
                self._since = now
            if now - self._since < older_than:
                return
        self._since = None
        # Requests that come meanwhile are for the next time, or this might not end.
        for _ in range(0, len(waiting), BATCH):
            lines = [self._render(*waiting.popleft()) for _ in range(min(BATCH, len(waiting)))]
            self._write(encoded("".join(lines)))
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._logger.warning("AccessLogPath = %r: %d requests came faster than they could be written",
                                 self._file.path, dropped)

    def reopen(self) -> None:
        """Write what waits and open the file anew by its name; a failure is a warning in the server's log."""
        self.flush()
        self._file.reopen()
        self._complain()

    def close(self) -> None:
        """Write what waits and let go of the file."""
        self.flush()
        self._file.close()

    def _write(self, data: bytes) -> None:
        if self._file.on_stderr:
            # There was never a file, and standard error is no place for it.
            self._file.lost += data.count(b"\n")
            self._file.reason = self._file.problem
            return
        lost, missing = self._file.lost, self._file.missing()
        if self._file.append(data) and lost:
            self._logger.warning("AccessLogPath = %r: %s", self._file.path, missing)

    def _complain(self) -> None:
        if self.problem:
            self._logger.warning("%s", self.problem)


def open_log(config: Any, logger: logging.Logger) -> Optional[AccessLog]:
    """The access log that the Config asks for; None where it asks for none."""
    if not config.access_log_path:
        return None
    return AccessLog(config.access_log_path, config.access_log_format, logger)


def _fields(params: bytes) -> Dict[bytes, bytes]:
    try:
        return decode(params)
    except ProtocolError:
        return {}


def _escape(pattern: re.Pattern[bytes], value: bytes) -> str:
    if pattern.search(value):
        value = pattern.sub(lambda found: b"\\x%02X" % found.group()[0], value)
    return value.decode("ascii")


def _text_renderer() -> Callable[..., str]:
    # The date is the same for all the requests of a second.
    dates: Dict[int, str] = {}

    def date(second: int) -> str:
        found = dates.get(second)
        if found is None:
            moment = time.localtime(second)
            dates.clear()
            # English whatever the locale is: readers of this format know no other.
            found = dates[second] = "%02d/%s/%s %s" % (
                moment.tm_mday, MONTHS[moment.tm_mon - 1], time.strftime("%Y:%H:%M:%S", moment),
                zone(moment).replace(":", ""))
        return found

    def render(params: bytes, status: int, size: int, started: float, seconds: float, cpu: float, heap: int) -> str:
        get = _fields(params).get

        line = b"%s %s %s" % (get(b"REQUEST_METHOD", b"-"), get(b"REQUEST_URI", b"-"), get(b"SERVER_PROTOCOL", b"-"))
        return '%s - %s [%s] "%s" %d %s %.3f %.3f %d\n' % (
            _escape(_WORD_ESCAPED, get(b"REMOTE_ADDR") or b"-"), _escape(_WORD_ESCAPED, get(b"REMOTE_USER") or b"-"),
            date(int(started)), _escape(_ESCAPED, line), status, size or "-", seconds * 1000, cpu * 1000, heap)
    return render


def _json_renderer() -> Callable[..., str]:
    dumps = json_dumps()

    def render(params: bytes, status: int, size: int, started: float, seconds: float, cpu: float, heap: int) -> str:
        get = _fields(params).get
        found: Dict[str, Any] = {"time": rfc3339(started), "pid": os.getpid()}
        for name, key in ((b"REMOTE_ADDR", "remote_addr"), (b"REMOTE_USER", "remote_user"),
                          (b"REQUEST_METHOD", "method"), (b"REQUEST_URI", "uri"), (b"SERVER_PROTOCOL", "protocol")):
            found[key] = readable(get(name, b""))
        found.update(status=status, bytes=size, ms=round(seconds * 1000, 3), cpu_ms=round(cpu * 1000, 3), heap_kb=heap)
        return dumps(found) + "\n"
    return render
