"""FastCGI records as bytes: what is packed can be cut again, and the numbers are those of the specification."""
from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luafcgid2 import records

IDS = st.integers(1, 0xFFFF)


def cut_all(data):
    """All records of `data`; fails if bytes are left."""
    found, position = [], 0
    while position < len(data):
        record = records.cut(data, position)
        assert record is not None, "%d bytes are left" % (len(data) - position)
        found.append(record)
        position = record.end
    return found


def test_types_roles_and_statuses_have_the_numbers_of_the_specification():
    assert [records.BEGIN_REQUEST, records.ABORT_REQUEST, records.END_REQUEST, records.PARAMS, records.STDIN,
            records.STDOUT, records.STDERR, records.DATA, records.GET_VALUES, records.GET_VALUES_RESULT,
            records.UNKNOWN_TYPE] == list(range(1, 12))
    assert (records.VERSION, records.KEEP_CONN) == (1, 1)
    assert (records.RESPONDER, records.AUTHORIZER, records.FILTER) == (1, 2, 3)
    assert (records.REQUEST_COMPLETE, records.CANT_MPX_CONN, records.OVERLOADED, records.UNKNOWN_ROLE) == (0, 1, 2, 3)


def test_a_begin_record_is_that_of_the_specification():
    assert records.begin(0x0102, records.RESPONDER, records.KEEP_CONN) == (
        b"\x01\x01\x01\x02\x00\x08\x00\x00" b"\x00\x01\x01\x00\x00\x00\x00\x00")


def test_an_end_record_is_that_of_the_specification():
    assert records.end(1, 0x01020304, records.OVERLOADED) == (
        b"\x01\x03\x00\x01\x00\x08\x00\x00" b"\x01\x02\x03\x04\x02\x00\x00\x00")


def test_an_unknown_type_record_names_the_type_and_has_request_id_0():
    assert records.unknown_type(77) == b"\x01\x0b\x00\x00\x00\x08\x00\x00" b"\x4d\x00\x00\x00\x00\x00\x00\x00"


def test_empty_content_is_the_end_of_a_stream():
    assert records.pack(records.STDIN, 5) == b"\x01\x05\x00\x05\x00\x00\x00\x00"


@given(st.integers(1, 11), IDS, st.binary(max_size=300))
def test_what_is_packed_is_cut_again(kind, request_id, content):
    record, = cut_all(records.pack(kind, request_id, content))
    assert record[:4] == (1, kind, request_id, content)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 65527, 65528, 65529, 65535, 65536, 131056, 131057, 1 << 20])
def test_content_of_any_size_is_split_into_records_that_the_length_field_can_hold(size):
    content = bytes(index % 251 for index in range(size))
    found = cut_all(records.pack(records.STDOUT, 3, content))
    assert b"".join(record.content for record in found) == content
    assert all(record[:3] == (1, records.STDOUT, 3) for record in found)
    assert all(record.content for record in found) or not size, "an empty record would end the stream"


@pytest.mark.parametrize("size", [1, 8, 13, 65529])
def test_packed_records_are_multiples_of_eight_bytes(size):
    assert len(records.pack(records.STDOUT, 1, bytes(size))) % 8 == 0


@given(st.binary(max_size=60), st.binary(max_size=40), st.integers(0, 255))
def test_a_record_is_cut_only_when_all_of_it_is_there(before, content, padding):
    record = struct.pack("!BBHHBx", 1, records.PARAMS, 9, len(content), padding) + content + bytes(padding)
    for missing in {1, 8, len(record) - 1, len(record)} & set(range(1, len(record) + 1)):
        assert records.cut(before + record[:-missing], len(before)) is None
    found = records.cut(before + record + b"tail", len(before))
    assert found == (1, records.PARAMS, 9, content, len(before) + len(record))


def test_a_wrong_version_is_reported_and_not_judged():
    assert records.cut(b"\x07\x05\x00\x01\x00\x00\x00\x00").version == 7


def whole(request_id=1, params=b"x", flags=0):
    return (records.begin(request_id, records.RESPONDER, flags) + records.pack(records.PARAMS, request_id, params)
            + records.tail(request_id))


@given(st.binary(min_size=1, max_size=65535), st.integers(0, 1))
def test_a_request_in_one_piece_is_recognised(params, flags):
    data = records.begin(1, records.RESPONDER, flags) + records.pack(records.PARAMS, 1, params) + records.tail(1)
    assert records.whole_request(data) == (flags, params, b"")


def post(body, params=b"x", flags=0, request_id=1, padding=0):
    """A request with a body in one record."""
    return (whole(1, params, flags)[:-8] + struct.pack("!BBHHBx", 1, records.STDIN, request_id, len(body), padding)
            + body + bytes(padding) + records.pack(records.STDIN, 1))


@given(st.binary(min_size=1, max_size=3000), st.binary(min_size=1, max_size=65535), st.integers(0, 1),
       st.integers(0, 255))
def test_a_request_with_a_small_body_is_recognised(params, body, flags, padding):
    assert records.whole_request(post(body, params, flags, 1, padding)) == (flags, params, body)


OTHERS = {
    "nothing": b"",
    "one byte less": whole()[:-1],
    "one byte more": whole() + b"\x01",
    "two requests": whole() + whole(2),
    "another id in params": records.begin(1) + records.pack(records.PARAMS, 2, b"x") + records.tail(1),
    "another id in the tail": records.begin(1) + records.pack(records.PARAMS, 1, b"x") + records.tail(2),
    "request id 0": whole(0),
    "another request id": whole(2),
    "flags nobody knows": whole(flags=2),
    "no params": records.begin(1) + records.tail(1),
    "two params records": records.begin(1) + records.pack(records.PARAMS, 1, b"x") * 2 + records.tail(1),
    "an authorizer's": records.begin(1, records.AUTHORIZER) + whole()[16:],
    "a filter's": records.begin(1, records.FILTER) + whole()[16:],
    "two body records": post(b"body")[:-8] + records.pack(records.STDIN, 1, b"more") + records.pack(records.STDIN, 1),
    "a body without its end": post(b"body")[:-8],
    "a body that is cut off": post(b"body")[:-9],
    "a body and one byte more": post(b"body") + b"\x01",
    "a body of another id": post(b"body", request_id=2),
    "a body of version 2": post(b"body")[:-24] + b"\x02" + post(b"body")[-23:],
    "data instead of a body": post(b"body")[:-23] + b"\x08" + post(b"body")[-22:],
    "a tail in the wrong order": records.begin(1) + records.pack(records.PARAMS, 1, b"x")
    + records.pack(records.STDIN, 1) + records.pack(records.PARAMS, 1),
    "version 2 first": b"\x02" + whole()[1:],
    "version 2 in params": whole()[:16] + b"\x02" + whole()[17:],
    "stdin instead of params": records.begin(1) + records.pack(records.STDIN, 1, b"x") + records.tail(1),
    "a begin that is too long": b"\x01\x01\x00\x01\x00\x09\x00\x00" + bytes(9)
    + records.pack(4, 1, b"x") + records.tail(1),
    "a begin with padding": b"\x01\x01\x00\x01\x00\x08\x08\x00" + bytes(16)
    + records.pack(4, 1, b"x") + records.tail(1),
    "a length that swallows the tail": records.begin(1) + struct.pack("!BBHHBx", 1, 4, 1, 17, 0)
    + b"x" + records.tail(1),
}


@pytest.mark.parametrize("name", OTHERS)
def test_anything_else_is_left_to_cut(name):
    assert records.whole_request(OTHERS[name]) is None


@given(st.binary(max_size=120))
def test_no_bytes_make_the_pure_functions_fail(data):
    records.whole_request(data)
    records.cut(data)
