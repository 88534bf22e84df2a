"""A service under its init script, on directories of its own below a site.

In: a `Site`, and where the init script and the control program are (those of the checkout unless told
otherwise).  Out: a `Service` that is called with a verb, as init calls the script; stopped when its `with` block
ends.  Only root may use it.
"""
from __future__ import annotations

import os
import subprocess
import sys

from harness import ROOT
from servers import Master

from luafcgid2.pidfile import probe

SCRIPT = os.path.join(ROOT, "init.d", "luafcgid2")


class Service:
    """The init script with an env file, a control program and a configuration below one directory."""

    def __init__(self, site, script=SCRIPT, program=""):
        # The server is www-data here, whose files are made in `run`.
        os.chmod(site.path, 0o755)
        os.chmod(site.run, 0o777)
        self.site, self.script = site, script
        self.logs, self.state = os.path.join(site.path, "log"), os.path.join(site.path, "state")
        self.server = Master(site, SessionStore="sqlite:///" + os.path.join(self.state, "state.db"))
        self.server.log = self.server.settings["LogFilePath"] = os.path.join(self.logs, "luafcgid2.log")
        self.server.write_config()
        program = program or self._program()
        self.defaults = os.path.join(site.run, "defaults")
        self.configure(CTL=program, CONFIG=self.server.config, LOGDIR=self.logs, STATEDIR=self.state)

    def _program(self):
        path = os.path.join(self.site.run, "luafcgid2ctl")
        with open(path, "w") as file:
            file.write(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m luafcgid2.ctl "$@"\n')
        os.chmod(path, 0o755)
        return path

    def configure(self, **settings):
        with open(self.defaults, "a") as file:
            file.writelines(f"{key}='{value}'\n" for key, value in settings.items())

    def __call__(self, verb):
        """Run the script with init's bare environment."""
        return subprocess.run(["/bin/sh", self.script, *verb.split()], text=True, timeout=120, cwd="/",
                              env={"LUAFCGID2_DEFAULTS": self.defaults, "TERM": "dumb"},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    @property
    def pid(self):
        return probe(self.server.pid_file).pid

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self("stop")
        assert probe(self.server.pid_file).state == "absent"
