"""The status page's formats: php-fpm's text and JSON, OpenMetrics that its own parser reads, HTML that escapes."""
from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from boards import config, filled, hostile, snapshot
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from luafcgid2.scoreboard import BUCKETS, Scoreboard, bucket
from luafcgid2.status import render, render_ping, respond
from luafcgid2.units import count, duration, share, short_time, size


def body(query: bytes, found=None) -> str:
    return respond(query, found or snapshot())[1].decode()


def families(found=None) -> dict:
    return {family.name: family for family in text_string_to_metric_families(body(b"openmetrics", found))}


def value(found: dict, name: str):
    (sample,) = found["luafcgid2_" + name].samples
    return sample.value


class TestChoice:
    @pytest.mark.parametrize("query, kind", [
        (b"", "text/html; charset=utf-8"), (b"html&full", "text/html; charset=utf-8"),
        (b"json", "application/json"), (b"full&json", "application/json"), (b"json=", "application/json"),
        (b"openmetrics", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (b"text", "text/plain; charset=utf-8"), (b"nonsense=%00&\xff", "text/html; charset=utf-8"),
        (b"x=json", "text/html; charset=utf-8")])
    def test_the_query_chooses_the_format(self, query, kind):
        assert respond(query, snapshot())[0] == kind

    def test_json_has_lists_only_when_full_is_asked_for(self):
        assert not {"processes", "workers", "scripts", "latency buckets"} & set(json.loads(body(b"json")))
        assert json.loads(body(b"json&full")) == snapshot()

    def test_the_response_may_not_be_kept_and_has_its_length(self):
        head, content = render(b"json", snapshot())
        assert head.startswith(b"Status: 200 OK\r\nContent-Type: application/json\r\n")
        assert b"\r\nCache-Control: no-store\r\n" in head
        assert b"\r\nContent-Length: %d\r\n" % len(content) in head
        assert head.endswith(b"\r\n\r\n")

    def test_ping_says_what_the_configuration_says(self):
        assert render_ping(config())[1] == b"pong"
        head, content = render_ping(config(PingResponse="läuft"))
        assert content == "läuft".encode()
        assert b"Content-Length: 6\r\n" in head and b"text/plain" in head


class TestText:
    def test_it_has_the_layout_of_php_fpm(self):
        lines = body(b"text").splitlines()
        assert lines[0] == "pool:                 luafcgid2"
        assert lines[2] == "start time:           15/Jan/2027:07:00:00 +0000"
        assert "active processes:     2" in lines

    def test_full_has_a_block_for_each_thread(self):
        assert body(b"text").count("\npid:") == 0
        assert body(b"text&full").count("request uri:") == 4

    def test_no_client_can_write_a_line_of_its_own(self):
        assert all(re.match("[a-z0-9]+( [a-z0-9]+)*: |\\**$", line)
                   for line in body(b"text&full", hostile()).split("\n"))


class TestOpenMetrics:
    def test_prometheus_reads_it(self):
        found = families()
        assert value(found, "requests") == 1080
        assert value(found, "threads_busy") == 2
        assert value(found, "memory_budget_bytes") == 64 << 20
        assert found["luafcgid2_requests"].type == "counter"

    def test_prometheus_reads_what_a_server_says_that_has_just_started(self):
        assert value(families(snapshot(Scoreboard(2, 2))), "requests") == 0

    def test_prometheus_reads_hostile_texts(self):
        samples = families(hostile())["luafcgid2_script_requests"].samples
        assert '/srv/www/<b>&"\\\\n.lua' in [sample.labels["script"] for sample in samples]

    def test_the_histogram_holds_every_request(self):
        board = filled()
        slot = board.slot(0)
        slot.latencies = [2 if index in (bucket(0), bucket(1000), BUCKETS - 1) else 0 for index in range(BUCKETS)]
        samples = families(snapshot(board))["luafcgid2_request_duration_seconds"].samples
        counts = {sample.labels.get("le"): sample.value for sample in samples if sample.name.endswith("_bucket")}
        assert counts["+Inf"] == 36
        assert counts["0.000512"] == 2
        assert counts["0.001024"] == 34
        assert counts["134.217728"] == 34

    def test_counters_do_not_shrink_when_a_worker_is_replaced(self):
        board = filled()
        before = families(snapshot(board))
        board.give_back(0)
        after = families(snapshot(board))
        for name, family in before.items():
            if family.type in ("counter", "histogram"):
                for sample in family.samples:
                    assert [other.value for other in after[name].samples
                            if (other.name, other.labels) == (sample.name, sample.labels)] >= [sample.value], name


class Page(HTMLParser):
    """What a browser would make of it: element counts and all text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.words, self.data = [], [], ""
        self._inside = ""
        self.feed(text)
        self.text = "".join(self.words)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script" and data.startswith("{"):
            self.data = data
        elif not self._inside:
            self.words.append(data)


class TestPage:
    def test_it_holds_the_figures_without_any_script(self):
        text = Page(body(b"")).text
        for words in ("1,080", "2 of 3", "/slow.lua?n=0", "/srv/www/quick.lua", "/srv/www/bad.lua", "4002",
                      "20.0 MB", "1 min 30 s", "up 1 h"):
            assert words in text, words

    def test_full_lists_idle_threads_too(self):
        assert "idle" not in Page(body(b"")).text
        assert "idle" in Page(body(b"full")).text

    def test_hostile_texts_make_no_element_and_are_shown(self):
        calm, attacked = Page(body(b"full")), Page(body(b"full", hostile()))
        for tag in ("script", "b"):
            assert attacked.tags.count(tag) == calm.tags.count(tag)
        assert "<script>alert(1)</script>" in attacked.text
        assert "/srv/www/<b>&\"\\\\n.lua" in attacked.text

    def test_the_numbers_for_the_charts_cannot_end_their_element(self):
        found = dict(snapshot(), **{"start time": "</script><script>"})
        assert json.loads(Page(body(b"", found)).data)["start time"] == "</script><script>"

    def test_it_loads_nothing_from_elsewhere(self):
        text = body(b"full")
        outside = [address for address in re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]+)""", text)
                   if not address.startswith(("?", "data:"))]
        assert outside == []
        assert "default-src 'none'" in text

    def test_trouble_is_told_in_the_first_line(self):
        board = filled()
        assert "Scripts in quarantine: 1" in Page(body(b"", snapshot(board))).text
        board.slot(0).hung = 2
        assert "Hung threads: 2" in Page(body(b"", snapshot(board))).text
        board.header.shedding = 1
        assert "Short of memory" in Page(body(b"", snapshot(board))).text
        assert "All is well" in Page(body(b"", snapshot(Scoreboard(1, 1)))).text


@pytest.mark.parametrize("found, words", [
    (duration(0), "0 s"), (duration(59.9), "59 s"), (duration(125), "2 min 5 s"), (duration(7200), "2 h"),
    (duration(277202), "3 d 5 h"), (short_time(0), "0 ms"), (short_time(.24), "0.24 ms"), (short_time(9.94), "9.9 ms"),
    (short_time(9.96), "10 ms"), (short_time(1234), "1.2 s"), (short_time(61000), "1 min 1 s"), (size(12), "12 KB"),
    (size(1536), "1.5 MB"), (size(3 << 20), "3.0 GB"), (count(1234567), "1,234,567"), (share(0, 0), "0 %"),
    (share(1, 3), "33 %"), (share(1, 40), "2.5 %"), (share(1, 10 ** 6), "<0.1 %")])
def test_numbers_are_written_for_people(found, words):
    assert found == words
