"""A very short benchmark: that every compared server starts, answers rightly and is measured."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from harness import ROOT

FOLDER = os.path.join(ROOT, "benchmarks")
SERVERS = ("c", "luafcgid2", "redis", "php", "uwsgi-fcgi", "uwsgi", "wsapi", "nginx")


def run(tmp_path, *options):
    """The result as JSON; a test is skipped for want of a Debian package, and says of which."""
    path = str(tmp_path / "results.json")
    done = subprocess.run([sys.executable, os.path.join(FOLDER, "bench.py"), "--seconds", "1", "--rounds", "1",
                           "--json", path, *options], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL)
    wanted = re.search(r"^bench: (.* (?:apt-get|pip) install .*)", done.stderr, re.M)
    if done.returncode == 2 and wanted:
        pytest.skip(wanted.group(1))
    assert done.returncode == 0, done.stdout + done.stderr
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def check(rows):
    for name, row in rows.items():
        assert row["failures"] == 0 and row["rate"] > 0 and row["pss"] > 0, name
        assert 0 < row["p50"] <= row["p99"] <= row["p999"], name
        assert row["cpu_all"] >= row["cpu"] >= 0, name


def test_the_table_of_servers_has_no_other_than_these():
    code = "import sys; sys.path.insert(0, %r); import servers; print(*servers.SERVERS)" % FOLDER
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert tuple(done.stdout.split()) == SERVERS


@pytest.mark.parametrize("server", SERVERS)
def test_a_short_benchmark_measures_every_server(tmp_path, server):
    result = run(tmp_path, "--only", server, "--workload", "session" if server == "redis" else "hello")
    assert {row["server"] for row in result["rows"].values()} == {server}
    check(result["rows"])


@pytest.mark.parametrize("workload, places", [("mixed", 4), ("lru", 2), ("cpu", 3), ("idle", 8)])
def test_a_short_benchmark_measures_luafcgid2_against_itself(tmp_path, workload, places):
    result = run(tmp_path, "--only", "luafcgid2", "--workload", workload)
    assert len(result["rows"]) == places and result["aims"]
    check(result["rows"])
