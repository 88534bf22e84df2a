"""A snapshot of the scoreboard: php-fpm's keys, sums over workers dead and alive, texts that are safe to print."""
from __future__ import annotations

import json

import boards
import pytest
from boards import HOSTILE, NOW, NOW_NS, filled, snapshot

from luafcgid2.scoreboard import BUCKETS, Scoreboard, bucket
from luafcgid2.snapshot import percentile, shown, take

# sapi/fpm/fpm/fpm_status.c of PHP 8.2, in its order.
PHP_KEYS = ["pool", "process manager", "start time", "start since", "accepted conn", "listen queue",
            "max listen queue", "listen queue len", "idle processes", "active processes", "total processes",
            "max active processes", "max children reached", "slow requests"]
PHP_PROCESS_KEYS = ["pid", "state", "start time", "start since", "requests", "request duration",
                    "request method", "request uri", "content length", "user", "script", "last request cpu",
                    "last request memory"]


def test_the_keys_of_php_fpm_come_first_under_their_names():
    assert list(snapshot())[:len(PHP_KEYS)] == PHP_KEYS


def test_each_thread_has_the_keys_of_a_php_fpm_process():
    for entry in snapshot()["processes"]:
        assert list(entry)[:len(PHP_PROCESS_KEYS)] == PHP_PROCESS_KEYS


def test_a_snapshot_can_be_written_as_json():
    assert json.loads(json.dumps(snapshot())) == snapshot()


def test_counts_are_those_of_dead_and_present_workers_together():
    found = snapshot()
    assert (found["requests"], found["errors"], found["accepted conn"]) == (1080, 14, 110)
    assert found["slow requests"] == 10
    assert found["busy seconds"] == pytest.approx(2.08)


def test_times_are_told_from_the_start():
    found = snapshot()
    assert (found["start time"], found["start since"]) == (int(NOW) - 3600, 3600)
    assert found["workers"][0]["start since"] == 60


def test_a_thread_counts_as_a_process_and_a_draining_worker_has_none_idle():
    found = snapshot()
    assert (found["active processes"], found["idle processes"], found["total processes"]) == (2, 1, 3)
    assert len(found["processes"]) == 4
    assert found["max children"] == 4


def test_max_children_of_a_dynamic_server_is_what_the_configuration_allows():
    assert take(filled(), boards.dynamic(), NOW_NS, NOW)["max children"] == 10


def test_a_starting_worker_is_listed_and_has_no_threads_yet():
    board = Scoreboard(2, 2)
    board.take()
    found = snapshot(board)
    assert [worker["state"] for worker in found["workers"]] == ["Starting"]
    assert (found["processes"], found["total processes"]) == ([], 0)


def test_a_running_request_is_told_with_its_microseconds():
    entry = next(entry for entry in snapshot()["processes"] if entry["state"] == "Running")
    assert (entry["request method"], entry["request uri"]) == ("GET", "/slow.lua?n=0")
    assert (entry["script"], entry["request duration"]) == ("/srv/www/slow.lua", 2_000_000)
    assert (entry["worker"], entry["thread"], entry["pid"]) == (0, 1, 4000)
    assert entry["last request memory"] == 64 * 1024


def test_a_request_that_has_just_begun_does_not_show_the_address_of_the_one_before():
    board = filled()
    board.slot(0).lines[1].started = NOW_NS - 1_000_000
    entry = snapshot(board)["processes"][1]
    assert (entry["state"], entry["request uri"], entry["script"]) == ("Running", "-", "/srv/www/slow.lua")


def test_the_memory_of_a_request_is_that_of_a_state_of_its_script_where_nothing_better_is_known():
    board = filled()
    board.slot(0).lines[1].heap_kb = 0
    assert snapshot(board)["processes"][1]["last request memory"] == 150 * 1024


def test_an_idle_thread_does_not_show_what_it_ran_before():
    entry = snapshot()["processes"][0]
    assert (entry["state"], entry["request uri"], entry["request duration"]) == ("Idle", "-", 0)


def test_a_script_is_told_once_with_the_sums_of_all_workers():
    slow, quick = snapshot()["scripts"]
    assert (slow["script"], slow["requests"], slow["errors"]) == ("/srv/www/slow.lua", 80, 2)
    assert (slow["mean ms"], slow["max ms"], slow["lua states"]) == (.9, 700.0, 4)
    # 800 us lie in the bucket of 768 to 1024 us.
    assert .768 <= slow["p50 ms"] < slow["p95 ms"] < 1.024
    assert (slow["lua heap kb"], slow["running"]) == (600, 2)
    assert (quick["script"], quick["requests"]) == ("/srv/www/quick.lua", 4)


def test_only_scripts_that_are_in_quarantine_now_are_listed():
    assert snapshot()["quarantine"] == [
        {"script": "/srv/www/bad.lua", "seconds left": 90.0, "level": 2, "strikes": 3}]


def test_a_server_that_has_just_started_has_a_snapshot():
    found = snapshot(Scoreboard(2, 2))
    assert found["requests"] == found["start since"] == found["total processes"] == 0
    assert found["latency"] == {"p50 ms": 0.0, "p95 ms": 0.0, "p99 ms": 0.0, "mean ms": 0.0}


def test_latencies_of_a_dead_worker_stay():
    board = filled()
    before = sum(count for _, count in snapshot(board)["latency buckets"])
    board.give_back(2)
    assert sum(count for _, count in snapshot(board)["latency buckets"]) == before == 80


@pytest.mark.parametrize("share", [.01, .5, .95, .99, 1])
@pytest.mark.parametrize("microseconds", [0, 1, 70, 1500, 40_000, 9_000_000])
def test_a_percentile_of_equal_requests_lies_in_their_bucket(share, microseconds):
    counts = [0] * BUCKETS
    counts[bucket(microseconds)] = 1000
    assert bucket(int(percentile(counts, share) * 1000 - .5)) <= bucket(microseconds)
    assert percentile(counts, share) * 1000 >= microseconds / 1.5 * share


def test_a_percentile_is_even_inside_its_bucket():
    counts = [0] * BUCKETS
    counts[bucket(1024)] = 100                      # from 1024 to 1535 us
    assert percentile(counts, .5) == pytest.approx(1.28)
    assert percentile(counts, 1) == pytest.approx(1.536)


def test_a_percentile_passes_over_empty_buckets():
    counts = [0] * BUCKETS
    counts[bucket(100)], counts[bucket(1_000_000)] = 95, 5
    assert percentile(counts, .5) < .2
    assert percentile(counts, .99) > 700


def test_texts_of_clients_cannot_control_a_terminal_or_turn_a_line_around():
    text = shown(HOSTILE)
    assert text.isprintable()
    assert text == "/x.lua?<script>alert(1)</script>&\"'\\x1b[2J\\n\\xff\\u202e"


def test_texts_keep_the_letters_of_all_languages():
    assert shown("/größe/月.lua".encode()) == "/größe/月.lua"
