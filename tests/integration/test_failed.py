"""luafcgid2ctl failed and replay: what went wrong on a running server, and the same once more."""
from __future__ import annotations

import json
import os
import signal

import pytest
from controlled import Daemon
from harness import Site, wait_until

from luafcgid2 import client

FRAGILE = """
Runs = (Runs or 0) + 1
function main(env)
  if env.REQUEST_METHOD == "POST" then
    error("no good: " .. Receive())
  end
  if env.QUERY_STRING == "spin" then while true do end end
  if env.HTTP_COOKIE == "user=me" then Send("hello me") return end
  local nothing = nil
  return nothing.field
end
"""


@pytest.fixture(scope="module")
def daemon():
    with Site() as site:
        site.write("fragile.lua", FRAGILE)
        site.write("broken.lua", "function main(\n")
        with Daemon(site, KeepFailedRequests=4) as daemon:
            daemon.expect_errors(".*")
            yield daemon


def ask(daemon, name="fragile.lua", body=b"", **more):
    path = os.path.join(daemon.site.www, name)
    found = {"REQUEST_METHOD": "POST" if body else "GET", "SCRIPT_FILENAME": path, "QUERY_STRING": "",
             "DOCUMENT_ROOT": daemon.site.www, "SCRIPT_NAME": "/" + name, "REQUEST_URI": "/" + name, **more}
    return client.request(daemon.address, found, body)


def kept(daemon):
    done = daemon.ctl("failed", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_failed_request_is_listed_and_shown_with_its_params_and_body(daemon):
    assert ask(daemon, body=b"some body", HTTP_COOKIE="session=geheim").status == 500
    entry = kept(daemon)[-1]
    assert (entry["status"], entry["body"]) == (500, "some body")
    assert "no good: some body" in entry["message"] and "fragile.lua:5:" in entry["message"]
    assert "stack traceback" in entry["traceback"]
    listed = daemon.ctl("failed").stdout
    assert entry["id"] in listed and "POST /fragile.lua" in listed and "no good: some body" in listed
    shown = daemon.ctl("failed", entry["id"]).stdout
    assert "some body" in shown and "HTTP_COOKIE = session=***" in shown and "geheim" not in shown


def test_only_so_many_are_kept_and_the_latest_are(daemon):
    for number in range(6):
        ask(daemon, REQUEST_URI="/fragile.lua?%d" % number)
    assert [entry["params"]["REQUEST_URI"][-1] for entry in kept(daemon)] == list("2345")


def test_what_is_not_a_failed_script_is_not_kept(daemon):
    before = kept(daemon)
    assert ask(daemon, "none.lua").status == 404
    assert ask(daemon, HTTP_COOKIE="user=me").status == 200
    assert kept(daemon) == before


def test_a_replay_fails_in_the_same_way_and_tells_times(daemon):
    ask(daemon, body=b"again")
    done = daemon.ctl("replay")
    assert done.returncode == 1
    assert "POST /fragile.lua" in done.stdout and " ms" in done.stdout
    assert "fragile.lua:5: no good: again" in done.stderr and "stack traceback" in done.stderr


def test_a_replay_after_the_repair_prints_the_answer(daemon):
    daemon.site.write("repaired.lua", "function main() error('x') end")
    ask(daemon, "repaired.lua")
    name = kept(daemon)[-1]["id"]
    daemon.site.write("repaired.lua", "function main() Send('it works') end")
    done = daemon.ctl("replay", name)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Status: 200" in done.stdout and "it works" in done.stdout


def test_a_replay_takes_a_param_for_what_was_masked(daemon):
    ask(daemon, HTTP_COOKIE="user=other")
    done = daemon.ctl("replay")
    assert done.returncode == 1 and "masked: HTTP_COOKIE" in done.stdout
    done = daemon.ctl("replay", "--param", "HTTP_COOKIE=user=me")
    assert done.returncode == 0 and "hello me" in done.stdout


def test_a_script_that_does_not_compile_is_replayed_to_its_error(daemon):
    assert ask(daemon, "broken.lua").status == 500
    done = daemon.ctl("replay")
    assert done.returncode == 1 and "broken.lua:" in done.stderr


def test_a_script_that_fails_in_the_middle_of_its_answer_is_kept_and_replayed(daemon):
    daemon.site.write("half.lua", "function main() Send('half') Flush() error('in the middle') end")
    with pytest.raises((OSError, client.ProtocolError)):
        ask(daemon, "half.lua")
    assert "in the middle" in kept(daemon)[-1]["message"]
    done = daemon.ctl("replay")
    assert done.returncode == 1 and "half.lua:1: in the middle" in done.stderr


def test_an_id_that_is_not_there_is_told(daemon):
    done = daemon.ctl("replay", "77.1")
    assert done.returncode == 1 and "77.1" in done.stderr


def test_what_a_dead_worker_left_unanswered_is_kept_and_so_is_what_it_kept(daemon):
    daemon.site.write("last.lua", "function main() error('last words') end")
    with daemon.in_flight("fragile.lua", "spin"):
        def spinning():
            return [pid for pid, uri in busy(daemon) if uri == "/fragile.lua?spin"]
        with daemon.in_flight("last.lua", ""):
            pass
        victim = wait_until(lambda: spinning() or running(daemon), "the script runs")[0]
        os.kill(victim, signal.SIGKILL)
    wait_until(lambda: any(entry["status"] == 0 for entry in kept(daemon)), "the death is noted")
    entry = [entry for entry in kept(daemon) if entry["status"] == 0][-1]
    assert entry["script"].endswith("/fragile.lua") and "died" in entry["message"]
    assert any("last words" in entry["message"] for entry in kept(daemon))
    assert "died" in daemon.ctl("failed").stdout


def busy(daemon):
    from luafcgid2.scoreboard import Scoreboard
    slots = [slot for _, slot in Scoreboard.of(daemon.master).workers()]
    return [(slot.pid, line.uri.decode()) for slot in slots for line in slot.running]


def running(daemon):
    return [pid for pid, _ in busy(daemon)]


def test_a_server_that_does_not_run_has_the_exit_code_of_the_lsb_table(site):
    done = Daemon(site).ctl("failed")
    assert done.returncode == 7


def test_a_server_that_keeps_none_says_so(site):
    with Daemon(site, KeepFailedRequests=0) as daemon:
        done = daemon.ctl("failed")
        assert done.returncode == 1 and "KeepFailedRequests" in done.stderr


def test_root_replays_with_the_rights_of_the_server(site):
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    os.chmod(site.run, 0o777)
    os.chmod(os.path.dirname(site.run), 0o755)
    site.write("who.lua", "function main() error(io.popen('id -un'):read('l')) end")
    with Daemon(site, User="nobody") as daemon:
        daemon.expect_errors(".*")
        ask(daemon, "who.lua")
        done = daemon.ctl("replay")
        assert "nobody" in done.stderr, (done.stdout, done.stderr)


def test_a_script_that_ran_too_long_is_kept_and_its_replay_ends_too(site):
    site.write("fragile.lua", FRAGILE)
    with Daemon(site, RequestTimeout=1) as daemon:
        daemon.expect_errors(".*")
        assert ask(daemon, QUERY_STRING="spin").status == 504
        assert kept(daemon)[-1]["status"] == 504
        done = daemon.ctl("replay")
        assert done.returncode == 1 and "RequestTimeout is 1 s" in done.stderr and "fragile.lua:7:" in done.stderr
