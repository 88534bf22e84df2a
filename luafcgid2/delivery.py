"""Sends a whole answer: framed as records, and without waiting.

In: a connected socket, a request id, an Answer.  Out: what the socket did not take, or OSError when the connection is
broken.  fcgi.py calls it once a request, or `cut_off`.  It closes nothing and keeps nothing.
"""
from __future__ import annotations

import contextlib
import socket
import time
from typing import Sequence

from .records import ABORT_REQUEST, HEADER, MAX_CONTENT, STDOUT, pack
from .replies import CLOSING_1, Answer, frame
from .sending import DONTWAIT, NOTHING, Buffer, send_now

_pack = HEADER.pack
# Seconds that a web server has to pass on the last piece before it hears that no more comes: see cut_off.
PAUSE = 0.02


def deliver(sock: socket.socket, request_id: int, answer: Answer) -> Sequence[Buffer]:
    """The buffers that are left, mostly none."""
    if answer.__class__ is not bytes or request_id != 1 or len(answer) > MAX_CONTENT:
        return send_now(sock, frame(request_id, answer))
    # The same without lists: nearly all answers are small, and to a request with id 1.
    reply = b"".join((_pack(1, STDOUT, 1, len(answer), 0), answer, CLOSING_1))
    try:
        sent = sock.send(reply, DONTWAIT)
    except BlockingIOError:
        sent = 0
    return NOTHING if sent == len(reply) else (memoryview(reply)[sent:],)


def cut_off(sock: socket.socket, request_id: int, error: Exception) -> None:
    """Say that an answer of which a part has left ends before its end: `error` is the responder's
    ConnectionAbortedError.  The caller closes `sock` then.

    To an nginx that keeps no connections, or does not buffer, the end of the connection is a good end of an answer.
    A record that no application sends is not.  A lighttpd that finds it beside the first piece of the answer sends
    that piece as the whole: it gets the time to begin before.
    """
    if isinstance(error, ConnectionAbortedError):
        time.sleep(PAUSE)
        with contextlib.suppress(OSError):
            send_now(sock, [pack(ABORT_REQUEST, request_id)])
