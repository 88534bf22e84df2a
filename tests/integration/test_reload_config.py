"""SIGHUP and `luafcgid2ctl reload`: a new configuration is taken on worker by worker, or refused with a reason."""
from __future__ import annotations

import os
import signal

import pytest
from controlled import Daemon
from harness import is_alive, wait_until

SHOW = "function main() Send(Config.word or 'none') end"
# Slow enough to be seen, and to be met by the next signal.
SLOW_FILE = "local until_then = os.time() + 1 while os.time() <= until_then do end\n"


@pytest.fixture
def server(site):
    """A running server with two workers and a word for its scripts."""
    site.write("show.lua", SHOW)
    with Daemon(site, Config={"word": "first"}) as daemon:
        yield daemon


def test_an_unchanged_file_moves_the_generation_only(server):
    before = server.serving()
    done = server.ctl("reload")
    assert (done.returncode, done.stdout) == (0, f"luafcgid2 has reloaded (pid {server.master})\n")
    assert server.serving() == before
    assert "SIGHUP: generation 1" in server.log_text()


def test_a_changed_file_is_in_force_in_all_workers_when_ctl_returns(server):
    before = server.serving()
    server.change(Config={"word": "second"})
    assert server.ctl("reload").returncode == 0
    assert not set(server.serving()) & set(before)
    assert {server.ask("show.lua") for _ in range(20)} == {"second"}
    wait_until(lambda: not any(map(is_alive, before)), "the old workers leave")


def test_there_are_never_fewer_ready_workers_than_before(server):
    server.change(Config={"word": "second"})
    os.kill(server.master, signal.SIGHUP)
    counts = set()
    wait_until(lambda: counts.add(len(server.serving())) or server.header.reloads, "the reload")
    assert min(counts) >= 2


def test_workers_can_become_more_and_fewer(server):
    for count in (4, 1):
        server.change(Workers=count)
        assert server.ctl("reload").returncode == 0
        wait_until(lambda count=count: len(server.serving()) == count, "%d workers" % count)


def test_an_invalid_file_is_refused_with_the_reason(server):
    server.expect_errors("WorkerThreads")
    before = server.serving()
    server.change(WorkerThreads="many")
    done = server.ctl("reload")
    assert done.returncode == 1
    assert "keeps its old configuration" in done.stderr and "WorkerThreads" in done.stderr
    assert "error: the configuration stays as it was: " in server.log_text()
    assert server.serving() == before
    assert server.ask("show.lua") == "first"
    server.change(WorkerThreads=2, Config={"word": "third"})
    assert server.ctl("reload").returncode == 0
    assert server.ask("show.lua") == "third"


@pytest.mark.parametrize("key, value, words", [
    ("LogFilePath", "/nonexistent/dir/x.log", "/nonexistent/dir/x.log"),
    ("SessionStore", "nonsense://x", "nonsense"),
    # This one is seen only when a worker boots.
    ("StartupScript", None, "cannot boot today"),
])
def test_a_configuration_that_does_not_work_is_rolled_back(site, key, value, words):
    site.write("show.lua", SHOW)
    with Daemon(site, failing=words if value is None else "", Config={"word": "first"}) as server:
        server.expect_errors("the configuration stays|could not boot|exited with code 3")
        before = server.serving()
        server.change(**{key: value or "/failing.lua", "Config": {"word": "second"}})
        done = server.ctl("reload")
        assert done.returncode == 1
        assert words in done.stderr
        wait_until(lambda: server.serving() == before and len(server.workers()) == 2, "only the old workers")
        assert {server.ask("show.lua") for _ in range(10)} == {"first"}


def test_what_a_running_server_cannot_change_is_named_and_stays(server):
    server.expect_errors("a running server cannot change")
    server.change(Listen=server.address + "2", LuaVersion="5.4", Config={"word": "second"})
    done = server.ctl("reload")
    assert done.returncode == 0
    assert "LuaVersion" in done.stdout and "Listen" in done.stdout
    assert "cannot change LuaVersion, Listen" in server.log_text() or "cannot change Listen, LuaV" in server.log_text()
    assert server.ask("show.lua") == "second"
    assert not os.path.exists(server.address + "2")


def test_a_new_log_file_is_used_by_master_and_workers(server):
    server.site.write("log.lua", "function main() Log('from the script') Send('ok') end")
    new = server.log + ".new"
    server.change(LogFilePath=new)
    assert server.ctl("reload").returncode == 0
    server.ask("log.lua")

    def both_told():
        with open(new) as file:
            text = file.read()
        return "new configuration in force" in text and "from the script" in text
    wait_until(both_told, "the lines in the new file")


def test_a_signal_during_a_reload_is_obeyed_after_it(server):
    server.change(Config={"word": "second"}, text=SLOW_FILE)
    os.kill(server.master, signal.SIGHUP)
    wait_until(lambda: server.header.asked == 1, "the first reload")
    server.change(Config={"word": "third"})
    assert server.ctl("reload").returncode == 0
    assert server.ask("show.lua") == "third"


def test_requests_are_answered_while_a_slow_file_is_read(server):
    server.change(Config={"word": "second"}, text=SLOW_FILE)
    os.kill(server.master, signal.SIGHUP)
    wait_until(lambda: server.header.asked == 1, "the reload")
    victim = server.serving()[0]
    server.expect_errors("was killed by SIGKILL")
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in server.serving() and len(server.serving()) == 2, "a new worker")
    assert server.header.answered == 0
    wait_until(lambda: server.ask("show.lua") == "second", "the new configuration")


def test_a_request_under_way_is_finished_by_its_old_worker(server):
    pipe = os.path.join(server.site.run, "pipe")
    os.mkfifo(pipe)
    server.site.write("held.lua", "function main() local p = io.open(Env.QUERY_STRING) "
                                  "Send(p:read('l') .. Config.word) p:close() end")
    with server.in_flight("held.lua", pipe) as outcome, open(pipe, "w") as end:
        server.change(Config={"word": "second"})
        assert server.ctl("reload").returncode == 0
        assert server.ask("show.lua") == "second"
        end.write("it is ")
    assert outcome == ["it is first"]


def test_a_file_that_ends_its_reader_changes_nothing(server):
    server.expect_errors("the configuration stays")
    server.change(text="os.execute('kill -9 $PPID')\n")
    os.kill(server.master, signal.SIGHUP)
    wait_until(lambda: server.header.answered == 1, "the answer")
    assert b"ended the process that reads it" in server.header.outcome
    assert server.ask("show.lua") == "first"
    server.change()


def test_a_file_that_is_no_lua_is_refused(server):
    server.expect_errors("the configuration stays as it was")
    server.change(text="this is no Lua\n")
    done = server.ctl("reload")
    assert done.returncode == 1
    assert server.config + ":9: syntax error" in done.stderr
    server.change()
