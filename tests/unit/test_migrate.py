"""The migration report, and the table of changes behind it."""
import os
import re

import pytest

from luafcgid2 import config, migrate
from luafcgid2.changes import CHANGES
from luafcgid2.errors import ConfigError

FIXTURES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fixtures", "config")


def sections(text):
    """{title: lines} of a report; its head is under ""."""
    head, *rest = text.strip("\n").split("\n\n")
    found = {"": head.split("\n")}
    for block in rest:
        title, *lines = block.split("\n")
        found[title] = [line.strip() for line in lines]
    return found


def report(name):
    return sections(migrate.report_file(os.path.join(FIXTURES, name)))


@pytest.fixture
def write(tmp_path):
    def write(source):
        path = tmp_path / "config.lua"
        path.write_text(source)
        return sections(migrate.report_file(str(path)))
    return write


def test_the_sample_of_the_ancestor_migrates_without_a_correction():
    found = report("ancestor.lua")
    assert found[""][1] == "This file was written for the C++ luafcgid2."
    assert found[""][2] == "Effective socket: unix socket /var/tmp/luafcgid2.sock, mode 0660 (from listen)"
    assert "Values that must be corrected before this server starts" not in found
    dead = found["Keys that never had an effect in the C++ luafcgid2"]
    assert [line.split(" ")[0] for line in dead] == ["listen", "entrypoint", "MaxPostSize"]
    assert dead[0].endswith("nothing changes") and dead[1].endswith("nothing changes")
    meaningless = found["Keys that mean nothing any more"]
    assert sorted(line.split(" ")[0] for line in meaningless) == [
        "BodySectors", "BodySize", "HeadersSize", "LuaMaxSearchRetries"]
    settings = found["Settings that this file makes, as they are in force now"]
    assert any(re.match(r"LuaMaxStates += 6 +from the file", line) for line in settings)
    assert not any(line.startswith("PidFile") for line in settings)


def test_settings_that_did_nothing_there_and_do_something_here_are_named():
    found = report("mistaken.lua")
    dead = "\n".join(found["Keys that never had an effect in the C++ luafcgid2"])
    assert 'listen = "/run/site.sock": it read only Listen, so that "/var/tmp/luafcgid2.sock" was in ' \
           'force; now "/run/site.sock" is' in dead
    assert 'so that "main" was in force; now "serve" is' in dead
    assert "MaxPostSize = 2097152: it never compared" in dead


def test_types_that_were_ignored_are_named_and_must_be_corrected():
    found = report("mistaken.lua")
    ignored = found["Values that the C++ luafcgid2 ignored silently, for their type"]
    assert sorted(line.split(" ")[0] for line in ignored) == [
        "BodySectors", "LuaMaxStates", "SessionTime", "WorkerThreads"]
    assert 'WorkerThreads = "8": a string where it wanted a number; it ran with its default 4' in ignored
    assert "LuaMaxStates = 4.7: it used 4" in ignored
    wrong = found["Values that must be corrected before this server starts"]
    assert [line.split(": ")[1].split(" ")[0] for line in wrong] == ["WorkerThreads", "SessionTime"]


def test_a_file_that_needs_the_standard_library_is_told_not_to_have_run_there():
    lines = report("mistaken.lua")["The old server did not run this file"]
    assert "mistaken.lua:9: attempt to index a nil value (global 'string')" in lines[0]
    assert "The old server did not run this file" not in report("ancestor.lua")


def test_both_spellings_are_told(write):
    found = write('Listen = "/a.sock" listen = "/b.sock"')
    assert "which this file sets too" in found["Keys that never had an effect in the C++ luafcgid2"][0]
    assert "two spellings" in found["Warnings"][0]


def test_a_file_of_the_c_luafcgid_is_recognised_and_its_differences_told():
    found = report("luafcgid.lua")
    assert found[""][1] == "This file was written for the C luafcgid."
    assert "Keys that never had an effect in the C++ luafcgid2" not in found
    assert "What changes for scripts and operation" not in found
    assert "workers is the C luafcgid's name for WorkerThreads" in found["Notes"]
    assert any(line.startswith("states counts for each worker") for line in
               found["What differs from the C luafcgid"])


def test_defaults_that_differ_from_the_c_luafcgids_are_told(write):
    lines = "\n".join(write("workers = 2")["What differs from the C luafcgid"])
    assert 'listen is not set: its default was ":9000", ours is Listen = "/var/tmp/luafcgid2.sock"' in lines
    assert "showerrors is not set: its default was true, ours is ShowErrors = false" in lines
    assert "workers is not set" not in lines


@pytest.mark.parametrize("source, family", [
    ("", "this server"), ("Workers = 2", "this server"), ("Config = {}", "this server"),
    ('listen = "/a"', "the C++ luafcgid2"), ("LuaStates = 1", "the C++ luafcgid2"),
    ("workers = 2", "the C luafcgid"), ("workers = 2 Workers = 2", "the C luafcgid"),
])
def test_the_family_is_told_from_the_keys(write, source, family):
    assert write(source)[""][1] == "This file was written for %s." % family


def test_a_file_that_does_not_run_is_an_error(tmp_path):
    path = tmp_path / "config.lua"
    path.write_text("x = = 1")
    with pytest.raises(ConfigError, match="unexpected symbol"):
        migrate.report_file(str(path))


def test_the_report_of_the_defaults_has_all_changes():
    text = migrate.report(config.defaults())
    for change in CHANGES:
        assert change.before in text and change.now in text and change.advice in text


def test_each_change_is_told_once_and_completely():
    ids = [change.id for change in CHANGES]
    assert len(ids) == len(set(ids))
    for change in CHANGES:
        assert change.area and change.before and change.now
        assert not re.search(r"[.\n]$", change.before + change.now)


@pytest.mark.parametrize("identifier", """C1 C3 C4 C5 C6 C8 C9 C10 C11 L1 L2 L4 L5 S1 S3 S4 S5 S6 S7 S8
    S9 S10 S11 R2 R3 R4 R5 R6 A1 A4 A6 A7 N1 N2 N5 N6 N7 N8""".split())
def test_no_deviation_that_a_user_can_notice_is_left_out(identifier):
    assert identifier in {change.id for change in CHANGES}
