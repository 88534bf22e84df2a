"""Attacks a running server over its socket: mutated records, broken requests, clients that leave.

In: the address of a master's socket and a site with SCRIPTS in it, a seed.  Out: `batch` sends some inputs and then a
good request; AssertionError where a promise is broken: every connection ends, what comes back are whole records, odd
but correct requests are answered correctly.  `Watch` looks at the workers' processes from outside.
"""
from __future__ import annotations

import contextlib
import os
import socket
from typing import Any, Dict, List, Optional, Tuple

import reference
from mutate import Mutator
from targets import BODY, ENV, STREAMS, TARGETS, request
from wire import check_records

from luafcgid2 import client, records
from luafcgid2.params import encode

SCRIPTS = {
    # Reads all that a request can bring, so that the inputs reach it.
    "fuzz.lua": """\
function main()
  local body = Receive(10) .. Receive()
  local query = lf.parse(Env.QUERY_STRING)
  Send(lf.serialize(query) .. lf.serialize(lf.parse(body)) .. lf.serialize(Cookies) .. Dir())
  Send(lf.serialize(Session.GetVar("fuzz", "query")))
  if query.store then Session.SetVar("fuzz", "query", query) end
end
""",
    # Env, each as length of the name, colon, length of the value, colon, name, value.
    "dump.lua": """\
function main()
  for name, value in pairs(Env) do Send(#name .. ":" .. #value .. ":" .. name .. value) end
end
"""}
# So small that the inputs get beyond it.
SETTINGS = {"MaxPostSize": 3000, "BodyMemory": 500, "MaxParamsSize": 4096}
# What hostile input leaves in the log: a reason each.  A name with a line break goes on in the next line, indented.
EXPECTED = (r"warning: connection closed: ", r"error: .*500 the web server sends no (SCRIPT_FILENAME|DOCUMENT_ROOT): ",
            r"error: .*500 no authorizer: ", r"error: /[^:]*$")
# Seconds without a byte: the server hangs.
PATIENCE = 20
ABREAST, ROUNDS = 8, 20
# What the system may keep for itself.
SLACK_KB = 16 << 10


def _numbers(path: str, key: str) -> int:
    with open(path) as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key))


def _open_files(pid: int) -> List[str]:
    found, folder = [], "/proc/%d/fd" % pid
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(os.path.join(folder, name)))
    return found


class Watch:
    """What the workers hold: descriptors and kilobytes, by pid."""

    def __init__(self, pids: List[int]) -> None:
        self.pids = sorted(pids)

    def descriptors(self) -> Dict[int, int]:
        """Open descriptors, but for the session store's: each thread opens it when it first needs it."""
        return {pid: sum(".db" not in name for name in _open_files(pid)) for pid in self.pids}

    def settled(self) -> Optional[Dict[int, int]]:
        """The same once no worker has more than the others: none has a connection any more."""
        found = self.descriptors()
        return found if len(set(found.values())) == 1 else None

    def store_descriptors(self) -> Dict[int, int]:
        """Those of the session store."""
        return {pid: sum(".db" in name for name in _open_files(pid)) for pid in self.pids}

    def memory(self) -> Dict[int, int]:
        """Resident kilobytes."""
        return {pid: _numbers("/proc/%d/status" % pid, "VmRSS:") for pid in self.pids}

    def threads(self) -> Dict[int, int]:
        """Threads."""
        return {pid: _numbers("/proc/%d/status" % pid, "Threads:") for pid in self.pids}


class Siege:
    """See the module's contract.

    address: the socket; root: the document root, with SCRIPTS and echo.lua in it.
    """

    def __init__(self, address: str, root: str, seed: int) -> None:
        self._address, self._root = address, root
        base = [("SCRIPT_FILENAME", root + "/fuzz.lua"), ("DOCUMENT_ROOT", root)] + ENV[2:]
        form = base + [("QUERY_STRING", "a=1&a=2&store=%41"), ("HTTP_COOKIE", 'sid=x; q="a;b"')]
        streams = STREAMS + [request(1, 1, base), request(1, 0, form, BODY), request(9, 1, form, BODY * 40, 999)]
        streams += [request(1, 1, base) * 3, request(1, 1, base, BODY)[:-8] + request(2, 1, form, b"a=b") * 2,
                    request(1, 0, [(name, value.replace("/fuzz.lua", "/gone.lua")) for name, value in base])]
        tokens = (*TARGETS["connection"].tokens, request(1, 1, base), root.encode(), b"/../", b".lua", b"\0", b"proxy:")
        self._streams = Mutator(seed, streams, tokens)
        self._random = self._streams.random
        self._pairs = Mutator(seed + 1, [encode(base), encode(form)], (*TARGETS["params"].tokens, root.encode()))
        self._values = Mutator(seed + 2, [*TARGETS["query"].seeds, *TARGETS["cookies"].seeds, b"x" * 140])
        self.inputs = 0

    def good(self) -> None:
        """A good request has its good answer."""
        found = client.request(self._address, {"SCRIPT_FILENAME": self._root + "/echo.lua",
                                               "DOCUMENT_ROOT": self._root}, BODY, PATIENCE)
        assert (found.status, found.body) == (200, BODY)

    def batch(self, rounds: int) -> None:
        """ABREAST inputs at a time, `rounds` times; then a good request."""
        for _ in range(rounds):
            with contextlib.ExitStack() as stack:
                talks = [self._begin(stack) for _ in range(ABREAST)]
                for talk in talks:
                    talk.end()
            self.inputs += ABREAST
        self.good()

    def _begin(self, stack: contextlib.ExitStack) -> "_Talk":
        kind = self._random.random()
        expected: Optional[Dict[bytes, bytes]] = None
        if kind < 0.15:
            data, expected = self._odd()
        elif kind < 0.4:
            data = self._with_params()
        else:
            data = self._streams()
        talk = _Talk(data, expected, self._random.random())
        stack.callback(talk.close)
        talk.begin(self._address)
        return talk

    def _odd(self) -> Tuple[bytes, Dict[bytes, bytes]]:
        """A correct request to dump.lua that no web server would send, and what Env is."""
        pick, root = self._random, self._root.encode()
        pairs: Any = [(b"SCRIPT_FILENAME", root + b"/dump.lua"), (b"DOCUMENT_ROOT", root)]
        for name in pick.choices((b"A", b"HTTP_COOKIE", b"HTTP_A", b"REQUEST_METHOD", b"", b"\0", b"N" * 200), k=10):
            # HEAD would have no body to compare; in all it must stay below MaxParamsSize.
            pairs.insert(pick.randrange(len(pairs) + 1), (name, self._values()[:140].replace(b"HEAD", b"")))
        return request(pick.randrange(1, 65536), 0, pairs, step=pick.choice((65528, 7, 100))), reference.env(pairs)

    def _with_params(self) -> bytes:
        """A frame without a fault around params that may have any."""
        pick, data = self._random, self._pairs()
        body = self._values() * pick.choice((0, 0, 1, 30))
        return (records.begin(1, 1, pick.randrange(2)) + records.pack(records.PARAMS, 1, data)
                + records.pack(records.PARAMS, 1) * bool(data) + (records.pack(records.STDIN, 1, body) if body else b"")
                + records.pack(records.STDIN, 1))


class _Talk:
    """One connection: `begin` sends, `end` waits until the server has closed it and looks at what came.

    manner: 0 to 1, how the client behaves.
    """

    def __init__(self, data: bytes, expected: Optional[Dict[bytes, bytes]], manner: float) -> None:
        self._data, self._expected = data, expected
        self._leaves = manner < 0.1 and expected is None
        self._step = len(data) // 3 + 1 if manner > 0.8 else len(data) + 1
        self._cut = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(PATIENCE)

    def begin(self, address: str) -> None:
        self._socket.connect(address)
        try:
            for at in range(0, len(self._data), self._step):
                self._socket.sendall(self._data[at:at + self._step])
            if not self._leaves:
                self._socket.shutdown(socket.SHUT_WR)
        except ConnectionError:
            # It closed the connection at the first fault.
            assert self._expected is None
            self._cut = True

    def end(self) -> None:
        if self._leaves:
            return
        received = bytearray()
        try:
            while True:
                piece = self._socket.recv(1 << 18)
                if not piece:
                    break
                received += piece
        except ConnectionResetError:
            self._cut = True
        except socket.timeout:
            raise AssertionError("the server hangs after %r" % self._data) from None
        try:
            completed = check_records(bytes(received), whole=not self._cut)
            if self._expected is not None:
                assert completed == 1 and self._env(bytes(received)) == self._expected
        except AssertionError as error:
            raise AssertionError("%s: sent %r, received %r" % (error, self._data, bytes(received))) from None

    @staticmethod
    def _env(received: bytes) -> Dict[bytes, bytes]:
        """What dump.lua says."""
        output, found, position = b"", {}, 0
        while position < len(received):
            record = records.cut(received, position)
            assert record is not None
            position = record.end
            output += record.content if record.type == records.STDOUT else b""
        left = output.partition(b"\r\n\r\n")[2]
        while left:
            name_size, value_size, left = left.split(b":", 2)
            end = int(name_size) + int(value_size)
            found[left[:int(name_size)]], left = left[int(name_size):end], left[end:]
        return found

    def close(self) -> None:
        self._socket.close()
