"""What a service manager hears from a real master on a real datagram socket: sd_notify(3)."""
from __future__ import annotations

import contextlib
import os
import signal
import socket

import pytest
from harness import PATIENCE, accepts, is_alive
from servers import Master

from luafcgid2 import client

SCRIPT = 'function main() Send((os.getenv("NOTIFY_SOCKET") or "") .. (os.getenv("WATCHDOG_USEC") or "") .. ".") end\n'


class Manager:
    """The socket that a service manager listens on; name: a path, or "@name" in the abstract namespace."""

    def __init__(self, name):
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self.socket.settimeout(PATIENCE)

    def hear(self):
        """The next message, as a dictionary."""
        return dict(line.split("=", 1) for line in self.socket.recv(65536).decode().split("\n"))

    def hear_until(self, word):
        """The first message that holds this word, and those before it that are no sign of life."""
        before = []
        while True:
            found = self.hear()
            if word in found:
                return found, before
            if "WATCHDOG" not in found:
                before.append(found)


@pytest.fixture
def manager(site):
    made = Manager(os.path.join(site.run, "notify"))
    with contextlib.closing(made.socket):
        yield made


def notifying(site, manager, **environment):
    """A master with this service manager, not started yet."""
    server = Master(site)
    server.environment.update(environment, NOTIFY_SOCKET=manager.name)
    return server


def test_ready_is_said_once_connections_are_accepted(site, manager):
    with notifying(site, manager) as server:
        said = manager.hear()
        assert said["READY"] == "1"
        assert int(said["MAINPID"]) == server.pid
        assert "2 workers" in said["STATUS"] and server.address in said["STATUS"]


def test_an_abstract_name_is_a_socket_too(site):
    manager = Manager("@luafcgid2-test-%d" % os.getpid())
    with contextlib.closing(manager.socket), notifying(site, manager):
        assert manager.hear()["READY"] == "1"


def test_a_reload_is_announced_with_its_time_and_its_end(site, manager):
    with notifying(site, manager) as server:
        manager.hear_until("READY")
        server.settings["Workers"] = 1
        server.write_config()
        server.reload()
        begun = manager.hear()
        assert begun["RELOADING"] == "1"
        assert 0 < int(begun["MONOTONIC_USEC"]) < 2 ** 63
        ended, between = manager.hear_until("READY")
        assert (ended["READY"], between) == ("1", [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_announced_with_the_time_that_it_may_take(site, manager, number):
    server = notifying(site, manager)
    server.settings["StopTimeout"] = 120
    server.write_config()
    with server:
        manager.hear_until("READY")
        server.stop(number)
        said = manager.hear()
        assert said["STOPPING"] == "1"
        assert int(said["EXTEND_TIMEOUT_USEC"]) >= 120 * 1000000


def test_a_watched_master_says_again_and_again_that_it_lives(site, manager):
    with notifying(site, manager, WATCHDOG_USEC="100000"):
        for _ in range(3):
            manager.hear_until("WATCHDOG")


def test_a_watchdog_for_another_process_is_not_ours(site, manager):
    with notifying(site, manager, WATCHDOG_USEC="1000", WATCHDOG_PID="1") as server:
        manager.hear_until("READY")
        server.stop()
        # Everything that was said has come by the time the process is gone.
        assert "STOPPING" in manager.hear()


def test_a_server_that_cannot_start_is_never_ready(site, manager):
    server = notifying(site, manager)
    server.settings["SessionStore"] = None
    server.settings["Listen"] = os.path.join(site.run, "missing", "sock")
    server.write_config()
    with pytest.raises(AssertionError, match="exit code"):
        server.start()
    manager.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.hear()


def test_scripts_cannot_speak_for_the_server(site, manager):
    path = site.write("getenv.lua", SCRIPT)
    with notifying(site, manager, WATCHDOG_USEC="60000000") as server:
        answer = client.request(server.address, {
            "REQUEST_METHOD": "GET", "SCRIPT_FILENAME": path, "DOCUMENT_ROOT": site.www, "SCRIPT_NAME": "/getenv.lua"})
        assert answer.body == b"."


def test_a_manager_that_has_gone_stops_nothing(site, manager):
    with notifying(site, manager, WATCHDOG_USEC="20000") as server:
        manager.hear_until("WATCHDOG")
        os.unlink(manager.name)
        manager.socket.close()
        server.reload()
        assert accepts(server.address) and is_alive(server.pid)


def test_a_manager_that_reads_nothing_does_not_hold_up_a_stop(site, manager):
    with notifying(site, manager) as server, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        manager.hear_until("READY")
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                other.sendto(b"OTHER=1", manager.name)
        assert server.stop() == 0
