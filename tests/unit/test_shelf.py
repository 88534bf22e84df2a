"""A script whose state was closed for another's comes back at little cost, and never as it was before an edit."""
from __future__ import annotations

import os

import pytest
from test_pool import House

from luafcgid2.errors import ScriptNotFound
from luafcgid2.runtime import Engine
from luafcgid2.script import Script, Version
from luafcgid2.shelf import Shelf

PAGE = "function main() Send('%s') end"


@pytest.fixture(scope="module")
def engine():
    return Engine("5.3", c_modules=False)


@pytest.fixture
def house(engine, tmp_path):
    """A pool of two states over three scripts."""
    one = House(engine, tmp_path, total=2)
    for name in "abc":
        one.write(PAGE % name, name + ".lua")
    yield one
    one.pool.close()


@pytest.fixture
def compiled(engine, monkeypatch):
    """The names of the scripts that are compiled."""
    names, compile_ = [], engine.compile

    def noted(source, name, strip=False):
        # The prelude and what the settings hold are no files.
        if name.startswith(b"@"):
            names.append(os.path.basename(name).decode())
        return compile_(source, name, strip)
    monkeypatch.setattr(engine, "compile", noted)
    return names


def turn(house):
    return "".join(house.ask(name + ".lua") for name in "abc")


def test_a_script_that_comes_back_is_not_compiled_again(house, compiled):
    assert [turn(house) for _ in range(4)] == ["abc"] * 4
    assert compiled == ["a.lua", "b.lua", "c.lua"]
    house.check_counts()


def test_a_script_that_was_edited_meanwhile_comes_back_as_it_is_now(house):
    turn(house)
    house.write(PAGE % "A", "a.lua")
    assert turn(house) == "Abc"


def test_a_module_that_was_edited_meanwhile_is_read_anew(house):
    house.write("return 'old'", "part.lua")
    house.write("local part = require('part') function main() Send(part) end", "a.lua")
    assert turn(house) == "oldbc"
    house.write("return 'new'", "part.lua")
    assert turn(house) == "newbc"


def test_a_script_that_was_removed_meanwhile_is_not_found(house):
    turn(house)
    os.unlink(os.path.join(house.folder, "a.lua"))
    with pytest.raises(ScriptNotFound):
        house.ask("a.lua")


def test_after_a_flush_all_is_compiled_anew(house, compiled):
    turn(house)
    house.generation += 1
    del compiled[:]
    turn(house)
    assert compiled == ["a.lua", "b.lua", "c.lua"]


def test_a_link_that_leads_elsewhere_now_is_followed(house):
    os.symlink("a.lua", os.path.join(house.folder, "link.lua"))
    assert house.ask("link.lua") == "a"
    turn(house)
    os.unlink(os.path.join(house.folder, "link.lua"))
    os.symlink("b.lua", os.path.join(house.folder, "link.lua"))
    assert house.ask("link.lua") == "b"


def test_it_holds_no_more_bytes_than_it_may(engine, house):
    versions = []
    for number in range(40):
        house.write(PAGE % ("x" * 500), "p%d.lua" % number)
        versions.append(Version(engine, house.script("p%d.lua" % number)))
        versions[-1].code()
    size = versions[0].size
    shelf = Shelf(10 * size)
    for version in versions:
        shelf.put(version, 1)
        shelf.put(version, 1)
    kept = [version for version in versions if shelf.take(version.script, 1) is version]
    assert 5 <= len(kept) <= 10
    shelf.put(versions[0], 1)
    assert shelf.take(versions[0].script, 2) is None, "another generation"
    shelf.put(versions[0], 1)
    shelf.clear()
    assert shelf.take(versions[0].script, 1) is None


def test_one_large_script_does_not_push_out_all_others(engine, house):
    house.write("return '%s'" % ("x" * 5000), "large.lua")
    large, small = Version(engine, house.script("large.lua")), Version(engine, house.script("a.lua"))
    large.code(), small.code()
    shelf = Shelf(8000)
    shelf.put(small, 1)
    shelf.put(large, 1)
    assert shelf.take(large.script, 1) is None and shelf.take(small.script, 1) is small


def test_a_state_that_had_to_go_is_closed_after_the_response(house):
    house.write("setmetatable({}, { __gc = function() Log('closed') end }) " + PAGE % "a", "a.lua")
    house.ask("a.lua")
    house.ask("b.lua")
    with house.out("c.lua") as state:
        assert not any(text == "closed" for _, text in house.log.lines)
        assert house.run(state) == "c"
    assert house.pool.pending
    house.pool.spare_time()
    assert not house.pool.pending and house.counts() == {"b.lua": 1, "c.lua": 1}
    house.check_counts()


def test_where_states_go_for_others_one_is_ready_for_the_next(house, engine, monkeypatch):
    turn(house)
    house.pool.spare_time()
    monkeypatch.setattr(engine, "raw_runtime", None)
    assert house.ask("a.lua") == "a"
    monkeypatch.undo()
    assert turn(house) == "abc"


def test_memory_that_is_wanted_back_is_given_back(house, compiled):
    turn(house)
    house.pool.spare_time()
    house.pool.evict()
    del compiled[:]
    assert turn(house) == "abc" and "a.lua" in compiled


def test_where_nothing_has_to_go_nothing_is_kept_ready(engine, tmp_path):
    one = House(engine, tmp_path)
    one.write(PAGE % "x")
    assert one.ask() == "x" and not one.pool.pending
    one.pool.close()


def test_the_name_of_a_script_is_not_enough(engine, house):
    script = house.script("a.lua")
    version = Version(engine, script)
    version.code()
    shelf = Shelf()
    shelf.put(version, 1)
    assert shelf.take(Script(script.path, script.real, b"/elsewhere"), 1) is None
    assert shelf.take(script, 1) is version
