"""What the session tests need: a Redis server of their own, and visitors with a cookie jar each.

In:  a `Site`, a running server's FastCGI address.  Out: `RedisServer` (see harness.py for how it starts and ends),
`Visitor`, whose cookies are kept and sent by http.cookiejar, so that a cookie counts only if browsers take it.
"""
from __future__ import annotations

import email.message
import os
import threading
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from typing import Any, Dict, List, Optional, Tuple

from harness import Server, Site, free_port, program, wait_until
from luafcgid2 import client
from luafcgid2.errors import ProtocolError

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
SAFARI = "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 Version/17.5 Safari/605.1.15"
COOKIE = "XLuaSession"
# SessionStore as etc/several-machines/config.lua has it.
STORE = "redis://:change-this-long-random-word@10.0.0.10:6379/0"


class RedisServer(Server):
    """redis-server with the file redis.conf of etc/several-machines; `url` is what SessionStore takes.

    `tls`: certificate and key, and redis-tls.conf on top.
    """

    # What is no warning, and what only says how it starts and stops or how the machine is set up.
    harmless = (r"^(?!.* # )| # (oO0OoO0|Redis version=|Configuration loaded|Server initialized|"
                r"User requested shutdown|Redis is now ready to exit|Error accepting a client connection: .* eof |"
                r".*(overcommit|TCP backlog|Transparent Huge))")

    def __init__(self, site: Site, tls: Optional[Tuple[str, str]] = None) -> None:
        super().__init__()
        self.log = os.path.join(site.run, "redis.log")
        self.port = free_port()
        self.address = ("127.0.0.1", self.port)
        self.url = STORE.replace("10.0.0.10:6379", "127.0.0.1:%d" % self.port)
        self.argv = [program("redis-server"), site.snippet("several-machines/redis.conf", {
            "bind 10.0.0.10": "bind 127.0.0.1", "port 6379": "port %d" % self.port})]
        if tls:
            self.url = self.url.replace("redis://", "rediss://") + "?ca=" + tls[0]
            self.argv += ["--include", site.snippet("several-machines/redis-tls.conf", {
                "tls-port 6379": "tls-port %d" % self.port, "/etc/redis/redis.crt": tls[0],
                "/etc/redis/redis.key": tls[1]})]
        self.argv += ["--dir", site.run, "--logfile", self.log]


class Visitor:
    """A browser: an address, a name, a language, a cookie jar, and one connection that is kept.

    It speaks FastCGI as a web server would, so that it can come from any address.  One thread at a time.
    """

    def __init__(self, server: Any, ip: str = "192.0.2.1", agent: str = FIREFOX, language: str = "en",
                 url: str = "http://site.test/") -> None:
        self.server, self.url, self.jar = server, url, CookieJar()
        self._sender = {"REMOTE_ADDR": ip, "HTTP_USER_AGENT": agent, "HTTP_ACCEPT_LANGUAGE": language}
        if url.startswith("https:"):
            self._sender["HTTPS"] = "on"
        self._client: Any = None

    @property
    def key(self) -> str:
        """The session cookie in the jar, or ""."""
        return next((cookie.value for cookie in self.jar if cookie.name == COOKIE), "")

    def has_key(self, key: str) -> "Visitor":
        """The session cookie in the jar from now on."""
        header = "%s=%s; Path=/" % (COOKIE, key)
        self.jar.extract_cookies(_Reply([("Set-Cookie", header)]), urllib.request.Request(self.url))
        return self

    def takes_cookies_of(self, other: "Visitor") -> "Visitor":
        """The same cookies as `other` from now on: another tab of the browser, or a thief."""
        for cookie in other.jar:
            self.jar.set_cookie(cookie)
        return self

    def ask(self, path: str, status: int = 200, post: Optional[Dict[str, str]] = None, **query: Any) -> client.Response:
        """One request to a script, POST if there is a form to `post`; AssertionError when the answer has another
        status.

        Raises OSError or ProtocolError when the server goes away; the next request connects anew.
        """
        www = self.server.site.www
        request = urllib.request.Request(urllib.parse.urljoin(self.url, path))
        self.jar.add_cookie_header(request)
        body = urllib.parse.urlencode(post or {}).encode()
        params: Dict[str, str] = dict(
            self._sender, REQUEST_METHOD="GET" if post is None else "POST", SCRIPT_NAME="/" + path,
            SCRIPT_FILENAME=os.path.join(www, path), DOCUMENT_ROOT=www, SERVER_NAME="site.test",
            QUERY_STRING=urllib.parse.urlencode(query, doseq=True),
            CONTENT_LENGTH=str(len(body)), CONTENT_TYPE="application/x-www-form-urlencoded" if body else "")
        if request.has_header("Cookie"):
            params["HTTP_COOKIE"] = request.get_header("Cookie")
        if self._client is None or self._client.closed:
            self._client = client.Client(self.server.address, 60)
        answer = self._client.request(params, body)
        self.jar.extract_cookies(_Reply(answer.headers), request)
        assert answer.status == status, "%s: %d %r %r" % (path, answer.status, answer.body, answer.stderr)
        return answer

    def call(self, name: str, *arguments: Any) -> str:
        """Call `Session.<name>` or `Shared.<name>` in a script (www/call.lua); its first result as text."""
        return self.ask("call.lua", call=name, a=arguments).body.decode()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


class _Reply:
    """What CookieJar.extract_cookies wants of a response."""

    def __init__(self, headers: List[Tuple[str, str]]) -> None:
        self._message = email.message.Message()
        for name, value in headers:
            self._message[name] = value

    def info(self) -> email.message.Message:
        return self._message


class Hammer:
    """Tabs of one browser that each store a number under a name of their own in one session, and count in Shared.

    Each of `tabs` threads goes on until `turns` requests are answered, or until the `with` block ends if that is
    0.  `tried` and `stored` map a name to the last number that was sent and that was acknowledged, `counts` has
    the answers of Shared.Incr, `answers` and `requests` how many there were.
    """

    NAMES = 10

    def __init__(self, visitor: Visitor, tabs: int, turns: int = 0) -> None:
        self._visitors = [Visitor(visitor.server).takes_cookies_of(visitor) for _ in range(tabs)]
        self._turns = turns
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=item) for item in enumerate(self._visitors)]
        self.tried: Dict[str, int] = {}
        self.stored: Dict[str, int] = {}
        self.counts: List[int] = []
        self.answers = self.requests = 0
        self.failures: List[BaseException] = []

    def __enter__(self) -> "Hammer":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if not self._turns or failure[0] is not None:
            self._over.set()
        for thread in self._threads:
            thread.join()
        for visitor in self._visitors:
            visitor.close()
        assert not self.failures, self.failures[0]

    def _run(self, tab: int, visitor: Visitor) -> None:
        turn = 0
        while not self._over.is_set() and not (self._turns and turn == self._turns):
            turn += 1
            name = "tab%d.%d" % (tab, turn % self.NAMES)
            with self._lock:
                self.requests += 1
                self.tried[name] = turn
            try:
                body = visitor.ask("hammer.lua", key=name, value=turn).body
            except (OSError, ProtocolError) as error:
                if self._turns:
                    self.failures.append(error)
                    return
                self._wait_for_server()
            except AssertionError as error:
                self.failures.append(error)
                return
            else:
                with self._lock:
                    self.answers += 1
                    self.stored[name] = turn
                    self.counts.append(int(body))

    def _wait_for_server(self) -> None:
        def back() -> bool:
            try:
                client.connect(self._visitors[0].server.address).close()
            except OSError:
                return self._over.is_set()
            return True
        wait_until(back, "the server is back")

    def wait(self, more: int) -> None:
        """Until so many more requests are answered."""
        goal = self.answers + more
        wait_until(lambda: self.failures or self.answers >= goal, "%d more answers" % more)
