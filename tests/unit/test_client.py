"""The client without a connection: the CGI header block, whole answers, what it sends, addresses, URL paths."""
from __future__ import annotations

import io
import os

import pytest

from luafcgid2 import answer, client, docroot, front, params, records
from luafcgid2.errors import ProtocolError

END = (records.END_REQUEST, records.END_BODY.pack(0, records.REQUEST_COMPLETE))


@pytest.mark.parametrize("block, expected", (
    (b"Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nbody",
     (404, "Not Found", [("Content-Type", "text/plain")])),
    (b"Content-Type: a\n\nbody", (200, "", [("Content-Type", "a")])),
    (b"Location: /there\r\n\r\nbody", (302, "", [("Location", "/there")])),
    (b"Status: 201\r\nLocation: /there\r\n\r\nbody", (201, "", [("Location", "/there")])),
    (b"status:500\r\nA: 1\r\nA:2\r\n\r\nbody", (500, "", [("A", "1"), ("A", "2")])),
    (b"\r\nbody", (200, "", [])),
    (b"\nbody", (200, "", [])),
    (b"A: caf\xe9\x85x\r\n\r\nbody", (200, "", [("A", "caf\xe9\x85x")])),
    (b"A: 1\n\r\nbody", (200, "", [("A", "1")])),
))
def test_a_header_block_is_read(block: bytes, expected: tuple) -> None:
    head = answer.parse_head(block)
    assert (head.status, head.reason, head.headers) == expected
    assert block[head.size:] == b"body"


def test_an_unfinished_header_block_is_waited_for() -> None:
    whole = b"Status: 200 OK\r\nA: 1\r\n\r\n"
    assert [answer.parse_head(whole[:length]) for length in range(len(whole))] == [None] * len(whole)
    assert answer.parse_head(whole).headers == [("A", "1")]


@pytest.mark.parametrize("block", (b"no colon\r\n\r\n", b": empty name\r\n\r\n", b"A : space\r\n\r\n",
                                   b"Status: OK\r\n\r\n", b"Status: 20\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"))
def test_a_bad_header_block_is_an_error_that_shows_it(block: bytes) -> None:
    with pytest.raises(ProtocolError, match="from the FastCGI server: '"):
        answer.parse_head(block)


def test_an_answer_is_collected_from_its_records() -> None:
    events = [(records.STDERR, b"oops"), (records.STDOUT, b"Status: 410 G"), (records.STDOUT, b"one\r\n\r\nbo"),
              (records.STDOUT, b"dy"), (records.STDOUT, b""), (records.STDERR, b"!"), END]
    found = answer.collect(events)
    assert found == (410, [], b"body", b"oops!", 0, 0, b"Status: 410 Gone\r\n\r\nbody", "Gone")


def test_a_refusal_without_output_has_status_zero() -> None:
    refused = (records.END_REQUEST, records.END_BODY.pack(7, records.UNKNOWN_ROLE))
    found = answer.collect([refused])
    assert (found.status, found.app_status, found.protocol_status) == (0, 7, records.UNKNOWN_ROLE)


@pytest.mark.parametrize("events", (
    [END],
    [(records.STDOUT, b"A: 1\r\n"), END],
    [(records.PARAMS, b"x"), END],
    [(records.STDOUT, b"\n"), (records.END_REQUEST, b"short")],
))
def test_an_answer_that_breaks_the_protocol_is_an_error(events: list) -> None:
    with pytest.raises(ProtocolError):
        answer.collect(events)


def test_a_header_is_found_in_any_case() -> None:
    found = answer.collect([(records.STDOUT, b"X-One: 1\r\nx-one: 2\r\n\r\n"), END])
    assert (found.header("x-ONE"), found.header("none", "default")) == ("1", "default")


def cut_all(data: bytes) -> list:
    found, position = [], 0
    while position < len(data):
        record = records.cut(data, position)
        found.append((record.type, record.request_id, record.content))
        position = record.end
    return found


def test_a_small_request_goes_out_in_one_piece() -> None:
    (piece,) = client._outgoing({"A": "1"}, b"", True, 3, records.RESPONDER)
    assert cut_all(piece) == [
        (records.BEGIN_REQUEST, 3, records.BEGIN_BODY.pack(records.RESPONDER, records.KEEP_CONN)),
        (records.PARAMS, 3, params.encode({"A": "1"})), (records.PARAMS, 3, b""), (records.STDIN, 3, b"")]


def test_a_large_body_goes_out_in_bounded_pieces_and_arrives_whole() -> None:
    body = os.urandom(1_000_000)
    pieces = list(client._outgoing({}, io.BytesIO(body), False, 1, records.RESPONDER))
    assert max(map(len, pieces)) < 300_000
    found = cut_all(b"".join(pieces))
    assert b"".join(content for kind, _, content in found if kind == records.STDIN) == body
    assert found[-1] == (records.STDIN, 1, b"")
    assert [kind for kind, _, content in found if not content] == [records.PARAMS, records.STDIN]


@pytest.mark.parametrize("address, target", (
    ("/run/x.sock", None), ("x.sock", None), ("./a:9000", None), ("/run/a:9000", None),
    (":9000", ("127.0.0.1", 9000)), ("*:9000", ("127.0.0.1", 9000)), ("host:9000", ("host", 9000)),
    ("[::1]:9000", ("::1", 9000)), (("::1", 9000, 0, 0), ("::1", 9000)),
))
def test_an_address_is_a_path_or_host_and_port(address: object, target: object) -> None:
    assert client._tcp_target(address) == target


@pytest.fixture
def root(tmp_path) -> bytes:
    """A document root with scripts, files, hidden files and links that lead out of it."""
    outside = tmp_path / "outside"
    top = tmp_path / "www"
    for name in ("x.lua", "style.css", ".env", "with/index.lua", "page/index.html", "bare/file", ".git/config"):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    (top / "link.txt").symlink_to(outside / "secret.txt")
    (top / "link").symlink_to(outside)
    (top / "inner.lua").symlink_to("x.lua")
    os.mkfifo(top / "pipe.lua")
    return os.path.realpath(os.fsencode(str(top)))


@pytest.mark.parametrize("url, kind, name, path_info", (
    (b"/x.lua", "script", b"/x.lua", b""),
    (b"//x.lua", "script", b"/x.lua", b""),
    (b"/x.lua/", "script", b"/x.lua", b"/"),
    (b"/x.lua/a/b", "script", b"/x.lua", b"/a/b"),
    (b"/x.lua/a/.b", "script", b"/x.lua", b"/a/.b"),
    (b"/inner.lua", "script", b"/inner.lua", b""),
    (b"/style.css", "file", b"/style.css", b""),
    (b"/with", "redirect", b"/with/", b""),
    (b"//with", "redirect", b"/with/", b""),
    (b"/with/", "script", b"/with/index.lua", b""),
    (b"/page/", "file", b"/page/index.html", b""),
))
def test_a_url_path_names_what_is_there(root: bytes, url: bytes, kind: str, name: bytes, path_info: bytes) -> None:
    found = docroot.resolve(root, url)
    assert (found.kind, found.name, found.path_info) == (kind, name, path_info)


@pytest.mark.parametrize("url", (
    b"/", b"/none", b"/none.lua", b"/style.css/", b"/style.css/x", b"/bare/", b"/.env", b"/.git/config", b"/x.lu\0a",
    b"/../www/x.lua", b"/with/../x.lua", b"/link.txt", b"/link/secret.txt", b"/link/", b"/pipe.lua",
    b"/" + b"a" * 5000,
))
def test_what_is_missing_hidden_special_or_outside_is_not_found(root: bytes, url: bytes) -> None:
    assert docroot.resolve(root, url).kind == "missing"


@pytest.mark.parametrize("host, name", (
    ("example.org", "example.org"), ("Example.org:8080", "example.org"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"),
    ("", ""), ("a b", ""), ("a/b:80", ""), ("<b>", ""),
))
def test_server_name_is_the_host_header_without_its_port(host: str, name: str) -> None:
    assert front._host_name(host) == name
