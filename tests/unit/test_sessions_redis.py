"""The Redis store: native expiry, one round trip, and nothing done twice or half when connections break.

What every store promises is in test_session_store.py; the servers here are real.
"""
from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import closing

import pytest
from stores import LATER, NOW, changed, created, eventually, in_threads

from luafcgid2.errors import SessionError
from luafcgid2.sessions import GONE, STORED, Change, open_store

redis_server_module = pytest.importorskip("redis_server")
LOGGER = logging.getLogger("test-sessions-redis")
MANY = 1 << 20
pytestmark = pytest.mark.skipif(redis_server_module.PROGRAM is None, reason="redis-server is not installed")


@pytest.fixture
def own_server():
    """A redis-server of this test's own, to be stopped and started."""
    with redis_server_module.RedisServer() as server:
        yield server


@pytest.fixture
def url(redis_server):
    return redis_server.url()


@pytest.fixture
def store(url):
    with closing(open_store(url, LOGGER)) as opened:
        yield opened


def keys(server, url):
    """key without prefix -> milliseconds to live."""
    prefix = url.rpartition("=")[2].encode() + b":"
    with server.client as client:
        return {key[len(prefix):]: client.pttl(key) for key in client.scan_iter(prefix + b"*")}


class Proxy:
    """A unix socket in front of a server.  `lose(n)`: the n-th answer from now on is lost, with its connection."""

    def __init__(self, server):
        self.path = os.path.join(server.folder, "proxy.sock")
        self._server, self._lose = server.socket, 0
        self.commands = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self, number=1):
        self._lose = number

    def close(self):
        for each in self._sockets:
            with closing(each):
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def _accept(self):
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._server)
            self._sockets += [near, far]
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near, far):
        try:
            while True:
                command = near.recv(1 << 16)
                if not command:
                    break
                self.commands += 1
                far.sendall(command)
                answer = far.recv(1 << 16)
                self._lose -= 1
                if not answer or self._lose == 0:
                    break
                near.sendall(answer)
        except OSError:
            pass
        for each in (near, far):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


@pytest.fixture
def proxy(redis_server):
    with closing(Proxy(redis_server)) as running:
        yield running
    os.unlink(running.path)


@pytest.fixture
def far(proxy, redis_server, url):
    """The store behind the proxy, with its scripts known to the server, and connected."""
    with closing(open_store("unix://%s?%s" % (proxy.path, url.partition("?")[2]), LOGGER)) as opened:
        opened.commit(created(b"warm"))
        opened.shared(MANY).incr(b"warm", 1, 0, 0.0)
        yield opened


# Expiry

def test_every_key_of_a_session_expires_by_itself(store, redis_server, url):
    now = int(time.time())
    _, handle = store.commit(created(expires=now + 100, sets={(b"realm", b"a"): b"1"}))
    _, other = store.commit(created(b"other", expires=now + 100))
    store.commit(changed(handle, new_key=b"new", expires=now + 200))
    store.commit(changed(other, b"other", sets={(b"realm", b"a"): b"2"}))
    found = keys(redis_server, url)
    assert len(found) == 3
    assert 150_000 < found[b"s:new"] <= 200_000
    assert 50_000 < found[b"s:other"] <= 100_000
    assert all(left > 50_000 for left in found.values())


def test_the_server_removes_what_has_expired(store, redis_server, url):
    store.commit(created(expires=int(time.time()) + 1, sets={(b"realm", b"a"): b"1"}))
    eventually(lambda: keys(redis_server, url) == {})
    assert store.sweep(NOW, 10, 60) == 0


def test_a_session_that_has_expired_already_leaves_nothing(store, redis_server, url):
    store.commit(created(expires=int(time.time()) - 1, sets={(b"realm", b"a"): b"1"}))
    assert keys(redis_server, url) == {}


# Round trips

def test_a_look_up_and_a_commit_are_one_round_trip_each(far, proxy):
    def trips(work):
        before = proxy.commands
        work()
        return proxy.commands - before
    assert trips(lambda: far.load(b"warm", NOW)) == 1
    handle = far.load(b"warm", NOW).handle
    change = changed(handle, b"warm", {(b"realm", b"%d" % number): b"x" for number in range(50)}, {b"x": True}, b"new")
    change.deletes = [handle, handle]
    assert trips(lambda: far.commit(change)) == 1
    shared = far.shared(MANY)
    for work in (lambda: shared.set(b"key", 1, 5.0), lambda: shared.incr(b"key", 1, 0, 0.0), lambda: shared.ttl(b"key"),
                 lambda: shared.add(b"key", 1, 0.0), lambda: shared.get(b"key"), lambda: shared.delete(b"key")):
        assert trips(work) == 1


def test_each_thread_has_one_connection_and_close_gives_them_up(redis_server, store, url):
    def connections():
        with redis_server.client as client:
            return len([each for each in client.client_list() if each["cmd"] in ("hgetall", "evalsha", "eval")])
    before = connections()
    barrier = threading.Barrier(4)

    def work(number):
        for _ in range(3):
            store.load(b"key", NOW)
        barrier.wait()
        assert connections() == before + 4
        barrier.wait()
    in_threads(work, 4)
    store.close()
    eventually(lambda: connections() == before)
    assert store.load(b"key", NOW) is None


def test_a_connection_is_not_carried_over_a_fork(store):
    store.commit(created())
    pid = os.fork()
    if not pid:
        good = all(store.load(b"key", NOW) is not None for _ in range(200))
        os._exit(0 if good else 1)
    assert all(store.load(b"key", NOW) is not None for _ in range(200))
    assert os.waitpid(pid, 0)[1] == 0
    assert store.load(b"key", NOW) is not None


def test_making_a_store_opens_nothing():
    open_store("redis://192.0.2.1:1/0", LOGGER).close()


# Lost connections

def test_an_idle_connection_that_the_server_closed_is_not_noticed_by_scripts(own_server):
    with closing(open_store(own_server.url(), LOGGER)) as store:
        shared = store.shared(MANY)
        _, handle = store.commit(created())
        for work in (lambda: store.load(b"key", NOW).handle == handle, lambda: shared.incr(b"n", 1, 0, 0.0) > 0,
                     lambda: store.commit(changed(handle, sets={(b"realm", b"a"): b"1"}))[0] == STORED,
                     lambda: shared.add(b"a", 1, 0.0), lambda: shared.delete(b"a"), lambda: shared.get(b"n") == 1):
            with own_server.client as client:
                client.client_kill_filter(_type="normal", skipme=True)
            assert work()


def test_a_server_that_was_restarted_is_used_at_once(own_server):
    with closing(open_store(own_server.url(), LOGGER)) as store:
        _, handle = store.commit(created())
        store.shared(MANY).incr(b"n", 1, 0, 0.0)
        own_server.stop()
        own_server.start()
        # It has forgotten all, the scripts too.
        assert store.commit(changed(handle, sets={(b"realm", b"a"): b"1"})) == (GONE, None)
        assert store.shared(MANY).incr(b"n", 1, 10, 0.0) == 11
        assert store.commit(created())[0] == STORED


def test_a_commit_whose_answer_was_lost_is_sent_again_and_counts_once(far, proxy):
    proxy.lose()
    status, handle = far.commit(created(sets={(b"realm", b"a"): b"1"}))
    assert status == STORED and far.load(b"key", NOW).handle == handle
    proxy.lose()
    assert far.commit(changed(handle, new_key=b"new", sets={(b"realm", b"b"): b"2"})) == (STORED, handle)
    assert far.load(b"key", NOW) is None
    assert far.load(b"new", NOW).realms == {b"realm": {b"a": b"1", b"b": b"2"}}
    delete = Change()
    delete.deletes = [handle]
    proxy.lose()
    assert far.commit(delete) == (STORED, None)
    assert far.load(b"new", NOW) is None


def test_an_increment_whose_answer_was_lost_is_an_error_and_is_not_sent_again(far, proxy):
    shared = far.shared(MANY)
    proxy.lose()
    with pytest.raises(SessionError, match="redis server"):
        shared.incr(b"n", 1, 0, 0.0)
    assert shared.get(b"n") == 1
    proxy.lose()
    with pytest.raises(SessionError):
        shared.add(b"lock", 1, 0.0)
    assert shared.get(b"lock") == 1
    proxy.lose()
    with pytest.raises(SessionError):
        shared.delete(b"lock")
    assert shared.get(b"lock") is None


def test_a_look_up_is_tried_twice_and_not_for_ever(far, proxy):
    proxy.lose()
    assert far.load(b"warm", NOW) is not None
    proxy.close()
    with pytest.raises(SessionError, match=proxy.path):
        far.load(b"warm", NOW)


# Errors

def test_an_error_names_host_and_port_and_never_the_password():
    port = redis_server_module.free_port()
    with closing(open_store("redis://user:secret@127.0.0.1:%d/0" % port, LOGGER)) as store:
        for work in (store.check, lambda: store.load(b"key", NOW), lambda: store.commit(created()),
                     lambda: store.shared(MANY).incr(b"n", 1, 0, 0.0)):
            with pytest.raises(SessionError, match="redis server 127.0.0.1:%d: .*refused" % port) as caught:
                work()
            assert "secret" not in str(caught.value)


def test_a_server_that_does_not_answer_costs_one_time_out_and_works_again_after_it(own_server):
    with closing(open_store(own_server.url(timeout=0.2), LOGGER)) as store:
        store.commit(created())
        own_server.pause()
        try:
            for _ in range(3):
                with pytest.raises(SessionError, match="imeout"):
                    store.load(b"key", NOW)
        finally:
            own_server.resume()

        def answers():
            try:
                return store.load(b"key", NOW) is not None
            except SessionError:
                return False
        eventually(answers)


@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_wrong_password_is_an_error_that_does_not_show_it(password):
    with redis_server_module.RedisServer(requirepass="right") as server:
        good = server.url().replace("unix://", "unix://:right@")
        with closing(open_store(good, LOGGER)) as store:
            store.check()
        bad = good.replace(":right@", ":%s@" % password if password else "")
        with closing(open_store(bad, LOGGER)) as store:
            with pytest.raises(SessionError, match="(?i)password|auth") as caught:
                store.check()
            assert server.socket in str(caught.value)
            assert "right" not in str(caught.value) and ":wrong" not in str(caught.value)


def test_a_replica_that_takes_no_writes_fails_the_check(own_server):
    with closing(open_store(own_server.url(), LOGGER)) as store, own_server.client as client:
        client.replicaof("127.0.0.1", redis_server_module.free_port())
        with pytest.raises(SessionError, match="read only"):
            store.check()
        client.replicaof("NO", "ONE")
        store.check()


def test_a_full_server_refuses_a_change_as_a_whole(own_server):
    with closing(open_store(own_server.url(), LOGGER)) as store, own_server.client as client:
        _, handle = store.commit(created(sets={(b"realm", b"a"): b"1"}))
        client.config_set("maxmemory", 1)
        with pytest.raises(SessionError, match="maxmemory"):
            store.commit(changed(handle, sets={(b"realm", b"a"): b"2", (b"realm", b"b"): b"2"}))
        with pytest.raises(SessionError, match="maxmemory"):
            store.commit(created(b"other"))
        assert store.load(b"key", NOW).realms == {b"realm": {b"a": b"1"}}
        assert store.load(b"other", NOW) is None
        client.config_set("maxmemory", 0)
        assert store.commit(created(b"other"))[0] == STORED


# Several sites

def test_sites_with_different_prefixes_do_not_see_each_other(redis_server):
    urls = [redis_server.url(prefix=name) for name in ("shop", "shop.s", "shop-d")]
    stores = [open_store(url, LOGGER) for url in urls]
    try:
        for number, store in enumerate(stores):
            store.commit(created(sets={(b"realm", b"n"): b"%d" % number}))
            store.shared(MANY).set(b"key", number, 0.0)
        for number, store in enumerate(stores):
            assert store.load(b"key", NOW).realms == {b"realm": {b"n": b"%d" % number}}
            assert store.shared(MANY).get(b"key") == number
            assert store.shared(MANY).keys(b"", 0) == [b"key"]
    finally:
        for store in stores:
            store.shared(MANY).delete(b"key")
            store.close()


def test_what_is_no_session_is_an_error_or_nothing(store, redis_server, url):
    prefix = url.rpartition("=")[2].encode()
    with redis_server.client as client:
        client.set(prefix + b":s:string", b"x")
        client.hset(prefix + b":s:hash", b"x", b"y")
    assert store.load(b"hash", NOW) is None
    with pytest.raises(SessionError, match="WRONGTYPE"):
        store.load(b"string", NOW)
    assert store.load(b"hash", LATER) is None
