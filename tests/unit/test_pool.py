"""The state pool keeps its promises about clones, limits and versions, and never loses count."""
from __future__ import annotations

import gc
import logging
import os
import threading
import time
from types import SimpleNamespace

import pytest

from luafcgid2 import config, wiring
from luafcgid2.errors import Error, ScriptError, ScriptNotFound
from luafcgid2.params import Wanted, encode
from luafcgid2.pool import Rules, StatePool
from luafcgid2.runtime import Engine
from luafcgid2.script import Script
from luafcgid2.sessions.session import SessionService
from luafcgid2.state import LuaState, Services

COUNTER = "n = 0 function main() n = n + 1 Send(n) end"


@pytest.fixture(scope="module")
def engine():
    return Engine("5.3", c_modules=False)


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append((record.levelname, record.getMessage()))

    def errors(self):
        return [text for level, text in self.lines if level in ("ERROR", "WARNING", "CRITICAL")]


class House:
    """A pool over a folder of scripts.  `ask` is one request, `out` a state that stays checked out."""

    def __init__(self, engine, folder, **options):
        rules = dict(states=1, max_states=3, total=10, keep=0.0, checksum=True, startup="", last_good=True)
        rules.update(options)
        self.folder = str(folder)
        self.log, logger = Lines(), logging.Logger("pool")
        logger.addHandler(self.log)
        self.generation = 1
        settings = config.defaults(session_store="sqlite://%s/state.db" % folder)
        sessions = wiring.make_sessions(settings, logger)
        assert isinstance(sessions, SessionService)

        def per_state():
            own = sessions.for_state()
            return {name: getattr(own, method) for name, method in wiring.HOST_CALLS.items()}
        services = Services(engine, lambda: wiring.settings(settings, engine), logger, {}, per_state)
        self.pool = StatePool(services, Rules(**rules), lambda: self.generation, logger)
        self._ticks = 0

    def script(self, name="x.lua"):
        path = os.fsencode(os.path.join(self.folder, name))
        return Script(path, os.path.realpath(path), os.fsencode(self.folder))

    def write(self, source, name="x.lua"):
        """Replace a file in one step, with a time of its own."""
        path = os.path.join(self.folder, name)
        with open(path + ".new", "w") as file:
            file.write(source)
        self._ticks += 1
        os.utime(path + ".new", (1_000_000 + self._ticks, 1_000_000 + self._ticks))
        os.replace(path + ".new", path)

    def out(self, name="x.lua"):
        return self.pool.checkout(self.script(name))

    def run(self, state):
        script = state.version.script
        wanted = Wanted(script.path, script.root)
        pairs = {"SCRIPT_FILENAME": wanted[0], "DOCUMENT_ROOT": wanted[1]}
        found = state.handle(encode(pairs), b"", 0, wanted)
        whole = found if isinstance(found, bytes) else found[0] + found[1]
        return whole.partition(b"\r\n\r\n")[2].decode()

    def ask(self, name="x.lua"):
        with self.out(name) as state:
            return self.run(state)

    def counts(self):
        return {os.path.basename(path).decode(): count for path, count in self.pool.counts().items()}

    def check_counts(self):
        """Nothing is under way: what is counted is idle, and nothing is lost."""
        entries = list(self.pool._entries.values())
        assert [entry.total for entry in entries] == [len(entry.idle) for entry in entries]
        assert self.pool._total == sum(entry.total for entry in entries)
        assert all(state.version is entry.version for entry in entries for state in entry.idle)


@pytest.fixture
def house(engine, tmp_path):
    made = []

    def make(**options):
        made.append(House(engine, tmp_path, **options))
        made[-1].write(COUNTER)
        return made[-1]
    yield make
    for one in made:
        one.check_counts()
        one.pool.close()
        assert one.pool._total == 0


def test_what_only_states_need_is_made_with_the_first_one(house):
    there = house()
    services = there.pool._services
    assert not {"settings", "core", "interrupter"} & set(vars(services)), "a worker without a state is smaller"
    there.write("function main() Send('x') end")
    assert there.ask() == "x"
    assert {"settings", "core", "interrupter"} <= set(vars(services)) and services.interrupter is not None


class TestClones:
    def test_globals_persist_between_requests(self, house):
        one = house()
        assert [one.ask() for _ in range(3)] == ["1", "2", "3"]

    def test_clones_are_isolated_from_each_other(self, house):
        one = house()
        with one.out() as first, one.out() as second:
            assert first is not second
            assert [one.run(first), one.run(first), one.run(second)] == ["1", "2", "1"]

    def test_lua_states_are_made_after_the_first_use(self, house):
        one = house(states=3, max_states=5)
        with one.out() as state:
            assert one.counts() == {"x.lua": 1}
            assert one.run(state) == "1"
        assert one.pool.pending
        one.pool.spare_time()
        assert one.counts() == {"x.lua": 3} and not one.pool.pending

    def test_lua_states_never_exceed_the_limits(self, house):
        one = house(states=9, max_states=4, total=3)
        one.ask()
        one.pool.spare_time()
        assert one.counts() == {"x.lua": 3}
        one = house(states=9, max_states=4)
        one.ask()
        one.pool.spare_time()
        assert one.counts() == {"x.lua": 4}

    def test_beyond_lua_max_states_a_state_serves_one_request(self, house):
        one = house(max_states=2)
        states = [one.out() for _ in range(4)]
        assert one.counts() == {"x.lua": 2}
        assert [state.pooled for state in states] == [True, True, False, False]
        assert len({one.run(state) for state in states}) == 1
        for state in states:
            one.pool.checkin(state)
        assert one.counts() == {"x.lua": 2}
        assert [state._runtime is None for state in states] == [False, False, True, True]

    def test_states_have_numbers_of_their_own(self, house):
        one = house()
        one.write("function main() Send(Info.State) end")
        with one.out() as first, one.out() as second:
            assert one.run(first) != one.run(second)

    def test_a_state_that_broke_is_closed(self, house):
        one = house()
        with one.out() as state:
            state.broken = True
        assert state._runtime is None and one.counts() == {"x.lua": 0}
        assert one.ask() == "1"

    def test_a_lua_error_does_not_cost_the_state(self, house):
        one = house()
        one.write("n = 0 function main() n = n + 1 if n == 2 then error('x') end Send(n) end")
        assert one.ask() == "1"
        with pytest.raises(ScriptError):
            one.ask()
        assert one.ask() == "3" and one.counts() == {"x.lua": 1}

    def test_a_script_that_fails_at_its_top_level_is_an_error_each_time_and_leaves_nothing(self, house):
        one = house()
        one.write("error('not today')")
        for _ in range(3):
            with pytest.raises(ScriptError, match="not today") as caught:
                one.ask()
            assert "stack traceback" in caught.value.traceback
        assert one.pool._total == 0
        one.write(COUNTER)
        assert one.ask() == "1"

    def test_a_closed_pool_runs_finalizers(self, house, tmp_path):
        one = house()
        one.write("keep = setmetatable({}, { __gc = function() io.open('%s', 'w'):close() end }) "
                  "function main() end" % (tmp_path / "closed"))
        one.ask()
        assert not (tmp_path / "closed").exists()
        one.pool.close()
        gc.collect()
        assert (tmp_path / "closed").exists()

    def test_two_document_roots_do_not_share_states(self, house):
        one = house()
        first, second = one.script(), one.script()._replace(root=b"/other")
        with one.pool.checkout(first) as state:
            one.run(state)
        with one.pool.checkout(second) as state:
            assert one.run(state) == "1"


class TestTotal:
    def test_the_least_recently_used_script_loses_an_idle_clone(self, house):
        one = house(total=2)
        for name in ("a.lua", "b.lua", "c.lua"):
            one.write(COUNTER, name)
        assert (one.ask("a.lua"), one.ask("b.lua"), one.ask("a.lua")) == ("1", "1", "2")
        assert one.ask("c.lua") == "1"
        assert one.counts() == {"a.lua": 1, "c.lua": 1}
        assert one.ask("a.lua") == "3"
        assert one.ask("b.lua") == "1"
        assert one.counts() == {"a.lua": 1, "b.lua": 1}

    def test_busy_states_are_never_evicted(self, house):
        one = house(total=2)
        one.write(COUNTER, "a.lua")
        with one.out() as first, one.out() as second:
            with one.out("a.lua") as third:
                assert one.run(third) == "1" and not third.pooled
            assert one.run(first) == one.run(second) == "1"
        assert one.counts()["x.lua"] == 2 and not one.counts().get("a.lua")

    def test_the_script_itself_does_not_lose_to_itself(self, house):
        one = house(total=2, max_states=5)
        states = [one.out() for _ in range(3)]
        assert [state.pooled for state in states] == [True, True, False]
        for state in states:
            one.pool.checkin(state)

    def test_many_scripts_never_exceed_it(self, house):
        one = house(total=5)
        for number in range(30):
            one.write(COUNTER, "s%d.lua" % number)
            assert one.ask("s%d.lua" % number) == "1"
            assert one.pool._total <= 5
        assert sum(one.counts().values()) == 5


class TestReload:
    def test_an_edit_is_seen_and_loaded_once(self, house):
        one = house()
        one.ask()
        one.write("n = 10 function main() n = n + 1 Send(n) end")
        assert [one.ask() for _ in range(3)] == ["11", "12", "13"]
        assert [text for _, text in one.log.lines if "reloaded" in text] == ["reloaded %s/x.lua" % one.folder]

    def test_all_clones_are_replaced(self, house):
        one = house(states=3)
        one.ask()
        one.pool.spare_time()
        old = list(one.pool._entries.values())[0].idle[:]
        one.write("function main() Send('new') end")
        assert one.ask() == "new"
        one.pool.spare_time()
        states = [one.out() for _ in range(3)]
        assert [one.run(state) for state in states] == ["new"] * 3
        assert all(state._runtime is None for state in old)
        for state in states:
            one.pool.checkin(state)
        assert one.counts() == {"x.lua": 3}

    def test_a_state_under_way_finishes_with_its_version_and_is_closed(self, house):
        one = house()
        with one.out() as old:
            one.write("function main() Send('new') end")
            assert one.ask() == "new"
            assert one.run(old) == "1"
        assert old._runtime is None and one.counts() == {"x.lua": 1}

    def test_an_edit_of_a_required_module_is_seen(self, house):
        one = house()
        one.write("return 'one'", "m.lua")
        one.write("local m = require 'm' function main() Send(m) end")
        assert one.ask() == "one"
        one.write("return 'two'", "m.lua")
        assert one.ask() == "two"

    def test_an_edit_of_a_module_required_within_a_request_is_seen(self, house):
        one = house()
        one.write("return 'one'", "m.lua")
        one.write("function main() Send(require 'm') end")
        assert one.ask() == "one"
        one.write("return 'two'", "m.lua")
        assert one.ask() == "two"

    def test_a_file_that_a_request_reads_with_dofile_is_data_and_reloads_nothing(self, house):
        one = house()
        one.write("return 1", "data.lua")
        one.write("runs = 0 function main() runs = runs + 1 Send(runs .. dofile('%s/data.lua')) end" % one.folder)
        assert [one.ask(), one.ask()] == ["11", "21"]
        one.write("return 2", "data.lua")
        assert one.ask() == "32"

    def test_an_edit_of_a_file_of_dofile_is_seen(self, house):
        one = house()
        one.write("return 'one'", "m.lua")
        one.write("local m = dofile('%s/m.lua') function main() Send(m) end" % one.folder)
        assert one.ask() == "one"
        one.write("return 'two'", "m.lua")
        assert one.ask() == "two"

    def test_an_edit_of_the_startup_script_is_seen(self, house, tmp_path):
        one = house(startup=str(tmp_path / "startup.lua"))
        one.write("NAME = 'one'", "startup.lua")
        one.write("local name = NAME function main() Send(name) end")
        assert one.ask() == "one"
        one.write("NAME = 'two'", "startup.lua")
        assert one.ask() == "two"

    def test_clones_of_one_version_never_mix_modules_of_two(self, house):
        one = house(states=3, keep=1000)
        one.write("return 'one'", "m.lua")
        one.write("local m = require 'm' function main() Send(m) end")
        one.ask()
        one.write("return 'two'", "m.lua")
        one.pool.spare_time()
        states = [one.out() for _ in range(3)]
        assert {one.run(state) for state in states} == {"one"}
        for state in states:
            one.pool.checkin(state)

    def test_the_disk_is_looked_at_once_in_min_file_info_time(self, house):
        one = house(keep=1000)
        one.ask()
        one.write("function main() Send('new') end")
        assert one.ask() == "2"

    def test_a_touched_file_keeps_its_states(self, house):
        one = house()
        one.ask()
        one.write(COUNTER)
        assert one.ask() == "2"

    def test_a_deleted_script_is_not_found_and_may_come_back(self, house):
        one = house()
        one.ask()
        script = one.script()
        os.unlink(script.real)
        for _ in range(2):
            with pytest.raises(ScriptNotFound):
                one.pool.checkout(script)
        assert one.pool._total == 0
        one.write(COUNTER)
        assert one.ask() == "1"

    def test_a_script_deleted_under_a_request_lets_it_finish(self, house):
        one = house()
        with one.out() as state:
            os.unlink(one.script().real)
            with pytest.raises(ScriptNotFound):
                one.ask()
            assert one.run(state) == "1"
        assert state._runtime is None

    def test_a_symbolic_link_that_is_switched_is_seen(self, house):
        one = house(keep=1000)
        for release in ("one", "two"):
            os.mkdir(os.path.join(one.folder, release))
            one.write("function main() Send('%s') end" % release, release + "/r.lua")
        link = os.path.join(one.folder, "current")
        os.symlink("one", link)
        assert one.ask("current/r.lua") == "one"
        os.symlink("two", link + ".new")
        os.replace(link + ".new", link)
        assert one.ask("current/r.lua") == "two"
        assert one.ask("current/r.lua") == "two"
        assert one.counts()["r.lua"] == 1


class TestGeneration:
    def test_a_flush_reloads_at_the_next_request(self, house):
        one = house(keep=1000)
        one.ask()
        one.ask()
        one.generation += 1
        assert [one.ask(), one.ask()] == ["1", "2"]

    def test_a_flush_shows_an_edit_at_once(self, house):
        one = house(keep=1000)
        one.ask()
        one.write("function main() Send('new') end")
        one.generation += 1
        assert one.ask() == "new"

    def test_a_flush_with_a_broken_script_keeps_the_last_good_version(self, house):
        one = house(keep=1000)
        one.ask()
        one.write("function main( oops")
        one.generation += 1
        assert [one.ask(), one.ask()] == ["2", "3"]
        assert len(one.log.errors()) == 1
        one.generation += 1
        assert one.ask() == "4"
        one.write(COUNTER)
        one.generation += 1
        assert one.ask() == "1"

    def test_a_flush_with_a_deleted_script_is_not_found(self, house):
        one = house(keep=1000)
        one.ask()
        script = one.script()
        os.unlink(script.real)
        one.generation += 1
        with pytest.raises(ScriptNotFound):
            one.pool.checkout(script)


BROKEN = {
    "a syntax error": "function main( oops",
    "half an upload": COUNTER[:20],
    "an empty file, as an upload begins": "",
    "half an upload that compiles": "count = 0",
    "a failing top level": "error('broken')",
    "an error value that is no text": "error({})",
    "a missing module": "require 'no.such.module'",
    "precompiled code": "\x1bLua",
}


class TestBrokenEdits:
    @pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
    def test_leave_the_last_good_version_serving_with_one_line_in_the_log(self, house, source):
        one = house()
        one.ask()
        one.write(source)
        assert [one.ask() for _ in range(3)] == ["2", "3", "4"]
        line, = one.log.errors()
        assert one.folder + "/x.lua" in line and "last good version" in line

    @pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
    def test_recover_with_the_next_good_edit(self, house, source):
        one = house()
        one.ask()
        one.write(source)
        one.ask()
        one.write("function main() Send('good') end")
        assert one.ask() == "good"
        assert one.counts() == {"x.lua": 1}

    def test_each_have_their_line(self, house):
        one = house()
        one.ask()
        for source in ("error('first')", "error('second')"):
            one.write(source)
            one.ask()
            one.ask()
        first, second = one.log.errors()
        assert "first" in first and "second" in second

    def test_recover_when_the_old_text_comes_back(self, house):
        one = house()
        one.ask()
        one.write("oops")
        one.ask()
        one.write(COUNTER)
        assert one.ask() in ("1", "3")
        one.write("function main() Send('new') end")
        assert one.ask() == "new"

    def test_recover_when_a_missing_module_comes(self, house):
        one = house()
        one.ask()
        one.write("local m = require 'm' function main() Send(m) end")
        assert one.ask() == "2"
        one.write("return 'module'", "m.lua")
        assert one.ask() == "module"

    def test_of_a_module_leave_the_last_good_version_serving(self, house):
        one = house()
        one.write("return 'one'", "m.lua")
        one.write("local m = require 'm' function main() Send(m) end")
        one.ask()
        one.write("return return", "m.lua")
        assert [one.ask(), one.ask()] == ["one", "one"]
        assert len(one.log.errors()) == 1 and "m.lua" in one.log.errors()[0]
        one.write("return 'two'", "m.lua")
        assert one.ask() == "two"

    def test_are_errors_with_on_reload_error_and_recover(self, house):
        one = house(last_good=False)
        one.ask()
        one.write("function main( oops")
        for _ in range(3):
            with pytest.raises(ScriptError, match="x.lua:1:"):
                one.ask()
        assert len(one.log.errors()) == 1
        one.write(COUNTER)
        assert one.ask() == "1"

    def test_do_not_grow_with_the_requests_that_they_fail(self, house):
        one = house(last_good=False)
        one.ask()
        one.write("function main( oops")
        depths = []
        for _ in range(20):
            with pytest.raises(ScriptError) as caught:
                one.ask()
            depths.append(len(caught.traceback))
        assert len(set(depths[1:])) == 1

    def test_that_delete_the_script_are_not_found(self, house):
        one = house()
        one.ask()
        one.write("oops")
        one.ask()
        script = one.script()
        os.unlink(script.real)
        with pytest.raises(ScriptNotFound):
            one.pool.checkout(script)


class TestGarbage:
    def test_a_state_that_asked_for_it_is_collected_in_spare_time(self, house):
        one = house()
        one.write("function main() if big then Send(collectgarbage('count')) end "
                  "big = true local t = {} for i = 1, 200000 do t[i] = {} end end")
        with one.out() as state:
            one.run(state)
            one.pool.wants_collection(state)
        assert one.pool.pending
        one.pool.spare_time()
        assert not one.pool.pending and one.counts() == {"x.lua": 1}
        assert float(one.ask()) < 4096

    def test_a_state_that_is_busy_again_is_left_alone(self, house):
        one = house()
        with one.out() as state:
            one.pool.wants_collection(state)
            one.pool.spare_time()
            assert one.run(state) == "1"

    def test_housekeeping_keeps_states_and_counts(self, house):
        one = house(states=3)
        one.ask()
        one.pool.spare_time()
        one.pool.housekeep()
        one.pool.housekeep()
        assert one.counts() == {"x.lua": 3}
        one.check_counts()

    def test_a_failing_finalizer_costs_no_state_and_no_worker(self, house):
        one = house()
        one.write("n = 0 function main() n = n + 1 setmetatable({}, { __gc = function() error('gc') end }) Send(n) end")
        assert one.ask() == "1"
        one.pool.housekeep()
        with one.out() as state:
            assert one.run(state) == "2"
            one.pool.wants_collection(state)
        one.pool.spare_time()
        assert one.ask() == "3"


def hammer(house, threads, seconds, disturb):
    """Requests from all sides while `disturb` edits; what they answered, and what went wrong."""
    answers, problems = set(), []
    end = time.monotonic() + seconds

    def work(number):
        name = "s%d.lua" % (number % 3)
        while time.monotonic() < end:
            try:
                answers.add(house.ask(name))
            except Error:
                answers.add("error")
            except BaseException as error:
                problems.append(error)
                return
            if house.pool.pending:
                house.pool.spare_time()
    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    steps = 0
    while time.monotonic() < end and not problems:
        disturb(steps)
        steps += 1
    for worker in workers:
        worker.join()
    assert not problems, problems
    assert steps > 3
    return answers


def settle(house):
    """One more request a script, so that all that is left is current."""
    for number in range(3):
        house.write("function main() Send('end') end", "s%d.lua" % number)
        assert house.ask("s%d.lua" % number) == "end"
    house.pool.housekeep()
    house.check_counts()


class TestManyThreads:
    def test_edits_under_way_lose_no_state(self, house):
        one = house(states=2, max_states=3, total=7)
        for number in range(3):
            one.write("function main() Send('start') end", "s%d.lua" % number)

        def disturb(step):
            kind = step % 5
            name = "s%d.lua" % (step % 3)
            if kind == 0:
                one.write("error('broken')", name)
            elif kind == 1:
                one.generation += 1
            elif kind == 2:
                one.pool.housekeep()
            else:
                one.write("local v = '%d' function main() Send(v) end" % step, name)
        answers = hammer(one, 6, 1.0, disturb)
        assert "error" not in answers, "the last good version serves"
        assert len(answers) > 3
        settle(one)

    def test_deletions_and_evictions_under_way_lose_no_state(self, house):
        one = house(states=2, max_states=3, total=3, last_good=False)
        for number in range(3):
            one.write("function main() Send('start') end", "s%d.lua" % number)

        def disturb(step):
            name = "s%d.lua" % (step % 3)
            if step % 4 == 3:
                os.unlink(os.path.join(one.folder, name))
            one.write("local v = '%d' function main() Send(v) end" % step, name)
        hammer(one, 6, 1.0, disturb)
        settle(one)

    def test_a_slow_build_lets_others_be_served(self, house, monkeypatch):
        one = house()
        assert one.ask() == "1"
        building, go_on = threading.Event(), threading.Event()
        build = LuaState.__init__

        def slowly(*arguments):
            building.set()
            assert go_on.wait(30)
            build(*arguments)
        monkeypatch.setattr(LuaState, "__init__", slowly)
        one.write("function main() Send('new') end")
        answer = SimpleNamespace(text=None)

        def first():
            answer.text = one.ask()
        thread = threading.Thread(target=first)
        thread.start()
        assert building.wait(30)
        assert one.ask() == "2", "the version before serves while the new one is built"
        go_on.set()
        thread.join(30)
        assert answer.text == "new" and one.ask() == "new"
