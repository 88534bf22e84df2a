"""The parts of benchmarks/ that measure nothing: figures, aims, tables, pictures, and what is asked for."""
from __future__ import annotations

import importlib
import json
import os
import re
import sys
import types
import xml.etree.ElementTree

import pytest

from luafcgid2.runtime import Engine

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = os.path.join(ROOT, "benchmarks")
SPACE = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def bench():
    """The modules of benchmarks/ by their names, some of which are those of other tests' modules, too."""
    names = [name[:-3] for name in os.listdir(FOLDER) if name.endswith(".py")]
    others = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    path = list(sys.path)
    sys.path.insert(0, FOLDER)
    try:
        yield types.SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path[:] = path
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(others)


def sample(bench, **figures):
    return bench.load.Sample(**{**dict(rate=100.0, p50=1.0, p99=2.0, p999=3.0, cpu=50.0, cpu_all=90.0, pss=1048576,
                                       failures=0), **figures})


def summary(bench, workload, **samples):
    """Rows of the places of `workload` that have samples here; `_` in a name stands for `-`."""
    runs = {name.replace("_", "-"): found for name, found in samples.items()}
    known = bench.workloads.WORKLOADS[workload]
    there = [place for place in bench.workloads.places(known, known.servers()) if place.name in runs]
    return bench.report.summary(there, runs, {}), runs


@pytest.mark.parametrize("values, share, wanted", [
    ([], 50, 0.0), ([7.0], 99.9, 7.0), ([3.0, 1.0, 2.0], 50, 2.0), (list(range(1, 101)), 99, 99),
    (list(range(1, 1001)), 99.9, 999), (list(range(1, 11)), 99.9, 10)])
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(bench, values, share, wanted):
    assert bench.load.percentile(values, share) == wanted


def test_a_ratio_is_the_median_of_the_rounds_own_ratios(bench):
    ours = [sample(bench, rate=rate) for rate in (50.0, 900.0, 80.0)]
    base = [sample(bench, rate=rate) for rate in (100.0, 1000.0, 100.0)]
    assert bench.aims.ratio(ours, base, "rate") == 0.8
    rows, _ = summary(bench, "hello", c=base, luafcgid2=ours)
    assert rows["luafcgid2"]["rate_ratio"] == 0.8 and rows["luafcgid2"]["rate"] == 80.0
    assert rows["c"]["spread"] == 9.0


def test_each_server_is_in_each_workload_or_the_table_says_why_it_is_not(bench):
    for workload in bench.workloads.WORKLOADS.values():
        running = {server.key for server in workload.servers()}
        for key, server in bench.servers.SERVERS.items():
            if key in running:
                assert key not in workload.without
                many = any(variant.many for variant in workload.ours)
                assert many or server.runs(workload.asked), (workload.name, key)
                assert not workload.slow or server.runs(workload.slow), (workload.name, key)
            else:
                assert workload.without.get(key) or server.only, (workload.name, key)
        places = [place.name for place in bench.workloads.places(workload, workload.servers())]
        assert len(set(places)) == len(places)


def test_each_aim_is_about_places_and_figures_that_are_measured(bench):
    for aim in bench.aims.AIMS:
        workload = bench.workloads.WORKLOADS[aim.workload]
        names = {place.name for place in bench.workloads.places(workload, workload.servers())}
        assert {aim.name, aim.base or aim.name} <= names, aim
        assert aim.figure in bench.aims.NAMES
        assert (aim.base == "") == (aim.how == bench.aims.VALUE)


def test_aims_are_ratios_and_differences_inside_one_run(bench):
    rows, runs = summary(bench, "lru", luafcgid2=[sample(bench, cpu=400.0)], luafcgid2_hit=[sample(bench, cpu=100.0)])
    (verdict,) = bench.aims.verdicts("lru", rows, runs)
    assert not verdict["met"] and verdict["value"] == 300.0
    assert bench.aims.missed([verdict]) == [
        "CPU us of a request of luafcgid2, 1,000 scripts: 300.00 more than that of luafcgid2, 10 scripts, always kept; "
        "the aim is at most 250"]
    rows, runs = summary(bench, "post", c=[sample(bench, rate=100.0)], luafcgid2=[sample(bench, rate=85.0)])
    assert [verdict["met"] for verdict in bench.aims.verdicts("post", rows, runs)] == [True]
    rows, runs = summary(bench, "post", luafcgid2=[sample(bench, failures=2)])
    assert bench.aims.missed(bench.aims.verdicts("post", rows, runs)) == [
        "2 requests of luafcgid2 failed"]


def test_a_column_that_no_row_has_is_left_out(bench):
    rows, _ = summary(bench, "json", luafcgid2=[sample(bench)], php=[sample(bench, rate=12345.0)])
    lines = bench.report.table(rows).splitlines()
    assert " ".join(lines[1].split()) == (
        "server requests/s spread p50 ms p99 ms p99.9 ms CPU us with nginx PSS MB failures")
    assert lines[0] == lines[2] == lines[-1]
    assert lines[3].split()[-10:] == ["100", "0", "%", "1.00", "2.00", "3.00", "50.0", "90.0", "1.0", "0"]
    assert lines[4].startswith("php-fpm ") and len(lines[3]) == len(lines[4]) == len(lines[0])


def test_the_overview_has_a_row_for_each_workload_and_the_best_way_to_connect(bench):
    rows, _ = summary(bench, "hello", c=[sample(bench, cpu=25.0)], luafcgid2=[sample(bench, cpu=40.0)],
                      luafcgid2_keep=[sample(bench, cpu=30.0)])
    alone, _ = summary(bench, "mixed", luafcgid2=[sample(bench, cpu=9.0)], luafcgid2_alone=[sample(bench, cpu=5.0)])
    lines = bench.report.overview([{"workload": "hello", "title": "Hello", "rows": rows},
                                   {"workload": "idle", "title": "Idle", "rows": rows},
                                   {"workload": "mixed", "title": "Mixed", "rows": alone}]).splitlines()
    assert [line.split() for line in lines[3:-1]] == [["Hello", "30", "25"], ["Mixed", "9"]]


def test_a_picture_inside_a_page_takes_its_colours_and_a_file_has_its_own(bench):
    rows, _ = summary(bench, "idle", luafcgid2=[sample(bench)], luafcgid2_1000=[sample(bench, each=900.0)])
    result = {"workload": "idle", "rows": rows}
    assert [figure.key for figure in bench.charts.figures(result)] == ["p50", "p99", "each"]
    for figure in bench.charts.figures(result):
        inside = xml.etree.ElementTree.fromstring(bench.charts.svg(result, figure))
        alone = xml.etree.ElementTree.fromstring(bench.charts.svg(result, figure, alone=True))
        assert inside.find(SPACE + "style") is None and "prefers-color-scheme:dark" in alone.find(SPACE + "style").text
        bars = [bar for bar in alone.findall(SPACE + "rect")]
        assert len(bars) == (1 if figure.key == "each" else 2)
        width = int(alone.get("viewBox").split()[2])
        assert all(0 < float(bar.get("width")) <= width for bar in bars)


def test_results_and_their_pictures_are_written_where_the_documentation_has_them(bench, tmp_path):
    rows, _ = summary(bench, "page", luafcgid2=[sample(bench)])
    bench.published.write(str(tmp_path), {"workload": "page", "title": "A page", "rows": rows})
    assert bench.published.results(str(tmp_path))["page"]["rows"] == rows
    assert sorted(os.listdir(tmp_path / "docs" / "charts")) == ["page-cpu.svg", "page-rate.svg"]


def test_text_goes_between_the_marks_and_nowhere_else(bench):
    page = "a\n\n.. begin measured hello\n\nold\n\n.. end measured hello\n\nz\n"
    assert bench.published.with_blocks(page, {"hello": "new"}) == page.replace("old", "new")
    with pytest.raises(ValueError, match="begin measured overview"):
        bench.published.with_blocks(page, {"overview": "new"})


def test_the_readme_has_the_tables_of_the_results(bench):
    with open(os.path.join(ROOT, "README.rst"), encoding="utf-8") as file:
        page = file.read()
    found = bench.published.results()
    assert bench.published.with_blocks(page, bench.published.blocks(found)) == page, "make bench BENCH=--all does it"
    assert set(found) == {name for name, workload in bench.workloads.WORKLOADS.items() if not workload.on_request}
    for picture in re.findall(r"(?m)^\.\. image:: (docs/charts/\S+)", page):
        assert os.path.exists(os.path.join(ROOT, picture))


def test_each_picture_of_the_documentation_is_drawn_from_the_results(bench):
    for name, result in bench.published.results().items():
        for figure in bench.charts.figures(result):
            path = os.path.join(ROOT, bench.published.CHARTS, "%s-%s.svg" % (name, figure.key))
            with open(path, encoding="utf-8") as file:
                assert file.read() == bench.charts.svg(result, figure, alone=True), path


def test_the_many_scripts_have_a_hundred_lines_and_no_mistake(bench, tmp_path):
    lua = Engine("5.3", c_modules=False).new_runtime()
    bench.many.write(str(tmp_path), 3)
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(tmp_path) for name in names]
    assert len(paths) == 3 * 4
    for path in paths:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        assert text.count("\n") == bench.many.LINES
        assert path.endswith(".php") or lua.eval(b"load")(text.encode())


def test_what_wrk_is_told_is_what_it_reads(bench, tmp_path):
    ask = bench.load.Ask("http://127.0.0.1/", str(tmp_path / "ask.lua"), "POST", {"X-One": 'a "b" \\ c'}, "/tmp/body",
                         ["a=1", "b=2"], ["/one", "/two"])
    ask.write()
    told = Engine("5.3", c_modules=False).new_runtime().eval(b"dofile")(ask.file.encode())
    assert (told[b"method"], told[b"body"], told[b"headers"][b"X-One"]) == (b"POST", b"/tmp/body", b'a "b" \\ c')
    assert [told[name][index] for name in (b"cookies", b"paths") for index in (1, 2)] == [
        b"a=1", b"b=2", b"/one", b"/two"]


def test_the_c_responder_and_all_scripts_read_the_same_thirty_variables(bench):
    def names(path, pattern='"([A-Z_]+)"'):
        with open(os.path.join(FOLDER, path), encoding="utf-8") as file:
            return re.findall(pattern, file.read())
    wanted = names("responder.c")
    assert len(wanted) == len(set(wanted)) == 30
    for path in ("scripts/env.lua", "scripts/env.php", "scripts/wsapi/env.lua"):
        assert names(path) == wanted
    assert len(names("scripts/nginx/env.lua", '"([a-z_]+)"')) == 30


def test_json_of_a_result_has_no_numbers_that_json_lacks(bench):
    for result in bench.published.results().values():
        json.dumps(result, allow_nan=False)
