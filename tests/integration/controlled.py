"""A server in the background, as `luafcgid2ctl start` leaves it: its master may change while the test runs.

In:  a `Site`, settings.  Out: a `Daemon`, found by its pid file and its scoreboard, stopped by `luafcgid2ctl stop`.
"""
from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any, Iterator, List

from harness import ROOT, Site, children, is_alive, wait_until
from servers import Master

from luafcgid2 import client
from luafcgid2.pidfile import probe
from luafcgid2.scoreboard import READY, Scoreboard

# A copy of the package whose workers do not boot once StartupScript is a certain file: driver.
FAILING = """
    def _boot(self):
        if self._config.startup_script == "/failing.lua":
            raise BootError("cannot boot today")
        self._real_boot()

    def _real_boot(self)"""


class Daemon(Master):
    """See the module's contract.

    copied: run a copy of the package, in `self.code`, that a test may change; failing: that copy's workers do not
    boot with StartupScript = "/failing.lua".
    """

    def __init__(self, site: Site, name: str = "luafcgid2", copied: bool = False, failing: str = "",
                 **settings: Any) -> None:
        super().__init__(site, name, **settings)
        self.code = ROOT
        if copied or failing:
            self.code = os.path.join(site.run, "code")
            shutil.copytree(os.path.join(ROOT, "luafcgid2"), os.path.join(self.code, "luafcgid2"),
                            ignore=shutil.ignore_patterns("__pycache__"))
        if failing:
            self.edit("worker.py", "\n    def _boot(self)", FAILING)

    def edit(self, module: str, old: str, new: str) -> None:
        """Change the copy: what the next upgrade finds installed."""
        path = os.path.join(self.code, "luafcgid2", module)
        with open(path) as file:
            text = file.read()
        assert text.count(old) == 1
        with open(path, "w") as file:
            file.write(text.replace(old, new))

    def ctl(self, *words: str) -> subprocess.CompletedProcess:
        """Run the control program."""
        return subprocess.run([sys.executable, "-m", "luafcgid2.ctl", "-c", self.config, *words], text=True,
                              env=dict(os.environ, PYTHONPATH=self.code, PYTHONDONTWRITEBYTECODE="1"), timeout=120,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/")

    def start(self) -> None:
        open(self.log + ".out", "w").close()
        done = self.ctl("start")
        assert done.returncode == 0, done.stderr
        if self.settings.get("ProcessManager", "static") == "static":
            wait_until(lambda: len(self.serving()) == self.settings["Workers"], "all workers")

    def stop(self, number: int = signal.SIGTERM) -> None:
        masters = self.masters()
        done = self.ctl("stop")
        assert done.returncode == 0, done.stderr
        wait_until(lambda: not any(map(is_alive, masters)), "all masters are gone")

    def masters(self) -> List[int]:
        """Every living master of this server: the one of the pid file, and those that the log names."""
        found = {int(line.split("[")[1].split("]")[0]) for line in self.log_text().splitlines()
                 if "luafcgid2 " in line and "listening on" in line}
        return [pid for pid in found if is_alive(pid)]

    @property
    def master(self) -> int:
        """The master that the pid file names."""
        found = wait_until(lambda: probe(self.pid_file), "the pid file")
        assert found.state == "running"
        return found.pid

    @property
    def header(self) -> Any:
        """That of the scoreboard."""
        return Scoreboard.of(self.master).header

    def workers(self) -> List[int]:
        return children(self.master)

    def serving(self) -> List[int]:
        """Pids of the workers that are ready and were not told to leave, in the order of their slots."""
        return [slot.pid for _, slot in Scoreboard.of(self.master).workers() if slot.state == READY]

    def change(self, text: str = "", **settings: Any) -> None:
        """Write the configuration anew with other settings, and more Lua `text`."""
        self.settings.update(settings)
        path = self.config
        # In one step: a reload under way may be reading it.
        self.config = path + ".new"
        try:
            self.write_config()
            with open(self.config, "a") as file:
                file.write(text)
            os.replace(self.config, path)
        finally:
            self.config = path

    def ask(self, name: str, query: str = "") -> str:
        """The body of the answer to one request, straight to the socket."""
        answer = client.request(self.address, {
            "REQUEST_METHOD": "GET", "SCRIPT_FILENAME": os.path.join(self.site.www, name), "QUERY_STRING": query,
            "DOCUMENT_ROOT": self.site.www, "SCRIPT_NAME": "/" + name})
        assert answer.status == 200, answer
        return answer.body.decode()

    @contextlib.contextmanager
    def in_flight(self, name: str, query: str) -> Iterator[list]:
        """A request that runs in a thread of ours; yields a list that its body, or an exception, is put into."""
        outcome: List[Any] = []

        def run() -> None:
            try:
                outcome.append(self.ask(name, query))
            except (OSError, client.ProtocolError, AssertionError) as error:
                outcome.append(error)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield outcome
        finally:
            thread.join(60)
            assert not thread.is_alive()
