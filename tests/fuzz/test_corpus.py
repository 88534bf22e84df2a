"""What was found once stays mended: inputs of corpus.py, and inputs whose time grew faster than their size."""
from __future__ import annotations

import os
import subprocess
import sys

import pytest
from corpus import FINDINGS
from targets import LUA_VERSIONS, TARGETS

from luafcgid2.params import encode
from luafcgid2.runtime import Engine

# Cookie headers of a megabyte, in a process of their own because nothing but a kill ends a search in Lua.  With time in
# proportion to the size it takes a second, with its square many minutes.
SIZE, LIMIT = 1 << 20, 60
LONG_COOKIES = """
import targets
parse, size = targets.prelude(%r, b"cookies", b"parse"), %d
for text in (b"a" + b" " * size + b"b", b" " * size, b"a=1;" + b" " * size + b"=2", b'a="' * size, b'="' + b";" * size):
    assert len(list(parse(text))) <= 2
"""


@pytest.mark.parametrize("name", FINDINGS)
def test_the_corpus(name):
    target, data = FINDINGS[name]
    TARGETS[target].run(data)


@pytest.mark.parametrize("name", TARGETS)
def test_good_inputs_are_good(name):
    for data in TARGETS[name].seeds:
        TARGETS[name].run(data)


@pytest.mark.parametrize("version", LUA_VERSIONS)
def test_a_cookie_header_of_any_size_is_read_in_one_pass(version):
    subprocess.run([sys.executable, "-c", LONG_COOKIES % (version, SIZE)], check=True, timeout=LIMIT,
                   env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)))


@pytest.mark.parametrize("version", LUA_VERSIONS)
def test_thousands_of_headers_do_not_become_thousands_of_searches(version):
    # Three pairs as in the request before, then one that is not, and so on.
    def request(turn):
        return [(b"H%d" % number, b"" if number % 4 else b"%d" % turn) for number in range(4000)]

    def noted(pairs):
        position, items = 1, []
        for pair in pairs:
            items += (*pair, position)
            position += len(encode([pair]))
        return items

    runtime = Engine(version, c_modules=False).new_runtime()
    learn = runtime.execute(dict(Engine(version, c_modules=False).prelude())[b"runs"])
    runs = learn(encode(request(2)), runtime.table_from(noted(request(1))), runtime.table_from(noted(request(2))))
    assert 0 < len(runs) <= 16
