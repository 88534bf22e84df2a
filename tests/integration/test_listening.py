"""The listener on real sockets: rights, stale and live files, TCP, descriptors that a parent left open."""
from __future__ import annotations

import contextlib
import errno
import grp
import logging
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading

import pytest
from harness import ROOT, free_port, is_alive, wait_until
from servers import Master

from luafcgid2 import client, config
from luafcgid2.errors import ListenError
from luafcgid2.listener import open_listener

LOGGER = logging.getLogger("test")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@contextlib.contextmanager
def listening(address, **settings):
    """A listener of this process, closed and unlinked afterwards."""
    listener = open_listener(config.defaults(listen=address, **settings), LOGGER)
    try:
        yield listener
    finally:
        listener.close(unlink=True)


def body(address, www):
    answer = client.request(address, {
        "REQUEST_METHOD": "GET", "SCRIPT_FILENAME": os.path.join(www, "respond.lua"), "DOCUMENT_ROOT": www,
        "SCRIPT_NAME": "/respond.lua", "QUERY_STRING": ""})
    return answer.body


class TestUnix:
    @pytest.mark.parametrize("mode", ["0600", "0660", "0666", "0777"])
    @pytest.mark.parametrize("umask", [0, 0o22, 0o77])
    def test_the_mode_is_the_asked_one_whatever_the_umask(self, site, mode, umask):
        path = os.path.join(site.run, "x")
        before = os.umask(umask)
        try:
            with listening(path, listen_mode=mode):
                assert stat.S_IMODE(os.stat(path).st_mode) == int(mode, 8)
            now = os.umask(umask)
        finally:
            os.umask(before)
        assert now == umask

    @as_root
    def test_mode_and_owner_are_right_from_the_first_moment(self, site, monkeypatch):
        path, found = os.path.join(site.run, "x"), []
        owner = pwd.getpwnam("www-data")
        for folder in (site.path, site.run):
            os.chmod(folder, 0o777)
        monkeypatch.setattr(os, "chown", lambda name, *_owner, **_options: found.append(os.stat(name)))
        with listening(path, listen_owner="www-data", listen_group="daemon"):
            [seen] = found
        assert (stat.S_IMODE(seen.st_mode), seen.st_uid) == (0o660, owner.pw_uid)
        assert seen.st_gid == grp.getgrnam("daemon").gr_gid
        assert (os.geteuid(), os.getegid()) == (0, 0)

    @as_root
    def test_nobody_connects_before_the_socket_has_its_mode_and_owner(self, site, monkeypatch):
        path, found = os.path.join(site.run, "x"), []
        chown = os.chown

        def look(name, *owner, **options):
            # The one step between the file's appearance and its owner.
            with socket.socket(socket.AF_UNIX) as visitor:
                found.append((stat.S_IMODE(os.stat(name).st_mode), visitor.connect_ex(name)))
            chown(name, *owner, **options)
        monkeypatch.setattr(os, "chown", look)
        before = os.umask(0)
        try:
            with listening(path, listen_owner="www-data"), socket.socket(socket.AF_UNIX) as visitor:
                assert visitor.connect_ex(path) == 0
        finally:
            os.umask(before)
        assert found == [(0o660, errno.ECONNREFUSED)]

    @as_root
    def test_the_socket_belongs_to_the_asked_owner_and_group(self, site):
        path = os.path.join(site.run, "x")
        with listening(path, listen_owner="www-data", listen_group="daemon"):
            found = os.stat(path)
            assert found.st_uid == pwd.getpwnam("www-data").pw_uid
            assert found.st_gid == grp.getgrnam("daemon").gr_gid

    @as_root
    def test_without_an_owner_the_socket_belongs_to_whom_the_workers_become(self, site):
        path = os.path.join(site.run, "x")
        with listening(path, user="www-data"):
            entry = pwd.getpwnam("www-data")
            assert (os.stat(path).st_uid, os.stat(path).st_gid) == (entry.pw_uid, entry.pw_gid)

    def test_the_socket_does_not_block_and_is_closed_on_exec(self, site):
        with listening(os.path.join(site.run, "x")) as listener:
            assert listener.socket.getblocking() is False
            assert listener.socket.get_inheritable() is False

    def test_a_stale_socket_is_replaced(self, site):
        path = os.path.join(site.run, "x")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
            dead.listen()
        with listening(path), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)

    def test_a_live_socket_of_another_server_stays_and_its_owner_is_named(self, site):
        path = os.path.join(site.run, "x")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            other.listen(5)
            with pytest.raises(ListenError) as caught, listening(path):
                pass
            assert f"{path} is in use: pid {os.getpid()} (" in str(caught.value)
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(path)

    def test_a_live_socket_with_a_full_backlog_is_not_taken_for_stale(self, site):
        path = os.path.join(site.run, "x")
        with socket.socket(socket.AF_UNIX) as other, contextlib.ExitStack() as waiting:
            other.bind(path)
            other.listen(0)
            full = False
            while not full:
                one = waiting.enter_context(socket.socket(socket.AF_UNIX))
                one.setblocking(False)
                full = one.connect_ex(path) != 0
            with pytest.raises(ListenError, match="in use"), listening(path):
                pass
            assert os.path.exists(path)

    @pytest.mark.parametrize("make", [lambda path: open(path, "w").close(), os.mkdir,
                                      lambda path: os.symlink("/dev/null", path)])
    def test_what_is_no_socket_is_not_touched(self, site, make):
        path = os.path.join(site.run, "x")
        make(path)
        with pytest.raises(ListenError, match="is not a socket"), listening(path):
            pass
        assert os.path.lexists(path)

    def test_a_datagram_socket_is_not_touched(self, site):
        path = os.path.join(site.run, "x")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(path)
            with pytest.raises(ListenError, match="cannot be probed"), listening(path):
                pass
        assert os.path.exists(path)

    def test_closing_does_not_remove_what_another_server_put_there(self, site):
        path = os.path.join(site.run, "x")
        with listening(path):
            os.unlink(path)
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(path)
        assert os.path.exists(path)

    def test_closing_twice_removes_nothing_the_second_time(self, site):
        path = os.path.join(site.run, "x")
        with listening(path) as listener:
            listener.close(unlink=True)
            assert not os.path.exists(path)
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(path)
        assert os.path.exists(path)

    def test_a_missing_directory_is_named(self, site):
        with pytest.raises(ListenError, match="/no: No such file"), listening(site.run + "/no/x"):
            pass

    def test_of_servers_that_start_at_once_exactly_one_gets_the_path(self, site):
        path = os.path.join(site.run, "x")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
            dead.listen()
        # Processes: the kernel's lock on a directory and the umask are theirs, not a thread's.
        code = ("import logging, sys\nfrom luafcgid2 import config, errors, listener\n"
                "settings = config.defaults(listen=sys.argv[1])\n"
                "try:\n kept = listener.open_listener(settings, logging.getLogger())\n"
                " print('mine', flush=True)\nexcept errors.ListenError:\n print('theirs', flush=True)\n"
                "sys.stdin.read()\n")
        crowd = [subprocess.Popen([sys.executable, "-c", code, path], env=dict(os.environ, PYTHONPATH=ROOT),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        try:
            words = sorted(one.stdout.readline().strip() for one in crowd)
        finally:
            for one in crowd:
                one.communicate()
        assert words == ["mine", "theirs", "theirs", "theirs"]


class TestTcp:
    @pytest.mark.parametrize("text, host", [("127.0.0.1:%d", "127.0.0.1"), (":%d", "127.0.0.1"),
                                            ("[::1]:%d", "::1"), ("localhost:%d", "localhost")])
    def test_requests_are_answered_over_tcp(self, site, text, host):
        port = free_port()
        server = Master(site, Listen=text % port)
        server.address = ("127.0.0.1" if host != "::1" else "::1", port)
        if host == "::1":
            server._has_started = lambda: "info: ready" in server.log_text()
        if text == ":%d":
            server.expect_errors("every machine that reaches this port")
        with server:
            assert body((host, port), site.www) == b"body"

    def test_a_port_in_use_is_an_error_that_names_it(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            address = "127.0.0.1:%d" % other.getsockname()[1]
            with pytest.raises(ListenError, match=f"TCP {address}: Address already"), listening(address):
                pass

    def test_an_unknown_host_is_an_error_that_names_it(self):
        with pytest.raises(ListenError, match="TCP no.host.invalid:9"), listening("no.host.invalid:9"):
            pass

    def test_port_0_is_any_and_the_description_tells_which(self):
        with listening("127.0.0.1:0") as listener:
            assert listener.describe() == "TCP 127.0.0.1:%d" % listener.socket.getsockname()[1]
            assert listener.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def listens(path):
    """Whether a unix socket accepts connections, without making one: it is bound a moment before."""
    with open("/proc/net/unix") as file:
        # Num, RefCount, Protocol, Flags (__SO_ACCEPTCON), Type, St, Inode, Path.
        return any(words[3] == "00010000" and words[-1] == path for words in map(str.split, file))


class TestInherited:
    @pytest.mark.parametrize("listen", ["/nonexistent/x.sock", "fd:0", "stdin"])
    def test_a_listening_descriptor_0_is_used(self, site, listen):
        path = os.path.join(site.run, "parent.sock")
        with socket.socket(socket.AF_UNIX) as parents:
            parents.bind(path)
            parents.listen()
            server = Master(site, Listen=listen)
            process = subprocess.Popen(server.argv, env=dict(os.environ, PYTHONPATH=ROOT), stdin=parents,
                                       stderr=subprocess.DEVNULL)
            try:
                assert body(path, site.www) == b"body"
                assert "listening on inherited descriptor 0 (unix socket " + path in server.log_text()
            finally:
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0
        assert os.path.exists(path), "a socket that the parent made is the parent's to remove"

    def test_fd_0_that_does_not_listen_is_an_error(self, site):
        server = Master(site, Listen="fd:0")
        done = subprocess.run(server.argv, env=dict(os.environ, PYTHONPATH=ROOT), stdin=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.returncode == 1
        assert "inherited descriptor 0 is not a listening stream socket" in done.stderr

    @pytest.mark.skipif(not shutil.which("spawn-fcgi"), reason="spawn-fcgi is not installed")
    def test_spawn_fcgi_starts_it(self, site):
        server = Master(site)
        path = os.path.join(site.run, "spawned.sock")
        program = os.path.join(site.run, "luafcgid2")
        with open(program, "w") as file:
            file.write('#!/bin/sh\nPYTHONPATH="%s" exec "%s" -m luafcgid2 "$@"\n' % (ROOT, sys.executable))
        os.chmod(program, 0o755)
        pid_file = os.path.join(site.run, "spawned.pid")
        subprocess.run(["spawn-fcgi", "-s", path, "-P", pid_file, "--", program, server.config], check=True,
                       stdout=subprocess.DEVNULL)
        with open(pid_file) as file:
            pid = int(file.read())
        try:
            assert body(path, site.www) == b"body"
        finally:
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not is_alive(pid), "it stops")
        assert "stopped" in server.log_text()

    @pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="systemd is not installed")
    @pytest.mark.parametrize("listen", ["/nonexistent/x.sock", "systemd"])
    def test_socket_activation_starts_it(self, site, listen):
        server = Master(site, Listen=listen)
        server.address = os.path.join(site.run, "activated.sock")
        # Started by the first connection; the program has the pid that LISTEN_PID names.
        process = subprocess.Popen(
            ["systemd-socket-activate", "-l", server.address, "-E", "PYTHONPATH=" + ROOT, *server.argv],
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: listens(server.address), "systemd listens")
            site.write("environment.lua", "function main() Send(tostring(os.getenv('LISTEN_FDS'))) end")
            assert body(server.address, site.www) == b"body"
            assert "socket passed by systemd" in server.log_text()
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        assert os.path.exists(server.address)

    def test_systemd_without_its_environment_is_an_error(self):
        with pytest.raises(ListenError, match="LISTEN_FDS"), listening("systemd"):
            pass

    def test_sockets_meant_for_another_process_are_not_taken(self, monkeypatch):
        monkeypatch.setenv("LISTEN_FDS", "1")
        monkeypatch.setenv("LISTEN_PID", "1")
        with listening("127.0.0.1:0") as listener:
            assert listener.describe().startswith("TCP 127.0.0.1:")
        assert "LISTEN_FDS" not in os.environ


def test_the_backlog_is_the_asked_one(site):
    path = os.path.join(site.run, "x")
    accepted = []
    with listening(path, listen_backlog=3):
        def connect_until_full():
            with contextlib.ExitStack() as open_ones:
                while True:
                    one = open_ones.enter_context(socket.socket(socket.AF_UNIX))
                    one.setblocking(False)
                    if one.connect_ex(path):
                        return
                    accepted.append(one)
        thread = threading.Thread(target=connect_until_full)
        thread.start()
        thread.join(30)
    # Linux lets in one more than it was told.
    assert len(accepted) == 4
