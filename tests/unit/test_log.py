"""The log's lines, its file and what happens without one."""
from __future__ import annotations

import os
import re
import types

import pytest

from luafcgid2 import log

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \[(\d+)\] (\w+): (.*)")


@pytest.fixture
def path(tmp_path):
    yield str(tmp_path / "x.log")
    # The logger is one per process: let go of this test's file.
    log.setup(types.SimpleNamespace(log_file_path="", log_level="info"))


def logger_for(path, level="info", **options):
    return log.setup(types.SimpleNamespace(log_file_path=path, log_level=level), **options)


def lines(path):
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read().splitlines()


def test_an_event_is_one_line_with_time_pid_and_level(path):
    logger_for(path).warning("worker %d is %s", 2, "late")
    pid, level, message = LINE.fullmatch(lines(path)[0]).groups()
    assert (int(pid), level, message) == (os.getpid(), "warning", "worker 2 is late")


def test_a_further_line_is_indented_so_that_it_cannot_pass_for_an_event(path):
    logger_for(path).error("first\n2026-01-01 00:00:00.000 [1] info: forged\n")
    first, second = lines(path)
    assert LINE.fullmatch(first)
    assert second == "    2026-01-01 00:00:00.000 [1] info: forged"


def test_control_characters_do_not_reach_the_terminal(path):
    logger_for(path).info("a\x1b[31m\rb\0c\x9bd\te")
    assert LINE.fullmatch(lines(path)[0]).group(3) == "a\\x1b[31m\\x0db\\x00c\\x9bd\te"


def test_a_traceback_is_logged_below_its_event(path):
    logger = logger_for(path)
    try:
        raise KeyError("lost")
    except KeyError:
        logger.exception("it failed")
    assert lines(path)[0].endswith("error: it failed")
    assert lines(path)[-1] == "    KeyError: 'lost'"


def test_bytes_that_are_no_utf8_come_out_as_they_went_in(path):
    logger_for(path).info("%s", b"caf\xe9".decode("utf-8", "surrogateescape"))
    with open(path, "rb") as file:
        assert file.read().endswith(b"caf\xe9\n")


def test_lines_are_appended(path):
    logger_for(path).info("one")
    logger_for(path).info("two")
    assert [line[-3:] for line in lines(path)] == ["one", "two"]


def test_log_level_leaves_out_what_is_below(path):
    logger = logger_for(path, "warning")
    logger.info("quiet")
    logger.warning("loud")
    assert len(lines(path)) == 1


def test_reopen_follows_the_name_after_the_file_was_moved(path):
    logger = logger_for(path)
    logger.info("old")
    os.rename(path, path + ".1")
    logger.info("still old")
    log.reopen(logger)
    logger.info("new")
    assert [line[-3:] for line in lines(path + ".1")] == ["old", "old"]
    assert [line[-3:] for line in lines(path)] == ["new"]


def test_a_reopen_that_fails_keeps_the_old_file_and_says_so(path):
    logger = logger_for(path)
    os.rename(path, path + ".1")
    os.mkdir(path)
    log.reopen(logger)
    logger.info("goes on")
    first, second = lines(path + ".1")
    assert "LogFilePath" in first and path in first
    assert second.endswith("goes on")


def test_an_unusable_log_file_is_a_warning_on_standard_error(path, capfd):
    missing = os.path.join(os.path.dirname(path), "no", "x.log")
    logger_for(missing).info("event")
    first, second = capfd.readouterr().err.splitlines()
    assert missing in first and "No such file" in first and "standard error" in first
    assert second.endswith("info: event")


def test_standard_error_on_request_and_for_an_empty_path(path, capfd):
    logger_for(path, stderr=True).info("asked for")
    logger_for("").info("no path")
    first, second = capfd.readouterr().err.splitlines()
    assert (first[-9:], second[-7:]) == ("asked for", "no path")
    assert not os.path.exists(path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_raises_nothing(path):
    logger_for("/dev/full").error("lost")


def test_the_file_is_not_readable_by_everybody(path):
    before = os.umask(0o022)
    try:
        logger_for(path)
    finally:
        os.umask(before)
    assert os.stat(path).st_mode & 0o777 == 0o640


def test_the_log_is_not_inherited_by_programs_that_scripts_start(path):
    logger = logger_for(path)
    assert not os.get_inheritable(logger.handlers[0]._fd)
    log.reopen(logger)
    assert not os.get_inheritable(logger.handlers[0]._fd)
