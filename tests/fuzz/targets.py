"""What is fuzzed, one function each: any bytes in, nothing out, AssertionError where a promise is broken.

TARGETS has them with good inputs to begin with and tokens to put in.  guided.py and test_fuzz.py feed them; what
must come out is in reference.py.  A target keeps nothing from one input to the next, so a finding is one input.
"""
from __future__ import annotations

import functools
import struct
import zlib
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import reference
from wire import same_story

from luafcgid2 import records
from luafcgid2.answer import parse_head
from luafcgid2.errors import ProtocolError
from luafcgid2.params import decode, encode, find, guess, walk
from luafcgid2.runtime import Engine

# The default, the one with another compiler, the oldest and the newest; an input goes to one of them.
LUA_VERSIONS = ("5.3", "jit", "5.1", "5.4")
STEPS = (1, 2, 3, 5, 7, 8, 9, 16, 23, 64, 100, 1000)
MOST_REQUESTS = 40


class Target(NamedTuple):
    """See the module's contract."""

    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    tokens: Sequence[bytes] = ()


# Records ---------------------------------------------------------------------------------------------------------

def run_records(data: bytes) -> None:
    """cut() takes what the lengths say and nothing else; whole_request() sees what cut() would."""
    position, cut = 0, []
    while True:
        record = records.cut(data, position)
        header = data[position:position + 8]
        size = 8 + struct.unpack("!HB", header[4:7])[0] + header[6] if len(header) == 8 else 0
        if record is None:
            assert not size or len(data) < position + 8 + int.from_bytes(header[4:6], "big") + header[6]
            break
        assert record[:3] == struct.unpack("!BBH", header[:4])
        assert record.content == data[position + 8:position + 8 + int.from_bytes(header[4:6], "big")]
        assert record.end == position + 8 + len(record.content) + header[6] <= len(data)
        cut.append(record)
        position = record.end
    whole = records.whole_request(data)
    if whole is not None:
        flags, params, body = whole
        assert position == len(data) and params
        assert [record[:4] for record in cut] == [
            (1, records.BEGIN_REQUEST, 1, records.BEGIN_BODY.pack(records.RESPONDER, flags)),
            (1, records.PARAMS, 1, params), (1, records.PARAMS, 1, b""),
            *([(1, records.STDIN, 1, body)] if body else []), (1, records.STDIN, 1, b"")]


def run_connection(data: bytes) -> None:
    """A connection says the same whatever pieces its input comes in; see wire.py."""
    same_story(data, STEPS[zlib.crc32(data) % len(STEPS)])


# Params ----------------------------------------------------------------------------------------------------------

def _refused(function: Callable[[bytes], Any], data: bytes) -> bool:
    try:
        function(data)
    except ProtocolError:
        return True
    return False


def run_params(data: bytes) -> None:
    """Every reader of PARAMS in Python sees the same pairs, or refuses them."""
    pairs = reference.pairs(data)
    if pairs is None:
        assert all(_refused(reader, data) for reader in (lambda data: list(walk(data)), decode, find))
        guess(data)
        return
    assert list(walk(data)) == pairs
    assert list(walk(encode(pairs))) == pairs
    assert decode(data) == reference.joined(pairs)
    last = dict(pairs)
    assert tuple(find(data)) == (last.get(b"SCRIPT_FILENAME", b""), last.get(b"DOCUMENT_ROOT", b""))
    guess(data)


@functools.lru_cache(maxsize=None)
def _loader(version: str) -> Callable[..., Any]:
    """Makes a function of a module, by their names, in one Lua state."""
    engine = Engine(version, c_modules=False)
    runtime = engine.new_runtime()
    return runtime.execute(b"""
        local load = loadstring or load
        return function(codes)
          local function import(name) return load(codes[name])(import) end
          return function(module, name) return import(module)[name] end
        end""")(runtime.table_from(dict(engine.prelude())))


def prelude(version: str, module: bytes, name: bytes) -> Callable[..., Any]:
    """A function of a module of the prelude, in a state of its own kind: nothing has been called before."""
    return _loader(version)(module, name)


def _lua(data: bytes, module: bytes, name: bytes) -> Callable[..., Any]:
    """The same in the Lua version that `data` falls to."""
    return prelude(LUA_VERSIONS[zlib.crc32(data) % len(LUA_VERSIONS)], module, name)


def _program(data: bytes) -> List[bytes]:
    """PARAMS streams as `data` composes them: a pool of pairs, then bytes that pick from it, so that requests
    have much in common, as a web server's have."""
    stop = 1 + data[0] if data else 0
    pool = reference.pairs(data[1:stop]) or [(b"A", b"1"), (b"B", b""), (b"HTTP_X", b"x")]
    streams: List[bytes] = []
    now = b""
    for op in data[stop:]:
        if op < 0xF0:
            name, value = pool[op % len(pool)]
            now += encode([(name, value if op < 0xC0 else now[-op:])])
        elif op < 0xF8:
            # Lengths of four bytes for what needs one.
            name, value = pool[op % len(pool)]
            now += struct.pack("!LL", len(name) | 0x80000000, len(value) | 0x80000000) + name + value
        elif op < 0xFB:
            streams.append(now[:len(now) - (op - 0xF7) * 3])
        elif op < 0xFD and streams:
            now = streams[-1]
        elif op == 0xFD:
            now += b"\xff" * 3
        else:
            streams.append(now)
            now = b""
    return (streams + [now])[:MOST_REQUESTS]


def run_prelude(data: bytes) -> None:
    """The prelude reads every request as Python does, whatever it has read before."""
    read = _lua(data, b"params", b"decode")
    for number, stream in enumerate(_program(data)):
        pairs, table = reference.pairs(stream), read(stream)
        found = None if table is None else dict(table.items())
        assert found == (None if pairs is None else reference.env(pairs)), "request %d: %r" % (number, stream)


# Text ------------------------------------------------------------------------------------------------------------

def _plain(value: Any) -> Any:
    return value if isinstance(value, bytes) else list(value.values())


def run_cookies(data: bytes) -> None:
    """Cookies are what cookies.lua says they are."""
    found = dict(_lua(data, b"cookies", b"parse")(data).items())
    assert found == reference.cookies(data)


def run_query(data: bytes) -> None:
    """lf.parse decodes as a form is encoded."""
    found = {name: _plain(value) for name, value in _lua(data, b"lf", b"parse")(data).items()}
    assert found == reference.query(data)


def run_head(data: bytes) -> None:
    """A header block is read or refused; what follows it is never touched."""
    try:
        expected: Any = reference.head(data)
    except ValueError:
        assert _refused(parse_head, data)
        return
    head = parse_head(data)
    assert (head and (head.status, head.headers, head.size)) == expected
    if head is not None:
        assert parse_head(data[:head.size - 1]) is None
        assert parse_head(data[:head.size]) == head


# Good inputs -----------------------------------------------------------------------------------------------------

ENV = [("SCRIPT_FILENAME", "/www/x.lua"), ("DOCUMENT_ROOT", "/www"), ("REQUEST_METHOD", "GET"), ("QUERY_STRING", ""),
       ("HTTP_COOKIE", "a=1"), ("HTTP_X", "1"), ("HTTP_X", "2"), ("HTTP_PROXY", "p"), ("HTTP_COOKIE", "b=2")]
BODY = bytes(range(120))


def request(request_id: int = 1, flags: int = 0, pairs: Any = ENV, body: bytes = b"", step: int = 65528) -> bytes:
    """The records of one request, its streams cut every `step` bytes."""
    data = encode(pairs)
    parts = [records.begin(request_id, records.RESPONDER, flags)]
    for kind, stream in ((records.PARAMS, data), (records.STDIN, body)):
        parts += [records.pack(kind, request_id, stream[at:at + step]) for at in range(0, len(stream), step)]
        parts.append(records.pack(kind, request_id))
    return b"".join(parts)


def whole(flags: int = 0, pairs: Any = ENV) -> bytes:
    """What a GET looks like from a web server: see records.whole_request."""
    data = encode(pairs)
    return records.begin(1, 1, flags) + records.pack(records.PARAMS, 1, data) + records.TAIL_1


VALUES = records.pack(records.GET_VALUES, 0, encode({"FCGI_MAX_CONNS": "", "FCGI_MPXS_CONNS": "", "X": ""}))
STREAMS = [
    whole(), whole(1), whole(1) * 2 + whole(), request(7, 0, ENV, BODY, 30), request(1, 1, ENV, BODY * 2) + VALUES,
    VALUES + request(3, 1, ENV[:3], b"body") + records.header(records.ABORT_REQUEST, 3, 0),
    records.begin(1, 1, 1) + records.begin(2, 1, 1) + request(3, 1)[8:] + request(2)[16:] + request(1)[16:],
    b"".join(records.begin(number, 1, 1) for number in range(1, 35)), request(1, 1, [("N" * 130, "v" * 300)]),
    records.begin(1, 2, 1) + records.begin(4, 3) + whole(1)[16:] + whole(),
    records.header(77, 0, 0) + records.header(78, 1, 0),
    request(2, 1, ENV, BODY * 3) + request(2, 0, ENV, BODY),
]
POOL = encode(ENV)
PROGRAM = bytes((len(POOL),)) + POOL
COMMON = bytes((0, 1, 2, 3, 4, 5, 6))
PROGRAMS = [PROGRAM + (COMMON + b"\xff") * 12, PROGRAM + (COMMON + b"\x07\xff" + COMMON[::-1] + b"\xff") * 9,
            PROGRAM + (COMMON + b"\xf9\xfb\xff") * 10 + COMMON, PROGRAM + (b"\xf2\xf3\xf4\xf5\xc3\xff") * 14,
            PROGRAM + (COMMON + b"\xff") * 10 + (b"\x08" + COMMON + b"\xfb" + COMMON[2:] + b"\xc7\xff") * 9]
HEADS = [b"Status: 404 Not Found\r\nContent-Type: text/html\r\n\r\nbody", b"Location: /x\n\nbody", b"\r\nbody",
         b"A: 1\r\nA: 2\r\nSet-Cookie: a=b; Path=/\r\n\r\n\r\n", b"status:200\nX-Empty:\n\r\n"]

TARGETS: Dict[str, Target] = {
    "records": Target(run_records, STREAMS, (b"\x01\x04\x00\x01", records.TAIL_1, records.begin(1))),
    "connection": Target(run_connection, STREAMS, (
        records.TAIL_1, records.begin(1, 1, 1), records.begin(2), records.header(records.PARAMS, 1, 0),
        records.header(records.STDIN, 2, 0), records.header(records.ABORT_REQUEST, 1, 0), VALUES, whole(1),
        records.pack(records.STDIN, 1, BODY), records.header(records.GET_VALUES, 0, 3), b"\x01\x09\x00\x00")),
    "params": Target(run_params, [POOL, encode([("N" * 130, "v" * 300), ("", "")]), encode(ENV * 3)],
                     (b"SCRIPT_FILENAME", b"DOCUMENT_ROOT", b"HTTP_", b"\x0f\x05SCRIPT_FILENAME/evil",
                      b"\x80\x00\x00\x0f", b"\x80\x00\x00\x00", b"\xff\xff\xff\xff")),
    "prelude": Target(run_prelude, PROGRAMS, (COMMON, COMMON + b"\xff", b"\xff", b"\xfb", b"\xfd", b"\xf9\xfc")),
    "cookies": Target(run_cookies, [b"a=1; b=2", b'x="a;b"; y=";', b" a = 1 ;b;=c;d=", b"a=b=c, d=e;;"],
                      (b'"', b";", b"=", b" ", b'=";"', b"  ", b"\0", b"\xff")),
    "query": Target(run_query, [b"a=1&b=2", b"name=J%C3%BCrgen&text=a+b%26c&a=&a", b"%zz=%&&=x&%00=%0", b"a=b=c&a=2"],
                    (b"%", b"%4", b"%41", b"+", b"&", b"=", b"&&", b"%%", b"\0", b"\xff")),
    "head": Target(run_head, HEADS, (b"\r\n", b"\n", b"\r\n\r\n", b"Status: ", b"Status: 302 x\r\n", b":", b"\0", b" ",
                                     b"Location: ", b"\x85", b"\xa0", b"\r\r\n")),
}
