"""A slice of benchmarks/soak.py; SOAK_SECONDS in the environment makes it longer."""
from __future__ import annotations

import os
import subprocess
import sys

import pytest
from harness import ROOT

SECONDS = float(os.environ.get("SOAK_SECONDS", "12"))


@pytest.mark.timeout(SECONDS * 2 + 180)
def test_after_a_mixed_load_with_kills_the_server_is_as_it_was():
    done = subprocess.run([sys.executable, os.path.join(ROOT, "benchmarks", "soak.py"), "--seconds", str(SECONDS),
                           "--kill-every", "2"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    print("\n" + done.stdout)
