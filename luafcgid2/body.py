"""The body of one request while it arrives: in memory while small, in an unlinked temporary file when large.

In: pieces of the STDIN stream, the limits.  Out: bytes or a file to read from its start, and an HTTP status if
the body cannot be used.  fcgi.py feeds it.  It knows no records and answers nothing.
"""
from __future__ import annotations

import logging
from typing import Any, List, Optional, Sequence, Set, Tuple, Union

from .errors import ProtocolError

Buffer = Union[bytes, memoryview]
# A client that goes on sending a refused body is read this far (bytes) so that it sees the answer.
DISCARD_LIMIT = 64 << 20
# Bodies up to so many bytes are not counted together.
SMALL = 65536


class Limits:
    """What a connection may ask of us.  Sizes in bytes: of params, of a body, of what is kept in memory of one body,
    of all answers that wait and of all bodies that arrive; counts of pairs in params, and of requests on a connection
    (0: any).

    `plain_params`: params up to this size need not be looked at, because a pair takes two bytes at least; `plain_body`:
    nor a body up to that.
    """

    __slots__ = ("max_params", "max_pairs", "plain_params", "plain_body", "max_body", "body_memory", "temp_dir",
                 "send_memory", "max_requests", "receive_memory")

    def __init__(self, max_params: int, max_body: int, body_memory: int, temp_dir: Optional[str], send_memory: int,
                 max_pairs: int = 4096, max_requests: int = 0, receive_memory: int = 16 << 20) -> None:
        self.max_params, self.max_pairs, self.max_body, self.body_memory = max_params, max_pairs, max_body, body_memory
        self.receive_memory = receive_memory
        self.plain_body = min(max_body, body_memory)
        self.plain_params = min(max_params, 2 * max_pairs)
        self.temp_dir, self.send_memory, self.max_requests = temp_dir or None, send_memory, max_requests


def crowded(bodies: Set[Any], limits: Limits) -> bool:
    """Whether the bodies in memory take more than ReceiveMemory."""
    held: int = sum(body.held for body in list(bodies))
    return held > limits.receive_memory


class Body:
    """Collects one body.  Over MaxPostSize (413) and when the disk is full (507) the rest is read and thrown
    away, so that the web server gets to read the answer; the script does not run.

    `others`: the bodies of the worker that are in memory and not small, where it counts itself among them; each has how
    many bytes it takes as `held`.
    """

    __slots__ = ("_limits", "_logger", "_others", "_chunks", "size", "_file", "_problem")

    def __init__(self, limits: Limits, logger: logging.Logger, others: Set[Any]) -> None:
        self._limits, self._logger, self._others = limits, logger, others
        self._chunks: List[Buffer] = []
        self.size = 0
        self._file: Any = None
        self._problem = 0

    def add(self, pieces: Sequence[Buffer]) -> None:
        """What comes next.  Raises ProtocolError when a refused body goes on without end."""
        self.size += sum(map(len, pieces))
        if self._problem:
            if self.size > self._limits.max_body + DISCARD_LIMIT:
                raise ProtocolError("a body goes on far beyond MaxPostSize (%d bytes)" % self._limits.max_body)
        elif self.size > self._limits.max_body:
            self._refuse(413)
        elif self._file is not None:
            self._write(pieces)
        else:
            self._chunks.extend(pieces)
            if self.size > self._limits.body_memory or (self.size > SMALL and self._crowded()):
                pieces, self._chunks = self._chunks, []
                self._others.discard(self)
                self._write(pieces)

    @property
    def held(self) -> int:
        """How many bytes of memory it takes."""
        return self.size

    def _crowded(self) -> bool:
        self._others.add(self)
        return crowded(self._others, self._limits)

    def _write(self, pieces: Sequence[Buffer]) -> None:
        try:
            if self._file is None:
                import tempfile
                self._file = tempfile.TemporaryFile(dir=self._limits.temp_dir)
            self._file.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        except OSError as error:
            self._logger.error("a body of %d bytes cannot be kept in TempDir: %s", self.size, error)
            self._refuse(507)

    def _refuse(self, status: int) -> None:
        self._problem = status
        self.discard()

    def end(self) -> Tuple[Any, int]:
        """The whole body as bytes or as a file, and 0 or the HTTP status that refuses it."""
        if self._file is not None:
            try:
                self._file.seek(0)
            except OSError as error:
                self._logger.error("a body of %d bytes cannot be kept in TempDir: %s", self.size, error)
                self._refuse(507)
        if self._problem:
            return b"", self._problem
        content, self._chunks = b"".join(self._chunks), []
        return self._file if self._file is not None else content, 0

    def discard(self) -> None:
        """Forget the content; a file's space is freed."""
        self._chunks = []
        self._others.discard(self)
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError:
                # What was buffered no longer matters, and the descriptor is closed all the same.
                self._logger.debug("closing a refused body failed")
