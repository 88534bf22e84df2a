"""The access log: its two formats, what clients may write into it, batches and losses."""
from __future__ import annotations

import json
import logging
import os
import re
import resource

import pytest

from luafcgid2 import accesslog, config
from luafcgid2.accesslog import AccessLog
from luafcgid2.params import encode

PARAMS = {"REMOTE_ADDR": "192.0.2.7", "REMOTE_USER": "anna", "REQUEST_METHOD": "GET", "REQUEST_URI": "/a.lua?b=c",
          "SERVER_PROTOCOL": "HTTP/1.1", "SCRIPT_FILENAME": "/www/a.lua"}


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append((record.levelname, record.getMessage()))


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "access.log")


@pytest.fixture
def told():
    return Lines()


@pytest.fixture
def access(path, told):
    """access("json"): a log on `path` that tells `told` of its trouble."""
    logger = logging.Logger("access")
    logger.addHandler(told)
    made = []

    def make(style="text"):
        made.append(AccessLog(path, style, logger))
        return made[-1]
    yield make
    for one in made:
        one.close()


def add(log, status=200, size=512, **params):
    log.add(encode({**PARAMS, **params}), status, size, 1700000000.25, 0.0125, 0.0031, 412)


def lines(path):
    with open(path, encoding="ascii") as file:
        return file.read().splitlines()


def test_text_is_the_common_log_format_with_three_numbers_behind_it(access, path):
    log = access()
    add(log)
    log.flush()
    line, = lines(path)
    assert re.fullmatch(r'192\.0\.2\.7 - anna \[1[45]/Nov/2023:\d\d:\d\d:20 [+-]\d{4}\] '
                        r'"GET /a\.lua\?b=c HTTP/1\.1" 200 512 12\.500 3\.100 412', line)


def test_what_is_absent_or_empty_is_a_dash(access, path):
    log = access()
    log.add(b"", 404, 0, 1700000000.0, 0.0, 0.0, 0)
    log.add(b"\xff\xff\xff\xff broken", 400, 0, 1700000000.0, 0.0, 0.0, 0)
    log.flush()
    assert [re.sub(r"\[.*\]", "[]", line) for line in lines(path)] == [
        '- - - [] "- - -" 404 - 0.000 0.000 0', '- - - [] "- - -" 400 - 0.000 0.000 0']


def test_json_is_one_object_a_line(access, path):
    log = access("json")
    add(log)
    log.flush()
    found, = (json.loads(line) for line in lines(path))
    assert re.fullmatch(r"2023-11-1[45]T\d\d:\d\d:20\.250[+-]\d\d:\d\d", found.pop("time"))
    assert found == {"pid": os.getpid(), "remote_addr": "192.0.2.7", "remote_user": "anna", "method": "GET",
                     "uri": "/a.lua?b=c", "protocol": "HTTP/1.1", "status": 200, "bytes": 512, "ms": 12.5,
                     "cpu_ms": 3.1, "heap_kb": 412}


def test_clients_cannot_forge_lines_or_fields(access, path):
    log = access()
    add(log, REQUEST_URI=b'/"\\ \n\r\x1b\x7f\xe9', REMOTE_USER=b'a b"] "x')
    log.flush()
    line, = lines(path)
    assert r'"GET /\x22\x5C \x0A\x0D\x1B\x7F\xE9 HTTP/1.1" 200' in line
    assert r' - a\x20b\x22]\x20\x22x [' in line


def test_json_escapes_what_clients_sent(access, path):
    log = access("json")
    add(log, REQUEST_URI=b'/"\\\n\x1b\x7f\xff')
    log.flush()
    with open(path, encoding="utf-8") as file:
        written = file.read()
    assert json.loads(written)["uri"] == '/"\\\n\x1b\x7f\\xff'
    assert written.count("\n") == 1 and "\x7f" not in written and "\x1b" not in written


def test_nothing_is_written_before_a_flush_that_finds_the_batch_old_or_large_enough(access, path):
    log = access()
    add(log)
    log.flush(3600)
    assert lines(path) == []
    for _ in range(accesslog.BATCH):
        add(log)
    log.flush(3600)
    assert len(lines(path)) == accesslog.BATCH + 1


def test_a_flush_in_time_starts_the_clock_anew(access, path):
    log = access()
    add(log)
    log.flush(1e-9)
    log.flush(1e-9)
    assert len(lines(path)) == 1
    add(log)
    log.flush(3600)
    assert len(lines(path)) == 1


def test_lines_keep_their_order_over_batches(access, path):
    log = access()
    count = 2 * accesslog.BATCH + 5
    for number in range(count):
        add(log, REQUEST_URI="/%d" % number)
    log.flush()
    assert [int(re.search(r"GET /(\d+) ", line).group(1)) for line in lines(path)] == list(range(count))


def test_what_waits_is_bounded_and_the_log_says_so(access, path, told):
    log = access()
    for _ in range(accesslog.MOST_WAITING + 3):
        add(log)
    log.flush()
    assert len(lines(path)) == accesslog.MOST_WAITING
    assert told.lines == [("WARNING", "AccessLogPath = %r: 3 requests came faster than they could be written" % path)]


def test_reopen_follows_the_name_with_what_waited_in_the_old_file(access, path):
    log = access()
    add(log, REQUEST_URI="/old")
    os.rename(path, path + ".1")
    log.reopen()
    add(log, REQUEST_URI="/new")
    log.flush()
    assert "/old" in lines(path + ".1")[0] and "/new" in lines(path)[0]


def test_a_full_disk_raises_nothing_and_the_log_says_how_many_lines_are_missing(access, path, told):
    log = access()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        for _ in range(3):
            add(log)
            log.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert told.lines == []
    add(log)
    log.flush()
    assert len(lines(path)) == 1
    assert told.lines == [("WARNING", "AccessLogPath = %r: 3 lines could not be written: File too large" % path)]


def test_a_deleted_file_is_made_anew(access, path):
    log = access()
    add(log)
    log.flush()
    os.unlink(path)
    add(log)
    log.flush()
    assert len(lines(path)) == 1


def test_a_file_that_cannot_be_opened_is_a_warning_and_nothing_goes_to_standard_error(access, path, told, capfd):
    os.mkdir(path)
    log = access()
    add(log)
    log.flush()
    os.rmdir(path)
    log.reopen()
    add(log)
    log.flush()
    assert len(lines(path)) == 1
    (_, cannot), (_, missing) = told.lines
    assert cannot.startswith("AccessLogPath = %r: Is a directory" % path)
    assert "1 line could not be written" in missing
    assert capfd.readouterr().err == ""


def test_the_configuration_turns_it_on(path):
    logger = logging.Logger("access")
    assert accesslog.open_log(config.defaults(), logger) is None
    log = accesslog.open_log(config.defaults(access_log_path=path, access_log_format="json"), logger)
    add(log)
    log.close()
    assert json.loads(lines(path)[0])["status"] == 200
