"""Sessions and Shared in a Redis that dies, hangs, refuses or speaks TLS: what scripts and clients see of it."""
from __future__ import annotations

import logging
import os
import re
import subprocess
import threading
from contextlib import closing

import pytest
from harness import accepts, wait_until
from servers import Master

from luafcgid2 import client
from luafcgid2.errors import SessionError
from luafcgid2.sessions import open_store

redis_server = pytest.importorskip("redis_server")
pytestmark = pytest.mark.skipif(redis_server.PROGRAM is None, reason="redis-server is not installed")
LOGGER = logging.getLogger("test-redis-faults")
SCRIPTS = {
    "hello.lua": "function main() Send('hello') end",
    "visits.lua": "function main() local n = (Session.GetVar('site', 'visits') or 0) + 1 "
                  "Session.SetVar('site', 'visits', n) Send(n) end",
    "hits.lua": "function main() Send(Shared.Incr('hits', 1, 0)) end",
}
USERS = "visits.lua", "hits.lua"


@pytest.fixture
def site(site):
    for name, source in SCRIPTS.items():
        site.write(name, source)
    return site


@pytest.fixture
def server():
    with redis_server.RedisServer(port=True) as running:
        yield running


def request(master, name, cookie=""):
    """The answer to one request, straight to the socket."""
    www = master.site.www
    return client.request(master.address, {
        "REQUEST_METHOD": "GET", "SCRIPT_FILENAME": os.path.join(www, name), "DOCUMENT_ROOT": www,
        "SCRIPT_NAME": "/" + name, "HTTP_COOKIE": cookie, "REMOTE_ADDR": "192.0.2.1"})


def status(master, name, cookie=""):
    return request(master, name, cookie).status


def visit(master, cookie=""):
    """(visits so far, cookie for the next)."""
    answer = request(master, "visits.lua", cookie)
    assert answer.status == 200, answer
    return int(answer.body), re.match("[^;]+", dict(answer.headers)["Set-Cookie"]).group()


def works(master):
    return all(status(master, name) == 200 for name in USERS)


def test_all_workers_and_masters_see_one_session(site, start, server):
    url = "redis://127.0.0.1:%d/0" % server.port
    masters = [start(Master, site, name, SessionStore=url) for name in ("one", "two")]
    count, cookie = visit(masters[0])
    assert count == 1
    for number in range(2, 14):
        found, cookie = visit(masters[number % 2], cookie)
        assert found == number
    masters[0].stop()
    assert visit(masters[1], cookie)[0] == 14
    assert [int(request(masters[1], "hits.lua").body) for _ in range(3)] == [1, 2, 3]


def test_a_server_that_dies_fails_the_scripts_that_use_it_and_no_other_until_it_is_back(site, start, server):
    master = start(Master, site, SessionStore="redis://127.0.0.1:%d/0" % server.port)
    master.expect_errors("redis server 127.0.0.1:%d: " % server.port)
    workers = master.workers()
    cookie = visit(master)[1]
    server.stop()
    for _ in range(4):
        assert [status(master, name, cookie) for name in USERS] == [500, 500]
        assert request(master, "hello.lua", cookie).body == b"hello"
    server.start()
    # The server came back empty: the old cookie leads to nothing, a new session begins at once.
    assert visit(master, cookie)[0] == 1
    assert all(works(master) for _ in range(8))
    assert master.workers() == workers


def test_a_server_that_starts_later_than_we_do_is_found(site, start, server):
    server.stop()
    master = start(Master, site, SessionStore="redis://127.0.0.1:%d/0" % server.port)
    master.expect_errors("redis server 127.0.0.1:%d: " % server.port)
    wait_until(lambda: "Session or Shared will fail: redis server 127.0.0.1" in master.log_text(), "the error")
    assert status(master, "visits.lua") == 500
    server.start()
    assert works(master)


def test_a_server_that_hangs_holds_no_script_for_long_and_lets_the_others_run(site, start, server):
    master = start(Master, site, SessionStore="redis://127.0.0.1:%d/0?timeout=0.3" % server.port)
    master.expect_errors("redis server 127.0.0.1:%d: " % server.port)
    _, cookie = visit(master)
    server.pause()
    found = []
    threads = [threading.Thread(target=lambda: found.append(status(master, "visits.lua", cookie))) for _ in range(16)]
    for thread in threads:
        thread.start()
    assert [request(master, "hello.lua").body for _ in range(20)] == [b"hello"] * 20
    for thread in threads:
        thread.join()
    assert found == [500] * 16
    server.resume()

    def goes_on():
        answer = request(master, "visits.lua", cookie)
        return answer.status == 200 and int(answer.body) > 1
    # Each worker finds out for itself, and a little later.
    wait_until(goes_on, "the session goes on")


def test_a_wrong_password_is_warned_of_without_showing_it_and_healed_on_the_server(site, start, server):
    with server.client as admin:
        admin.config_set("requirepass", "right")
    master = start(Master, site, SessionStore="redis://:mistaken@127.0.0.1:%d/0" % server.port)
    master.expect_errors("redis server 127.0.0.1:%d: " % server.port)
    assert [status(master, name) for name in USERS] == [500, 500]
    assert status(master, "hello.lua") == 200
    wait_until(lambda: re.search("(?i)Session or Shared will fail: .*(password|auth)", master.log_text()), "the error")
    with redis_server.redis.Redis(unix_socket_path=server.socket, password="right") as admin:
        admin.config_set("requirepass", "mistaken")
    assert works(master)
    assert "mistaken" not in master.log_text() + master.output()


def test_a_missing_or_wrong_url_stops_the_start_and_says_why(site):
    master = Master(site, SessionStore="redis://:secret@127.0.0.1/0?tiemout=1")
    with pytest.raises(AssertionError, match="tiemout") as caught:
        master.start()
    assert "secret" not in str(caught.value)


# TLS

def openssl(*arguments):
    subprocess.run(("openssl",) + arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(certificate, key) of a server called localhost and 127.0.0.1; it is its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    paths = str(folder / "cert.pem"), str(folder / "key.pem")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", paths[0], "-keyout", paths[1])
    return paths


@pytest.fixture
def tls_server(certificate):
    try:
        with redis_server.RedisServer(port=True, tls=certificate + certificate[:1]) as running:
            assert accepts(("127.0.0.1", running.port))
            yield running
    except AssertionError as error:
        if "TLS" in str(error) and "not supported" in str(error):
            pytest.skip("this redis-server has no TLS")
        raise


def test_tls_with_a_certificate_of_ones_own(site, start, tls_server, certificate):
    master = start(Master, site, SessionStore="rediss://127.0.0.1:%d/0?ca=%s" % (tls_server.port, certificate[0]))
    _, cookie = visit(master)
    assert visit(master, cookie)[0] == 2
    assert works(master)
    tls_server.stop()
    master.expect_errors("redis server 127.0.0.1:%d: " % tls_server.port)
    assert status(master, "visits.lua", cookie) == 500
    tls_server.start()
    assert works(master)


@pytest.mark.parametrize("options, words", [
    ("", "certificate verify failed"), ("?verify=no", ""), ("?ca=%s", ""), ("?ca=/nowhere.pem", "No such file"),
    ("?ca=%s&cert=/nowhere.pem&key=/nowhere.pem", "No such file")])
def test_a_tls_server_must_be_known_unless_told_otherwise(tls_server, certificate, options, words):
    url = "rediss://localhost:%d/0" % tls_server.port + options.replace("%s", certificate[0])
    with closing(open_store(url, LOGGER)) as store:
        if not words:
            return store.check()
        with pytest.raises(SessionError, match="redis server localhost:.*" + words):
            store.check()


def test_a_tls_server_of_another_name_is_refused(tls_server, tmp_path):
    paths = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=elsewhere", "-addext",
            "subjectAltName=DNS:elsewhere", "-out", paths[0], "-keyout", paths[1])
    with redis_server.RedisServer(port=True, tls=paths + paths[:1]) as server:
        with closing(open_store("rediss://localhost:%d/0?ca=%s" % (server.port, paths[0]), LOGGER)) as store:
            with pytest.raises(SessionError, match="(?i)hostname"):
                store.check()


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_plain_where_tls_is_spoken_and_the_other_way_round_is_an_error(scheme, server, tls_server, certificate):
    port = tls_server.port if scheme == "redis" else server.port
    url = "%s://localhost:%d/0?timeout=0.5%s" % (scheme, port, "&ca=" + certificate[0] if scheme == "rediss" else "")
    with closing(open_store(url, LOGGER)) as store:
        with pytest.raises(SessionError, match="redis server localhost:%d: " % port):
            store.check()
