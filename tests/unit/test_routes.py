"""The short way from params to a script: it finds what the long way found, or nothing."""
from __future__ import annotations

import pytest

from luafcgid2.params import encode
from luafcgid2.routes import Route, Routes
from luafcgid2.script import MAX_NAMES

NAME, ROOT = b"/srv/www/a.lua", b"/srv/www"


def pairs(name=NAME, root=ROOT, **more):
    return encode({"REQUEST_METHOD": "GET", "SCRIPT_FILENAME": name, "DOCUMENT_ROOT": root, **more})


def routes(*wanted):
    known = Routes()
    for one in wanted:
        known.learn(Route(1.0, 1, one, None, one[0]))
    return known


def test_a_route_is_found_wherever_the_pairs_are():
    known = routes((NAME, ROOT))
    assert known.find(pairs()).path == NAME
    assert known.find(encode({"DOCUMENT_ROOT": ROOT, "A": "b" * 300, "SCRIPT_FILENAME": NAME})).path == NAME


@pytest.mark.parametrize("params", [
    b"", b"\x0f", b"SCRIPT_FILENAME", b"\x0fSCRIPT_FILENAME", b"\x0f\xffSCRIPT_FILENAME" + NAME,
    pairs(name=NAME + b"x"), pairs(name=NAME[:-1]), pairs(root=ROOT + b"/x"), pairs(root=b"/"),
    encode({"SCRIPT_FILENAME": NAME}), encode({"DOCUMENT_ROOT": ROOT}), pairs(name=NAME * 20)])
def test_other_params_have_no_route(params):
    assert routes((NAME, ROOT)).find(params) is None


def test_one_file_below_two_roots_is_not_confused():
    known = routes((NAME, ROOT), (NAME, b"/srv"))
    found = known.find(pairs(root=b"/srv"))
    assert found.wanted == (NAME, b"/srv")
    assert known.find(pairs(root=ROOT)) is None


@pytest.mark.parametrize("wanted", [(b"/srv/" + b"x" * 200, ROOT), (NAME, b"/" + b"r" * 200)])
def test_long_names_have_no_route(wanted):
    assert routes(wanted).find(pairs(*wanted)) is None


def test_made_up_names_take_no_memory():
    known = routes(*((b"/srv/www/%d.lua" % number, ROOT) for number in range(MAX_NAMES + 1)))
    assert known.find(pairs(b"/srv/www/0.lua")) is None
    assert known.find(pairs(b"/srv/www/%d.lua" % MAX_NAMES)) is not None
