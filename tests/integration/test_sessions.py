"""Sessions and Shared on both stores, real processes throughout: what was acknowledged is there, for all workers."""
from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Dict, Iterator, List

import pytest
import redis

from harness import ROOT, Site, free_port, is_alive, wait_until
from servers import Master
from luafcgid2.sessions import open_store
from visitors import SAFARI, Hammer, RedisServer, Visitor

TABS, TURNS = 8, 50
# Reads its session, waits at a named pipe, then writes: so that requests really overlap.
HELD = """
function main()
  local query = lf.parse(Env.QUERY_STRING)
  local before = Session.GetVar("held", query.key)
  local pipe = io.open(query.pipe)
  pipe:read("l")
  pipe:close()
  Session.SetVar("held", query.key, "set")
  Send(tostring(before))
end
"""


# Uses the store as a worker does, and leaves.
OTHER_PROCESS = """
import logging, sys
from luafcgid2.sessions import open_store
store = open_store(sys.argv[1], logging.getLogger())
store.check()
store.close()
"""


@pytest.fixture(scope="module", params=("sqlite", "redis"))
def master(request) -> Iterator[Master]:
    """Two workers of four threads on a store of either kind, for all tests that want one."""
    with contextlib.ExitStack() as running:
        site = running.enter_context(Site())
        url = "sqlite://" + os.path.join(site.run, "state.db")
        if request.param == "redis":
            url = running.enter_context(RedisServer(site)).url
        yield running.enter_context(Master(site, SessionStore=url, Workers=2, WorkerThreads=4, LogLevel="debug"))


@pytest.fixture
def visit(master: Master) -> Iterator[Callable[..., Visitor]]:
    """visit(ip=..., agent=...): somebody with an empty cookie jar."""
    with contextlib.ExitStack() as stack:
        yield lambda **who: stack.enter_context(contextlib.closing(Visitor(master, **who)))


def stored(visitor: Visitor) -> Dict[str, int]:
    """What hammer.lua finds in the session."""
    lines = visitor.ask("hammer.lua").body.decode().splitlines()
    return {name: int(value) for name, _, value in (line.partition("=") for line in lines)}


class TestNothingIsLost:
    def test_eight_tabs_write_one_session_and_one_counter(self, visit) -> None:
        visitor = visit()
        visitor.call("Session.Start")
        visitor.call("Shared.Delete", "hammer")
        with Hammer(visitor, TABS, TURNS) as hammer:
            pass
        assert sorted(hammer.counts) == list(range(1, TABS * TURNS + 1))
        assert visitor.call("Shared.Get", "hammer") == str(TABS * TURNS)
        assert stored(visitor) == hammer.stored
        assert len(hammer.stored) == TABS * Hammer.NAMES

    def test_kill_9_of_workers_and_of_the_master_loses_nothing_acknowledged(self, master: Master, visit) -> None:
        master.expect_errors("was killed by SIGKILL|the master is gone")
        visitor = visit()
        visitor.call("Session.Start")
        visitor.call("Shared.Delete", "hammer")
        with Hammer(visitor, TABS) as hammer:
            for _ in range(2):
                hammer.wait(100)
                victim = master.workers()[0]
                os.kill(victim, signal.SIGKILL)
                wait_until(lambda gone=victim: not is_alive(gone) and len(master.workers()) == 2, "a new worker")
            hammer.wait(100)
            workers = master.workers()
            for victim in (*workers[:1], master.pid):
                os.kill(victim, signal.SIGKILL)
            wait_until(lambda: not any(map(is_alive, workers)), "the workers leave")
            master.stop()
            master.start()
            hammer.wait(100)
        visitor.close()
        found = stored(visitor)
        # A request that died may have been stored or not; never anything older than what was acknowledged.
        assert set(hammer.stored) <= set(found) <= set(hammer.tried)
        assert [name for name in hammer.stored if not hammer.stored[name] <= found[name] <= hammer.tried[name]] == []
        assert len(set(hammer.counts)) == len(hammer.counts) == hammer.answers
        assert max(hammer.counts) <= int(visitor.call("Shared.Get", "hammer")) <= hammer.requests

    def test_overlapping_requests_that_set_different_variables_both_win(self, master: Master, visit, tmp_path) -> None:
        master.site.write("held.lua", HELD)
        visitor = visit()
        visitor.call("Session.Start")
        pipes, threads, answers = [str(tmp_path / name) for name in ("a", "b")], [], []
        for pipe in pipes:
            os.mkfifo(pipe)
            tab = visit().takes_cookies_of(visitor)
            threads.append(threading.Thread(target=lambda tab=tab, pipe=pipe: answers.append(
                tab.ask("held.lua", key=os.path.basename(pipe), pipe=pipe).body)))
            threads[-1].start()
        with open(pipes[0], "w") as first, open(pipes[1], "w") as second:
            # Both have read the session by now, neither has written.
            for pipe in (first, second):
                pipe.write("go\n")
                pipe.flush()
            for thread in threads:
                thread.join(30)
        assert answers == [b"nil", b"nil"]
        assert [visitor.call("Session.GetVar", "held", name) for name in ("a", "b")] == ["set", "set"]


class TestWhoGetsASession:
    @pytest.fixture
    def anna(self, visit) -> Visitor:
        visitor = visit()
        assert visitor.call("Session.SetVar", "shop", "user", "anna") == "true"
        return visitor

    def test_a_cookie_stolen_to_another_address_and_browser_is_worth_nothing(self, visit, anna: Visitor) -> None:
        thief = visit(ip="203.0.113.9", agent=SAFARI).takes_cookies_of(anna)
        assert thief.call("Session.GetVar", "shop", "user") == "nil"
        assert thief.key == ""
        assert anna.call("Session.GetVar", "shop", "user") == "anna"

    @pytest.mark.parametrize("change, user", (
        (dict(ip="203.0.113.9"), "anna"), (dict(agent=SAFARI, language="de"), "anna"),
        (dict(ip="203.0.113.9", language="de"), "nil"), (dict(ip="203.0.113.9", agent=SAFARI), "nil")))
    def test_three_points_pass_by_address_or_by_browser_and_language(self, visit, anna: Visitor, change, user) -> None:
        assert visit(**change).takes_cookies_of(anna).call("Session.GetVar", "shop", "user") == user

    def test_after_regenerate_the_old_cookie_is_worth_nothing(self, visit, anna: Visitor) -> None:
        old = visit().takes_cookies_of(anna)
        assert anna.call("Session.Regenerate") == anna.key != old.key
        assert anna.call("Session.GetVar", "shop", "user") == "anna"
        assert old.call("Session.GetVar", "shop", "user") == "nil"

    def test_keys_are_never_logged_whole(self, master: Master, visit, anna: Visitor) -> None:
        master.site.write("broken.lua", "function main() Session.SetVar('shop', 'basket', 1) error('after') end")
        master.expect_errors("broken.lua")
        keys, stale = [anna.key], visit().takes_cookies_of(anna)
        visit(ip="203.0.113.9", agent=SAFARI).takes_cookies_of(anna).call("Session.GetVar", "shop", "user")
        anna.ask("broken.lua", status=500)
        keys.append(anna.call("Session.Regenerate"))
        stale.call("Session.GetVar", "shop", "user")
        anna.call("Session.Delete")
        assert len(set(keys)) == 2
        line = "session %s...: not given to 203.0.113.9: 1 points of 3" % keys[0][:4]
        # Such lines are written in batches.
        wait_until(lambda: line in master.log_text(), "the worker writes it")
        assert [key for key in keys for text in (master.log_text(), master.output()) if key[:8] in text] == []


class TestTheLoginExample:
    @pytest.fixture(autouse=True)
    def example(self, master: Master) -> None:
        for name in ("login.lua", "lib/page.lua"):
            with open(os.path.join(ROOT, "examples", name), encoding="utf-8") as file:
                master.site.write(name, file.read())

    def test_who_knows_the_password_is_logged_in_until_the_logout(self, visit) -> None:
        visitor = visit(ip="192.0.2.20")
        assert b'name="password"' in visitor.ask("login.lua").body
        visitor.ask("login.lua", status=403, post={"name": "guest", "password": "luna"})
        assert visitor.key == ""
        visitor.ask("login.lua", status=303, post={"name": "guest", "password": "lua"})
        assert b"Hello, guest!" in visitor.ask("login.lua").body
        left_behind = visit(ip="192.0.2.20").takes_cookies_of(visitor)
        visitor.ask("login.lua", status=303, post={"logout": "yes"})
        assert visitor.key == ""
        for each in (visitor, left_behind):
            assert b'name="password"' in each.ask("login.lua").body

    def test_a_cookie_that_was_planted_before_the_login_is_worth_nothing_after_it(self, visit) -> None:
        attacker = visit(ip="192.0.2.21")
        attacker.call("Session.Start")
        victim = visit(ip="192.0.2.21").takes_cookies_of(attacker)
        victim.ask("login.lua", status=303, post={"name": "guest", "password": "lua"})
        assert victim.key not in ("", attacker.key)
        assert b"Hello, guest!" in victim.ask("login.lua").body
        assert b'name="password"' in attacker.ask("login.lua").body

    def test_guessing_is_over_after_five_tries_for_this_address_only(self, visit) -> None:
        guesser, other = visit(ip="192.0.2.22"), visit(ip="192.0.2.23")
        for status in (403, 403, 403, 403, 403, 429, 429):
            guesser.ask("login.lua", status=status, post={"name": "guest", "password": "?"})
        guesser.ask("login.lua", status=429, post={"name": "guest", "password": "lua"})
        other.ask("login.lua", status=303, post={"name": "guest", "password": "lua"})


@pytest.mark.parametrize("settings, url", (
    ({}, "http://site.test/"),
    ({"SessionCookieDomain": "site.test"}, "http://www.site.test/"),
    ({"SessionCookieSecure": True, "SessionCookieSameSite": "Lax"}, "https://site.test/shop/"),
), ids=("host only", "domain", "secure"))
def test_delete_makes_the_browser_forget_the_cookie(site: Site, start, settings, url) -> None:
    master = start(Master, site, **settings)
    with contextlib.closing(Visitor(master, url=url)) as visitor:
        visitor.call("Session.SetVar", "shop", "user", "anna")
        key = visitor.key
        assert len(key) == 24
        assert visitor.call("Session.GetVar", "shop", "user") == "anna"
        visitor.call("Session.Delete")
        assert list(visitor.jar) == []
        assert visitor.call("Session.GetVar", "shop", "user") == "nil"
        assert list(visitor.jar) == []


def test_a_script_that_uses_neither_opens_no_session_file(site: Site, start) -> None:
    path = os.path.join(site.run, "state.db")
    master = start(Master, site, SessionStore="sqlite://" + path)

    def opened() -> List[str]:
        return [link for pid in master.workers() for link in links(pid) if link.startswith(path)]
    # A worker makes the file empty, closes it, and opens it again to fill it.
    wait_until(lambda: os.path.exists(path) and os.path.getsize(path) and not opened(),
               "a worker looks at the store once when it starts")
    with contextlib.closing(Visitor(master)) as visitor:
        for _ in range(40):
            visitor.ask("respond.lua", body="x")
        assert opened() == []
        visitor.call("Session.SetVar", "shop", "user", "anna")
        assert opened() != []


def test_a_script_that_uses_neither_asks_redis_nothing(site: Site, start) -> None:
    server = start(RedisServer, site)
    master = start(Master, site, SessionStore=server.url)
    with contextlib.closing(Visitor(master)) as visitor, contextlib.closing(redis.Redis.from_url(server.url)) as own:
        wait_until(lambda: "cmdstat_set" in own.info("commandstats"), "a worker looks at the store when it starts")
        wait_until(lambda: own.info("clients")["connected_clients"] == 1, "and lets go of it")
        before = own.info("stats")["total_commands_processed"]
        for _ in range(40):
            visitor.ask("respond.lua", body="x")
        assert own.info("stats")["total_commands_processed"] == before + 1
        visitor.call("Session.SetVar", "shop", "user", "anna")
        assert own.info("stats")["total_commands_processed"] > before + 2


def links(pid: int) -> List[str]:
    """What the descriptors of a process lead to."""
    found = []
    for name in os.listdir("/proc/%d/fd" % pid):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink("/proc/%d/fd/%s" % (pid, name)))
    return found


class TestAnUnusableStore:
    @pytest.fixture(params=("corrupt", "unwritable", "unreachable"))
    def broken(self, request, site: Site, start) -> Master:
        port = free_port()
        url = {"corrupt": "sqlite://" + os.path.join(site.www, "plain.txt"),
               "unwritable": "sqlite://" + os.path.join(site.www, "plain.txt", "state.db"),
               "unreachable": "redis://127.0.0.1:%d/0" % port}[request.param]
        with open(os.path.join(site.www, "plain.txt"), "w") as file:
            file.write("no database at all\n" * 200)
        master = start(Master, site, SessionStore=url)
        master.expect_errors("scripts that use Session|call.lua|session store|expired")
        master.name = "127.0.0.1:%d" % port if request.param == "unreachable" else url[len("sqlite://"):]
        return master

    def test_is_named_at_the_start(self, broken: Master) -> None:
        pattern = re.compile(r"error: scripts that use Session or Shared will fail: .*" + re.escape(broken.name))
        wait_until(lambda: pattern.search(broken.log_text()), "a warning that names the store")

    def test_fails_scripts_that_use_it_and_no_others(self, broken: Master) -> None:
        with contextlib.closing(Visitor(broken).has_key("a" * 24)) as visitor:
            for call in ("Session.GetVar", "Session.SetVar", "Shared.Get", "Shared.Set"):
                visitor.ask("call.lua", status=500, call=call, a=("shop", "user", "anna"))
                assert visitor.ask("respond.lua", body="alive").body == b"alive"
        assert re.search(r"error: .*call\.lua.*" + re.escape(broken.name), broken.log_text())


def test_redis_that_goes_and_comes_back_is_found_again_and_keeps_what_it_had(site: Site, start) -> None:
    server = start(RedisServer, site)
    master = start(Master, site, SessionStore=server.url)
    with contextlib.closing(Visitor(master)) as visitor:
        visitor.call("Session.SetVar", "shop", "user", "anna")
        server.stop()
        master.expect_errors("call.lua|session store")
        visitor.ask("call.lua", status=500, call="Session.GetVar", a=("shop", "user"))
        server.start()
        visitor.call("Session.GetVar", "shop", "user")
        assert visitor.call("Session.GetVar", "shop", "user") == "anna"


def test_a_process_that_leaves_does_not_take_the_log_of_one_with_several_connections(tmp_path) -> None:
    url, log = "sqlite://%s" % (tmp_path / "state.db"), str(tmp_path / "state.db-wal")
    store = open_store(url, logging.getLogger("test-sessions"))
    with contextlib.closing(store), ThreadPoolExecutor(2) as threads:
        barrier = threading.Barrier(2)

        def look(key: bytes) -> None:
            barrier.wait(30)
            store.load(key, 0)
        list(threads.map(look, (b"a", b"b")))
        inode = os.stat(log).st_ino
        subprocess.run([sys.executable, "-c", OTHER_PROCESS, url], cwd=ROOT, check=True)
        assert os.stat(log).st_ino == inode


def test_reading_a_session_writes_to_the_file_once_in_a_tenth_of_its_life_at_most(site: Site, start) -> None:
    path, ends = os.path.join(site.run, "state.db"), ("", "-wal")
    master = start(Master, site, SessionStore="sqlite://" + path, SessionTime=10)

    def written() -> List[int]:
        return [os.stat(path + end).st_mtime_ns for end in ends]
    with contextlib.closing(Visitor(master)) as visitor:
        visitor.call("Session.SetVar", "shop", "user", "anna")
        states, ends_at, reads = [written()], [expiry(visitor)], 0
        while len(ends_at) == 1 or reads < len(ends_at) + 10:
            assert visitor.call("Session.GetVar", "shop", "user") == "anna"
            reads += 1
            if written() != states[-1]:
                states.append(written())
            if expiry(visitor) != ends_at[-1]:
                ends_at.append(expiry(visitor))
    # The end moves on by a second, a tenth of SessionTime, and only that was written.
    assert len(states) == len(ends_at)


def expiry(visitor: Visitor) -> int:
    """When the session cookie ends, in seconds since 1970."""
    return next(cookie.expires for cookie in visitor.jar)
