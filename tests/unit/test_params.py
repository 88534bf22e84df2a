"""Name-value pairs: Python and the Lua prelude read the same, whatever a client puts into its headers."""
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luafcgid2 import params
from luafcgid2.errors import ProtocolError
from luafcgid2.runtime import Engine

LUA_VERSIONS = Engine.versions()
NAMES = st.sampled_from([b"SCRIPT_FILENAME", b"DOCUMENT_ROOT", b"SCRIPT_NAME", b"HTTP_X", b"", b"a" * 128])
PAIRS = st.lists(st.tuples(NAMES | st.binary(max_size=200), st.binary(max_size=300)), max_size=12)
# What the prelude adds and leaves out on purpose.
ROLE, PROXY = b"FCGI_ROLE", b"HTTP_PROXY"


@pytest.fixture(scope="module")
def lua_decode():
    """The prelude's decoder: bytes -> dict, or None where it refuses them."""
    return decoder()


def decoder(version="5.3"):
    """A decoder that has seen no request yet."""
    engine = Engine(version, c_modules=False)
    codes = dict(engine.prelude())
    start = engine.new_runtime().execute(b"""
        return function(params, runs)
          local load = loadstring or load
          return load(params)(function() return load(runs)() end).decode
        end""")
    lua = start(codes[b"params"], codes[b"runs"])

    def decode(data):
        table = lua(data)
        return None if table is None else dict(table.items())
    return decode


def looks(requests):
    """(how often the prelude looks for what these requests have in common, how many a stencil fits)."""
    engine = Engine(c_modules=False)
    codes = dict(engine.prelude())
    decode, counts = engine.new_runtime().execute(b"""
        return function(params, runs)
          local looks, fits = 0, 0
          local function look(...)
            local found, stencil = load(runs)()(...)
            looks = looks + 1
            return found, stencil and function(data)
              local env = stencil(data)
              fits = fits + (env and 1 or 0)
              return env
            end
          end
          return load(params)(function() return look end).decode, function() return looks, fits end
        end""")(codes[b"params"], codes[b"runs"])
    for request in requests:
        decode(params.encode(request))
    return counts()


def joined(pairs):
    """The last of a repeated name, but all lines of a repeated header."""
    values = {}
    for name, value in pairs.items() if isinstance(pairs, dict) else pairs:
        values.setdefault(name, []).append(value)
    return {name: (b"; " if name == b"HTTP_COOKIE" else b", ").join(lines) if name[:5] == b"HTTP_" else lines[-1]
            for name, lines in values.items()}


def as_lua(pairs):
    found = joined(pairs)
    found.pop(PROXY, None)
    found[ROLE] = b"RESPONDER"
    return found


def test_lengths_up_to_127_take_one_byte_and_longer_ones_four():
    assert params.encode({b"n": b"v"}) == b"\x01\x01nv"
    assert params.encode({b"n": b"v" * 127})[:3] == b"\x01\x7fn"
    assert params.encode({b"n": b"v" * 128})[:6] == b"\x01\x80\x00\x00\x80n"
    assert params.encode({b"n" * 300: b""})[:5] == b"\x80\x00\x01\x2c\x00"


def test_text_is_sent_as_utf8_and_undecodable_bytes_survive():
    assert params.encode([("n", "\u00e4"), ("m", "\udcff")]) == b"\x01\x02n\xc3\xa4" b"\x01\x01m\xff"


@given(PAIRS)
def test_what_is_encoded_is_decoded_again(pairs):
    data = params.encode(pairs)
    assert list(params.walk(data)) == pairs
    assert params.decode(data) == joined(pairs)


# Requests as a web server sends them one after the other: much is the same, something is put in, left out,
# repeated, or looks like a pair of another request.
PART = st.sampled_from([[(b"REQUEST_METHOD", b"GET"), (b"A", b"1"), (b"B", b"2"), (b"C", b"")],
                        [(b"HTTP_X", b"x"), (b"HTTP_Y", b"y"), (b"HTTP_COOKIE", b"a=b")],
                        [(b"B", b"3")], [(b"HTTP_X", b"z")], [(b"HTTP_PROXY", b"p")],
                        [(b"Q", params.encode([(b"A", b"1"), (b"B", b"2"), (b"C", b"")]))],
                        [(b'"]=1,', b"']]\\"), (b"\0\r\n", b'"\n\r\0' + b"1\xff"), (b"\\", b"\\n")],
                        [(b"PORT", b"40001")], [(b"PORT", b"40002")], [(b"LONG", b"l" * 200)]])
REQUEST = st.lists(PART, max_size=6).map(lambda parts: [pair for part in parts for pair in part])


@given(st.lists(st.sampled_from(range(4)), min_size=12, max_size=40), st.lists(REQUEST, min_size=4, max_size=4))
@settings(max_examples=200)
def test_a_request_reads_the_same_whatever_came_before_it(order, requests):
    decode = decoder()
    for index in order:
        data = params.encode(requests[index])
        assert decode(data) == as_lua(requests[index])
        assert decode(data[:-1]) is None or not data


# Requests of one shape: names, and how long their values are; what fills these differs.
SHAPE = st.lists(st.tuples(st.sampled_from([b"A", b"PORT", b"HTTP_X", b"HTTP_PROXY", ROLE, b"", b"n" * 130])
                           | st.binary(min_size=1, max_size=3), st.sampled_from([0, 1, 1, 5, 5, 130])), max_size=9)
FILLING = st.lists(st.sampled_from(b"ab"), min_size=9, max_size=9) | st.lists(st.sampled_from(b'a"\\\n\r\0]1\xff'),
                                                                            min_size=9, max_size=9)


@given(SHAPE, st.lists(FILLING, min_size=2, max_size=4), st.lists(st.sampled_from(range(4)), min_size=8, max_size=24))
def test_values_of_the_same_length_are_those_of_their_own_request(shape, fillings, order):
    def expected(data):
        try:
            return as_lua([(bytes(name), bytes(value)) for name, value in params.walk(data)])
        except ProtocolError:
            return None
    decode = decoder()
    for number in order:
        pairs = [(name, bytes([fill]) * size) for (name, size), fill in zip(shape, fillings[number % len(fillings)])]
        data = params.encode(pairs)
        assert decode(data) == as_lua(pairs)
    for other in (data[-1:] + data[:-1], data[1:] + data[:1], data + b"\1\1Zz", data + data, data[:-1]):
        assert decode(other) == expected(other)


@pytest.mark.parametrize("version", LUA_VERSIONS)
def test_what_differs_in_each_request_may_be_anywhere(version):
    steady = [(b"N%d" % number, b"v" * number) for number in range(20)]
    for changing in (1, 2, 4, 5, 20):
        decode = decoder(version)
        for number in range(40):
            pairs = [(name, b"%05d" % (number * 7)) if place % (20 // changing) == 0 else (name, value)
                     for place, (name, value) in enumerate(steady)]
            if number % 10 == 9:
                pairs[number // 2 % 20] = (b"OTHER", b"w" * number)
            assert decode(params.encode(pairs)) == as_lua(pairs)


STEADY = [(b"N%d" % number, b"v" * number) for number in range(20)]


def test_requests_that_come_to_be_alike_are_noticed():
    first, alike = [(b"A", b"another"), *STEADY], [[(b"A", b"%05d" % number), *STEADY] for number in range(2000)]
    assert looks([first, *alike]) == (2, 2000 - 19)


def test_a_few_that_differ_do_not_take_the_place_of_the_many_that_are_alike():
    alike, other = [(b"A", b"12345"), *STEADY], [(b"A", b"another"), *STEADY]
    count, fits = looks(alike if number % 10 else other for number in range(3000))
    assert count < 10 and fits > 2600


def test_where_no_two_requests_are_alike_that_is_found_out_ever_more_rarely():
    assert looks([(b"A", b"x" * (number % 7)), *STEADY] for number in range(10000)) == (10, 0)


@pytest.mark.parametrize("size,number,changing,kept", [
    (8, 20, 1, True), (8, 20, 4, True), (8, 20, 5, False), (8, 100, 1, True), (8, 101, 1, False), (4000, 1, 1, True),
    (4100, 1, 1, False)])
def test_what_is_kept_of_a_request_is_bounded(size, number, changing, kept):
    engine = Engine(c_modules=False)
    runtime = engine.new_runtime()
    keeps = runtime.execute(b"""
        return function(runs, data, former, latter)
          local _, stencil = load(runs)()(data, former, latter, function() end)
          return stencil ~= nil
        end""")

    def noted(filling):
        # As params.lua notes what it has read: name, value and position of each pair.
        pairs = [(b"%03d" % place, filling(place) * size) for place in range(number)]
        items = [(*pair, len(params.encode(pairs[:place])) + 1) for place, pair in enumerate(pairs)]
        return params.encode(pairs), runtime.table_from([item for pair in items for item in pair])
    _, former = noted(lambda place: b"a")
    data, latter = noted(lambda place: b"b" if place < changing else b"a")
    assert keeps(dict(engine.prelude())[b"runs"], data, former, latter) is kept


@pytest.mark.parametrize("version", LUA_VERSIONS)
def test_bytes_of_every_kind_are_the_same_in_request_after_request(version):
    decode = decoder(version)
    names = [bytes(range(256)), b'"', b"\\", b"\n", b"\r\n", b"\0", b"\0001", b"]]", b"HTTP_\xff\0'"]
    pairs = [(name, name * 3) for name in names]
    for number in range(20):
        request = [(b"HTTP_N", b"%d" % number), *pairs] if number % 2 else [*pairs, (b"N", b"%d" % number)]
        for _ in range(10):
            assert decode(params.encode(request)) == as_lua(request)


@given(PAIRS)
def test_python_and_the_prelude_read_the_same(lua_decode, pairs):
    data = params.encode(pairs)
    env = as_lua(pairs)
    assert lua_decode(data) == env
    wanted = params.find(data)
    assert wanted.script_filename == env.get(b"SCRIPT_FILENAME", b"")
    assert wanted.document_root == env.get(b"DOCUMENT_ROOT", b"")


@given(st.binary(max_size=80))
@settings(max_examples=300)
def test_any_bytes_are_read_alike_or_refused_by_all(lua_decode, data):
    try:
        pairs = params.decode(data)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            params.find(data)
        assert lua_decode(data) is None
    else:
        assert lua_decode(data) == as_lua(pairs)


@pytest.mark.parametrize("size", [127, 128, 255, 256, 65535, 70000, 300000])
def test_long_values_are_read_alike(lua_decode, size):
    pairs = [(b"A", b"x" * size), (b"SCRIPT_FILENAME", b"/" + b"s" * size), (b"DOCUMENT_ROOT", b"/d")]
    data = params.encode(pairs)
    assert lua_decode(data) == as_lua(pairs)
    assert params.find(data)[:2] == (pairs[1][1], b"/d")


@pytest.mark.parametrize("name_size", [1, 15])
@pytest.mark.parametrize("value_size", [1, 20])
def test_short_lengths_may_be_written_in_four_bytes(lua_decode, name_size, value_size):
    name, value = b"SCRIPT_FILENAME"[:name_size], b"/" + b"x" * (value_size - 1)
    data = b"\x80\x00\x00" + bytes((name_size,)) + b"\x80\x00\x00" + bytes((value_size,)) + name + value
    assert params.decode(data) == {name: value}
    assert lua_decode(data) == as_lua({name: value})
    assert params.find(data).script_filename == (value if name_size == 15 else b"")


def test_the_lines_of_a_repeated_header_are_one_value(lua_decode):
    data = params.encode([("HTTP_X", "1"), ("HTTP_COOKIE", "a=1"), ("HTTP_X", "2"), ("HTTP_COOKIE", "b=2")])
    for found in (params.decode(data), lua_decode(data)):
        assert (found[b"HTTP_X"], found[b"HTTP_COOKIE"]) == (b"1, 2", b"a=1; b=2")


def test_the_last_of_a_repeated_name_wins_everywhere(lua_decode):
    data = params.encode([("SCRIPT_FILENAME", "/first"), ("DOCUMENT_ROOT", "/d1"), ("X", "1"),
                          ("SCRIPT_FILENAME", "/last"), ("X", "2"), ("DOCUMENT_ROOT", "/d2")])
    assert params.find(data)[:2] == (b"/last", b"/d2")
    assert params.decode(data)[b"X"] == b"2"
    assert lua_decode(data)[b"SCRIPT_FILENAME"] == b"/last"


def spoofs():
    """Values with which a client might pass for the web server, each with a name before and after the true one."""
    pair = params.encode({"SCRIPT_FILENAME": "/evil.lua", "DOCUMENT_ROOT": "/evil"})
    for value in (pair, b"SCRIPT_FILENAME", b"x" * 130 + pair, pair * 3, b"\x0f\x09SCRIPT_FILENAME/evil.lua"):
        for place in (0, 1, 2):
            yield value, place


@pytest.mark.parametrize(("value", "place"), list(spoofs()))
def test_a_name_inside_a_value_is_not_taken_for_a_pair(lua_decode, value, place):
    pairs = [("SCRIPT_FILENAME", "/good.lua"), ("DOCUMENT_ROOT", "/good")]
    pairs.insert(place, ("HTTP_X_EVIL", value))
    data = params.encode(pairs)
    assert params.find(data)[:2] == (b"/good.lua", b"/good")
    assert lua_decode(data)[b"SCRIPT_FILENAME"] == b"/good.lua"
    guessed = params.guess(data)
    assert guessed is None or guessed == params.find(data)


@given(PAIRS, st.binary(min_size=1, max_size=40), st.binary(min_size=1, max_size=40))
def test_a_guess_is_right_or_absent_whatever_the_other_pairs_are(pairs, script, root):
    data = params.encode(pairs + [("SCRIPT_FILENAME", script), ("DOCUMENT_ROOT", root)])
    guessed = params.guess(data)
    assert guessed is None or guessed == params.find(data)


def test_an_ordinary_request_is_guessed_right():
    for size in (5, 127, 128, 70000):
        data = params.encode([("QUERY_STRING", "a=b"), ("SCRIPT_FILENAME", "/" + "s" * size), ("HTTP_HOST", "h"),
                              ("DOCUMENT_ROOT", "/" + "d" * size), ("SCRIPT_NAME", "/x.lua")])
        assert params.guess(data) == params.find(data)


def test_every_cut_of_a_stream_is_noticed_or_falls_between_two_pairs(lua_decode):
    pairs = [("A", ""), ("SCRIPT_FILENAME", "/x.lua"), ("B" * 200, "c" * 300), ("DOCUMENT_ROOT", "/d")]
    data = params.encode(pairs)
    between = {len(params.encode(pairs[:count])) for count in range(len(pairs) + 1)}
    for size in range(len(data)):
        if size in between:
            assert params.find(data[:size]) is not None and lua_decode(data[:size]) is not None
        else:
            with pytest.raises(ProtocolError):
                params.find(data[:size])
            with pytest.raises(ProtocolError):
                params.decode(data[:size])
            assert lua_decode(data[:size]) is None, size


@pytest.mark.parametrize("data", [b"\x01", b"\x80", b"\x01\x80\x00", b"\x05\x00ab", b"\xff\xff\xff\xff\xff\xff\xff\xff",
                                  b"\x00\xff\xff\xff\xff"])
def test_lengths_that_lie_are_a_protocol_error(lua_decode, data):
    with pytest.raises(ProtocolError):
        params.find(data)
    with pytest.raises(ProtocolError):
        params.decode(data)
    assert lua_decode(data) is None


def test_the_proxy_header_of_a_client_is_left_out_of_env(lua_decode):
    assert PROXY not in lua_decode(params.encode({"HTTP_PROXY": "http://evil/", "A": "b"}))
