"""A real redis-server of the test's own: no persistence, below a directory that is gone afterwards.

In: a directory, more options of redis-server.  Out: a running server on a unix socket, or on a port of 127.0.0.1
that the kernel chose, as a context manager.  It is stopped by its pid.
"""
from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import redis

PROGRAM = shutil.which("redis-server", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
PATIENCE = 30.0


class RedisServer:
    """`port` 0 is a unix socket only; `tls` takes certificate, key and CA file and makes `port` a TLS port.

    `options` are redis-server's, with _ for -.  The port stays the same after a restart.
    """

    def __init__(self, port: bool = False, tls: tuple = (), **options: object) -> None:
        self._with_port, self._tls, self._options = port, tls, options
        self._numbers = itertools.count()
        self._process = None

    def __enter__(self) -> RedisServer:
        # A unix socket's path may have 107 bytes only.
        self.folder = tempfile.mkdtemp(prefix="lf2-redis-")
        self.socket = os.path.join(self.folder, "redis.sock")
        self.port = free_port() if self._with_port else 0
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def client(self) -> redis.Redis:
        """A client that the test may look with; a new one each time."""
        return redis.Redis(unix_socket_path=self.socket, password=self._options.get("requirepass"))

    def url(self, **options: object) -> str:
        """A SessionStore on this server's unix socket with a key prefix that nobody else has."""
        options.setdefault("prefix", "t%d" % next(self._numbers))
        return "unix://%s?%s" % (self.socket, "&".join("%s=%s" % item for item in options.items()))

    def start(self) -> None:
        """Returns when it answers."""
        argv = [PROGRAM, "--save", "", "--appendonly", "no", "--dir", self.folder, "--unixsocket", self.socket,
                "--bind", "127.0.0.1", "--logfile", os.path.join(self.folder, "redis.log")]
        argv += ["--port", "0" if self._tls else str(self.port)]
        if self._tls:
            argv += ["--tls-port", str(self.port), "--tls-auth-clients", "no"]
            for name, path in zip(("cert", "key", "ca-cert"), self._tls):
                argv += ["--tls-%s-file" % name, path]
        for name, value in self._options.items():
            argv += ["--" + name.replace("_", "-"), str(value)]
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None, "redis-server has ended: " + self.log_text()
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.005)

    def stop(self, number: int = signal.SIGKILL) -> None:
        """Returns when it is gone; it may be started again, with nothing in it."""
        if self._process is not None and self._process.poll() is None:
            # One that was stopped takes no other signal.
            os.kill(self.pid, signal.SIGCONT)
            os.kill(self.pid, number)
            self._process.wait(PATIENCE)

    def pause(self) -> None:
        """It holds its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def log_text(self) -> str:
        try:
            with open(os.path.join(self.folder, "redis.log"), encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def _answers(self) -> bool:
        try:
            return self.client.ping()
        except redis.RedisError:
            return False


def free_port() -> int:
    """A TCP port of 127.0.0.1 that the kernel says is free."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
