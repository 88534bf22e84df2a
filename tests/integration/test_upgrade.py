"""SIGUSR2 and `luafcgid2ctl upgrade`: newly installed code takes over, or the running code goes on."""
from __future__ import annotations

import os
import signal

import pytest
from controlled import Daemon
from harness import accepts, is_alive, wait_until
from servers import Nginx
from test_reload_under_load import Load

from luafcgid2.pidfile import probe

HELLO = "function main() Send('hello') end"


@pytest.fixture
def server(site):
    """A running server; what is installed is a copy that a test may edit."""
    site.write("hello.lua", HELLO)
    with Daemon(site, copied=True) as daemon:
        yield daemon


def upgraded(server):
    """Upgrade; the new master's pid, once the old one is gone."""
    old = server.master
    done = server.ctl("upgrade")
    assert done.returncode == 0, done.stderr
    new = server.master
    assert new != old and done.stdout == f"luafcgid2 has a new master (pid {new})\n"
    wait_until(lambda: not is_alive(old), "the old master leaves")
    return new


def test_newly_installed_code_takes_over(server):
    server.edit("master.py", 'self.logger.info("ready")', 'self.logger.info("ready with new code")')
    new = upgraded(server)
    assert "ready with new code" in server.log_text()
    assert probe(server.pid_file)[:2] == ("running", new)
    assert server.ask("hello.lua") == "hello"


def test_the_new_master_can_do_what_the_old_one_could(server):
    upgraded(server)
    server.change(Workers=3)
    assert server.ctl("reload").returncode == 0
    wait_until(lambda: len(server.serving()) == 3, "three workers")
    upgraded(server)
    upgraded(server)
    assert server.ask("hello.lua") == "hello"
    assert server.ctl("stop").returncode == 0
    # What the last master leaves behind is what the first would have.
    assert not os.path.exists(server.address) and not os.path.exists(server.pid_file)
    server.start()


def test_no_request_fails_during_an_upgrade(site, server, start):
    nginx = start(Nginx, site, server)
    with Load(nginx, "/hello.lua") as load:
        for _ in range(3):
            upgraded(server)
            load.wait(50)
    assert set(load.statuses) == {200}


@pytest.mark.parametrize("module, old, new, words", [
    ("start.py", "import functools\n", "import functools, no_such_module\n", "No module named 'no_such_module'"),
    ("master.py", "class Master:", "class Master(:", "SyntaxError"),
    ("worker.py", "\n        self._handle_signals()\n", "\n        raise BootError('no luck')\n", "no luck"),
    ("master.py", "    def _settle(self,", "    def _unsettle(self,", "_settle"),
])
def test_code_that_does_not_start_leaves_the_old_master_serving(server, module, old, new, words):
    server.expect_errors("no upgrade: |no luck")
    master, workers = server.master, server.serving()
    server.edit(module, old, new)
    done = server.ctl("upgrade")
    assert done.returncode == 1
    assert words in server.log_text()
    assert "keeps its old master" in done.stderr
    assert (server.master, server.serving()) == (master, workers)
    assert server.ask("hello.lua") == "hello"


def test_a_configuration_that_does_not_start_leaves_the_old_master_serving(server):
    server.expect_errors("no upgrade: ")
    master = server.master
    server.change(WorkerThreads="many")
    done = server.ctl("upgrade")
    assert done.returncode == 1 and "WorkerThreads" in done.stderr
    assert server.master == master and server.ask("hello.lua") == "hello"


def test_an_upgrade_changes_what_a_reload_cannot(server):
    server.site.write("version.lua", "function main() Send(_VERSION) end")
    server.change(LuaVersion="5.4", Listen=server.address + "2")
    old = server.address
    upgraded(server)
    wait_until(lambda: not os.path.exists(old), "the old socket is removed")
    server.address += "2"
    assert server.ask("version.lua") == "Lua 5.4"


def test_a_request_under_way_is_finished_by_the_old_master(server):
    pipe = os.path.join(server.site.run, "pipe")
    os.mkfifo(pipe)
    server.site.write("held.lua", "function main() local p = io.open(Env.QUERY_STRING) Send(p:read('l')) p:close() end")
    with server.in_flight("held.lua", pipe) as outcome, open(pipe, "w") as end:
        old = server.master
        assert server.ctl("upgrade").returncode == 0
        assert server.ask("hello.lua") == "hello"
        assert is_alive(old)
        end.write("it")
    assert outcome == ["it"]
    wait_until(lambda: not is_alive(old), "the old master leaves")


def test_a_new_master_that_dies_while_the_old_one_drains_leaves_a_server(server):
    server.expect_errors("the new master .* has died|the master is gone")
    pipe = os.path.join(server.site.run, "pipe")
    os.mkfifo(pipe)
    server.site.write("held.lua", "function main() local p = io.open(Env.QUERY_STRING) Send(p:read('l')) p:close() end")
    with server.in_flight("held.lua", pipe), open(pipe, "w") as end:
        old = server.master
        assert server.ctl("upgrade").returncode == 0
        new = server.master
        os.kill(new, signal.SIGKILL)
        wait_until(lambda: server.master == old, "the old master's number")
        wait_until(lambda: len(server.serving()) >= 2, "its workers")
        assert server.ask("hello.lua") == "hello"
        end.write("it")
    wait_until(lambda: not is_alive(new), "the new one is gone")
    assert os.path.exists(server.address)
    upgraded(server)


def test_a_stop_right_after_an_upgrade_stops_both(server):
    old = server.master
    assert server.ctl("upgrade").returncode == 0
    assert server.ctl("stop").returncode == 0
    wait_until(lambda: not is_alive(old), "the old master leaves")
    assert not os.path.exists(server.address) and not os.path.exists(server.pid_file)
    server.start()


def test_a_stop_while_an_old_worker_drains_answers_its_request_and_ends(server):
    pipe = os.path.join(server.site.run, "pipe")
    os.mkfifo(pipe)
    server.site.write("held.lua", "function main() local p = io.open(Env.QUERY_STRING) Send(p:read('l')) p:close() end")
    with server.in_flight("held.lua", pipe) as outcome, open(pipe, "w") as end:
        server.change(Config={"number": 1})
        assert server.ctl("reload").returncode == 0
        os.kill(server.master, signal.SIGTERM)
        wait_until(lambda: "stopping gracefully" in server.log_text(), "the stop")
        end.write("it")
    assert outcome == ["it"]
    wait_until(lambda: not server.masters(), "the master is gone")
    server.start()


def test_a_third_server_cannot_start_while_one_hands_over_to_the_other(server):
    # What decides is the lock: it is never free, whoever the file names.
    states = set()
    os.kill(server.master, signal.SIGUSR2)
    old = server.master
    wait_until(lambda: states.add(probe(server.pid_file).state) or not is_alive(old), "the old master leaves")
    assert states == {"running"}
    assert accepts(server.address)


def test_a_script_sees_nothing_of_the_upgrade(server):
    server.site.write("env.lua", "function main() Send(tostring(os.getenv('LUAFCGID2_UPGRADE')) .. "
                                 "tostring(os.getenv('LUAFCGID2_READY_FD'))) end")
    server.site.write("fds.lua", "function main() Send(io.popen('ls /proc/self/fd'):read('a')) end")
    upgraded(server)
    assert server.ask("env.lua") == "nilnil"
    assert [int(fd) for fd in server.ask("fds.lua").split()] in ([0, 1, 2, 3], [0, 1, 2])
