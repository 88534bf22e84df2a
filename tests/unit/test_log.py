"""The log's lines, its file and what happens without one."""
from __future__ import annotations

import json
import logging
import os
import re
import resource
import threading

import pytest

from luafcgid2 import config, log

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \[(\d+)\] (\w+): (.*)")


@pytest.fixture
def path(tmp_path):
    yield str(tmp_path / "x.log")
    # The logger is one per process: let go of this test's file.
    log.setup(config.defaults(log_file_path=""))


def logger_for(path, level="info", stderr=False, **settings):
    return log.setup(config.defaults(log_file_path=path, log_level=level, **settings), stderr=stderr)


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
    for name in ("", "-", "stderr", "/dev/stderr"):
        logger_for(name).info("by %r", name)
    first, *others = capfd.readouterr().err.splitlines()
    assert first[-9:] == "asked for"
    assert [line.split()[-1] for line in others] == ["''", "'-'", "'stderr'", "'/dev/stderr'"]
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
    assert not os.get_inheritable(logger.handlers[0].file._fd)
    log.reopen(logger)
    assert not os.get_inheritable(logger.handlers[0].file._fd)


def test_a_replaced_logger_lets_go_of_its_file(path):
    def held() -> list:
        links = (os.path.realpath("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd"))
        return sorted(link for link in links if link.startswith(path))
    for _ in range(5):
        logger_for(path, slow_log_path=path + ".slow")
        assert held() == [path, path + ".slow"]
    logger_for("")
    assert held() == []


def test_a_line_of_a_script_names_it_once(path):
    logger = logger_for(path)
    logger.info("hello", extra={"script": "/www/a.lua"})
    logger.info("/www/a.lua was killed", extra={"script": "/www/a.lua", "uri": "/a", "seconds": 3})
    first, second = lines(path)
    assert first.endswith("info: /www/a.lua: hello")
    assert second.endswith("info: /www/a.lua was killed")


class TestJson:
    def objects(self, path):
        return [json.loads(line) for line in lines(path)]

    def test_an_event_is_one_object(self, path):
        logger_for(path, log_format="json").warning("worker %d is %s", 2, "late")
        found, = self.objects(path)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", found.pop("time"))
        assert found == {"pid": os.getpid(), "level": "warning", "message": "worker 2 is late"}

    def test_script_uri_and_seconds_have_fields_of_their_own(self, path):
        extra = {"script": "/www/a.lua", "uri": "/a?b=c", "seconds": 1.5}
        logger_for(path, log_format="json").info("hello", extra=extra)
        found, = self.objects(path)
        assert {key: found[key] for key in (*extra, "message")} == {**extra, "message": "hello"}

    def test_no_message_can_make_two_lines_or_reach_the_terminal(self, path):
        text = 'a"\\\n{"level": "forged"}\x1b[31m\x7f\x9b\u20ac'
        logger_for(path, log_format="json").error("%s", text)
        with open(path, encoding="utf-8") as file:
            written = file.read()
        assert json.loads(written)["message"] == text
        assert written.count("\n") == 1
        assert not [char for char in written[:-1] if ord(char) < 32 or 127 <= ord(char) < 160]

    def test_bytes_that_are_no_utf8_are_spelled_out(self, path):
        logger_for(path, log_format="json").info("%s", b"caf\xe9".decode("utf-8", "surrogateescape"))
        assert self.objects(path)[0]["message"] == "caf\\xe9"

    def test_the_zone_is_that_of_the_machine(self, path, monkeypatch):
        import time
        monkeypatch.setenv("TZ", "XYZ+03:30")
        time.tzset()
        try:
            logger_for(path, log_format="json").info("here")
        finally:
            monkeypatch.undo()
            time.tzset()
        assert self.objects(path)[0]["time"].endswith("-03:30")


class TestSlowLog:
    def test_an_entry_is_a_warning_with_its_traceback_below(self, path):
        log.slow(logger_for(path), "/www/a.lua", "/a?b", 5.25, "stack traceback:\n\t[C]: in sleep\n\ta.lua:3: in main")
        first, *rest = lines(path)
        assert first.endswith("warning: slow request: 5.250 s: /www/a.lua /a?b")
        assert rest == ["    stack traceback:", "    \t[C]: in sleep", "    \ta.lua:3: in main"]

    def test_a_uri_cannot_forge_an_entry(self, path):
        log.slow(logger_for(path), "/www/a.lua", "/a\n2026-01-01 00:00:00.000 [1] info: x", 1, "")
        assert [bool(LINE.fullmatch(line)) for line in lines(path)] == [True, False]

    def test_it_has_fields_in_json(self, path):
        log.slow(logger_for(path, log_format="json"), "/www/a.lua", "/a", 5.25, "stack\n\ta.lua:3")
        found, = (json.loads(line) for line in lines(path))
        assert (found["script"], found["uri"], found["seconds"], found["traceback"]) == (
            "/www/a.lua", "/a", 5.25, "stack\n\ta.lua:3")

    def test_a_file_of_its_own_follows_its_name_and_ignores_the_level(self, path):
        logger = logger_for(path, "critical", slow_log_path=path + ".slow")
        log.slow(logger, "/www/a.lua", "/a", 1, "")
        os.rename(path + ".slow", path + ".slow.1")
        log.reopen(logger)
        log.slow(logger, "/www/b.lua", "/b", 2, "")
        assert "/www/a.lua" in lines(path + ".slow.1")[0]
        assert "/www/b.lua" in lines(path + ".slow")[0]
        assert lines(path) == []


class TestBatches:
    def test_lines_wait_for_a_flush_and_wake_who_flushes_once(self, path):
        logger, woken = logger_for(path), []
        log.batch(logger, lambda: woken.append(1))
        logger.info("one")
        logger.info("two")
        assert lines(path) == [] and woken == [1]
        log.flush(logger, older_than=3600)
        assert lines(path) == []
        log.flush(logger)
        logger.info("three")
        assert [line.split()[-1] for line in lines(path)] == ["one", "two"] and woken == [1, 1]
        log.batch(logger, None)
        logger.info("four")
        assert [line.split()[-1] for line in lines(path)] == ["one", "two", "three", "four"]

    @pytest.mark.parametrize("level", ["warning", "error", "critical"])
    def test_a_warning_goes_out_at_once_and_in_order(self, path, level):
        logger = logger_for(path)
        log.batch(logger, lambda: None)
        logger.info("first")
        getattr(logger, level)("second")
        assert [line.split()[-1] for line in lines(path)] == ["first", "second"]

    def test_a_batch_is_bounded(self, path):
        logger = logger_for(path)
        log.batch(logger, lambda: None)
        for _ in range(3):
            logger.info("x" * 30000)
        assert len(lines(path)) == 3

    def test_a_batch_goes_to_the_file_that_was_there_when_it_was_made(self, path):
        logger = logger_for(path)
        log.batch(logger, lambda: None)
        logger.info("old")
        os.rename(path, path + ".1")
        log.reopen(logger)
        logger.info("new")
        log.flush(logger)
        assert [line[-3:] for line in lines(path + ".1") + lines(path)] == ["old", "new"]

    def test_nothing_waits_when_the_process_ends_normally(self, path):
        pid = os.fork()
        if not pid:
            logger = logger_for(path)
            log.batch(logger, lambda: None)
            logger.info("goodbye")
            logging.shutdown()
            os._exit(0)
        os.waitpid(pid, 0)
        assert lines(path)[0].endswith("goodbye")

    def test_standard_error_is_not_batched(self, path, capfd):
        logger = logger_for("")
        log.batch(logger, lambda: None)
        logger.info("now")
        assert capfd.readouterr().err.endswith("info: now\n")

    def test_lines_of_many_threads_are_each_written_once(self, path):
        logger = logger_for(path)
        log.batch(logger, lambda: None)

        def write(number):
            for count in range(200):
                logger.info("line %d of %d", count, number)
                if count % 50 == 0:
                    log.flush(logger)
        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        log.flush(logger)
        found = [LINE.fullmatch(line).group(3) for line in lines(path)]
        for number in range(4):
            assert [line for line in found if line.endswith("of %d" % number)] == [
                "line %d of %d" % (count, number) for count in range(200)]


@pytest.fixture
def file_limit():
    """Sets the size over which this process cannot write a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestLosses:
    def test_when_there_is_room_again_one_line_says_how_many_are_missing(self, path, file_limit):
        logger = logger_for(path)
        logger.info("before")
        file_limit(os.path.getsize(path))
        for _ in range(3):
            logger.error("lost")
        file_limit(-1)
        logger.info("after")
        before, told, after = lines(path)
        assert told.endswith("warning: LogFilePath = %r: 3 lines could not be written: File too large" % path)
        assert before.endswith("before") and after.endswith("after")

    def test_half_a_line_does_not_spoil_the_next_one(self, path, file_limit):
        logger = logger_for(path)
        file_limit(20)
        logger.error("too long for the room that there is")
        logger.error("lost as well")
        file_limit(-1)
        logger.info("after")
        half, told, after = lines(path)
        assert len(half) == 20
        assert "2 lines could not be written" in told and after.endswith("after")

    def test_a_batch_that_fits_in_part_counts_what_is_missing(self, path, file_limit):
        logger = logger_for(path)
        log.batch(logger, lambda: None)
        for number in range(10):
            logger.info("line %d", number)
        file_limit(100)
        log.flush(logger)
        file_limit(-1)
        log.flush(logger)
        found = lines(path)
        whole = [line for line in found if re.search(r"info: line \d$", line)]
        told = int(re.search(r"(\d+) lines could not be written", found[-1]).group(1))
        assert whole and len(whole) + told == 10

    def test_the_number_is_told_in_json_too(self, path, file_limit):
        logger = logger_for(path, log_format="json")
        file_limit(0)
        logger.error("lost")
        file_limit(-1)
        logger.info("after")
        told, after = (json.loads(line)["message"] for line in lines(path))
        assert "1 line could not be written" in told and after == "after"

    def test_a_deleted_file_is_made_anew(self, path):
        logger = logger_for(path)
        logger.info("gone")
        os.unlink(path)
        logger.info("here")
        assert [line[-4:] for line in lines(path)] == ["here"]
        assert os.stat(path).st_mode & 0o137 == 0

    def test_a_directory_that_comes_back_has_the_log_again(self, tmp_path):
        folder = tmp_path / "logs"
        folder.mkdir()
        path = str(folder / "x.log")
        logger = logger_for(path)
        os.unlink(path)
        folder.rmdir()
        for _ in range(2):
            logger.error("lost")
        folder.mkdir()
        logger.info("here")
        told, here = lines(path)
        assert "2 lines could not be written: No such file or directory" in told and here.endswith("here")
        log.setup(config.defaults(log_file_path=""))

    def test_a_bad_format_raises_nothing(self, path):
        logger = logger_for(path)
        logger.info("%d", "no number")
        logger.info("goes on")
        assert lines(path)[-1].endswith("goes on")


def test_a_bad_journal_variable_changes_nothing(path, capfd, monkeypatch):
    found = os.fstat(2)
    for value in ("", "junk", "%d:%d" % (found.st_dev, found.st_ino)):
        # The last one is right but for this: standard error is no socket here.
        monkeypatch.setenv("JOURNAL_STREAM", value)
        logger_for("").info("plain")
    assert all(LINE.fullmatch(line) for line in capfd.readouterr().err.splitlines())
