"""Where the log goes and what happens when it cannot go there: syslog, journald, full and lost disks, batches."""
from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess

import pytest
from harness import Server, Site, small_disk, wait_until
from servers import Master

from luafcgid2 import client

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
TALK = "function main() Log('said ' .. Env.QUERY_STRING) print('printed', Env.QUERY_STRING) Send('ok') end"
CALLS = ("write,pwrite64,writev,pwritev,openat,open,creat,ftruncate,fallocate,fsync,fdatasync,rename,unlink,unlinkat,"
         "mkdir")


def ask(server, name="respond.lua", query="", status=200):
    """One request, straight to the socket, that must be answered with `status`; the body."""
    www = server.site.www
    answer = client.request(server.address, {
        "REQUEST_METHOD": "GET", "SCRIPT_FILENAME": os.path.join(www, name), "DOCUMENT_ROOT": www,
        "QUERY_STRING": query, "SCRIPT_NAME": "/" + name, "REQUEST_URI": "/%s?%s" % (name, query)})
    assert answer.status == status, answer
    return answer.body.decode()


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def on_disk(folder):
    """Size and time of every file below a folder."""
    return {path: (found.st_size, found.st_mtime_ns)
            for place, _, names in os.walk(folder) for path in (os.path.join(place, name) for name in names)
            for found in (os.stat(path),)}


def rest(server, name="respond.lua"):
    """One request, and wait until the only worker rests: its title names the script then.  At its start it has tried
    the session store, once, which writes."""
    ask(server, name)
    pid, = server.workers()
    wait_until(lambda: name in read("/proc/%d/cmdline" % pid), "the worker rests")


class Trace:
    """strace on the master and its workers: what they do to files, from `with` to its end in `lines`."""

    def __init__(self, server):
        self._pids, self._path = (server.pid, *server.workers()), os.path.join(server.site.path, "trace")

    def __enter__(self):
        argv = ["strace", "-f", "-y", "-s", "64", "-e", "trace=" + CALLS, "-o", self._path]
        for pid in self._pids:
            argv += ["-p", str(pid)]
        with open(self._path + ".told", "wb") as told:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=told, stderr=told)
        wait_until(lambda: all("Process %d attached" % pid in read(self._path + ".told") for pid in self._pids),
                   "strace is attached")
        return self

    def __exit__(self, *failure):
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)
        self.lines = read(self._path).splitlines()

    def writes(self):
        """Calls that change a file or a directory of a disk."""
        opened = [line for line in self.lines if re.search(r" (open|openat|creat)\(", line)
                  and re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC)", line)]
        named = [line for line in self.lines if re.search(r" (rename|unlink|unlinkat|mkdir)\(", line)]
        written = [line for line in self.lines if " open" not in line
                   and re.search(r" \w+\(\d+</(?!dev/|memfd:)", line)]
        return opened + named + written


class TestWhatIsWritten:
    def test_nothing_is_written_while_idle_or_serving_reads(self, site, start):
        server = start(Master, site, Workers=1)
        rest(server)
        before = on_disk(site.path)
        with Trace(server) as trace:
            for _ in range(200):
                ask(server)
            rest(server, "env.lua")
        after = {path: found for path, found in on_disk(site.path).items() if not path.startswith(site.path + "/trace")}
        assert trace.writes() == []
        assert after == before

    def test_the_trace_would_see_a_line_of_the_log(self, site, start):
        server = start(Master, site, Workers=1)
        server.expect_errors("fail.lua")
        rest(server)
        with Trace(server) as trace:
            ask(server, "fail.lua", status=500)
        assert len(trace.writes()) == 1 and server.log in trace.writes()[0]

    def test_lines_of_scripts_are_written_in_batches(self, site, start):
        server = start(Master, site, Workers=1)
        site.write("talk.lua", TALK)
        rest(server)
        with Trace(server) as trace:
            for number in range(300):
                ask(server, "talk.lua", "%d." % number)
            wait_until(lambda: all("said %d." % number in server.log_text() for number in range(300)), "all lines")
        assert 1 <= len(trace.writes()) < 150
        found = re.findall(r"said (\d+)\.", server.log_text())
        assert sorted(map(int, found)) == list(range(300))

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_no_line_is_lost_at_an_end(self, site, start, number):
        server = start(Master, site)
        site.write("talk.lua", TALK)
        for count in range(20):
            ask(server, "talk.lua", "%d." % count)
        assert server.stop(number) == 0
        assert sorted(map(int, re.findall(r"said (\d+)\.", server.log_text()))) == list(range(20))


class TestFormat:
    def test_log_and_print_carry_the_name_of_the_script(self, site, start):
        server = start(Master, site)
        path = site.write("talk.lua", TALK)
        ask(server, "talk.lua", "x")
        wait_until(lambda: "printed" in server.log_text(), "the script's lines")
        assert re.search(r"\] info: %s: said x$" % path, server.log_text(), re.MULTILINE)
        assert re.search(r"\] info: %s: printed\tx$" % path, server.log_text(), re.MULTILINE)

    def test_json_has_it_in_a_field(self, site):
        path = site.write("talk.lua", TALK)
        with JsonMaster(site, LogFormat="json") as server:
            ask(server, "talk.lua", "x")
            wait_until(lambda: "printed" in server.log_text(), "the script's lines")
            ask(server, "fail.lua", status=500)
            found = [json.loads(line) for line in server.log_text().splitlines()]
        assert [line["message"] for line in found if line.get("script") == path] == ["said x", "printed\tx"]
        error, = (line for line in found if line["level"] == "error")
        assert "stack traceback" in error["message"] and error["pid"] != server.pid


class JsonMaster(Master):
    def _has_started(self):
        return os.path.exists(self.address) and '"message":"ready"' in self.log_text()

    def error_lines(self):
        return []


class Syslogd:
    """What stands at /dev/log: a datagram socket.  `heard` are the datagrams that it has read."""

    def __init__(self, site):
        self.path, self.heard, self._socket = os.path.join(site.run, "devlog"), [], None

    def start(self):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(self.path)

    def stop(self):
        self._socket.close()
        os.unlink(self.path)

    def read(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard.append(self._socket.recv(65536).decode())
        return self.heard

    def lines(self, part):
        return [line for line in self.read() if part in line]


class SyslogMaster(Master):
    """A master whose log goes to a Syslogd."""

    def __init__(self, site, **settings):
        self.syslogd = Syslogd(site)
        super().__init__(site, LogFilePath="syslog", SyslogSocket=self.syslogd.path, **settings)
        site.write("talk.lua", TALK)

    def _has_started(self):
        return Server._has_started(self)

    def error_lines(self):
        return []


class TestSyslog:
    def test_events_have_facility_severity_and_tag(self, site):
        server = SyslogMaster(site, SyslogFacility="local3", Workers=1)
        server.syslogd.start()
        with server:
            ready, = wait_until(lambda: server.syslogd.lines("info: ready"), "the start")
            ask(server, "fail.lua", status=500)
            error, = wait_until(lambda: server.syslogd.lines("stack traceback"), "the error")
            worker, = server.workers()
        date = r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
        assert re.fullmatch(r"<158>%s luafcgid2\[%d\]: info: ready" % (date, server.pid), ready)
        assert re.match(r"<155>.* luafcgid2\[%d\]: error: 500 " % worker, error)

    def test_a_missing_and_a_restarted_syslogd_stop_nobody(self, site):
        server = SyslogMaster(site, Workers=1)
        syslogd = server.syslogd
        with server:
            assert "LogFilePath = 'syslog': No such file or directory" in server.output()
            ask(server, "talk.lua", "lost")
            worker, = server.workers()

            def missed(text):
                # The master has lost lines, too, and may say so at any time.
                return [line for line in syslogd.lines(text) if "luafcgid2[%d]: " % worker in line]
            syslogd.start()
            ask(server, "talk.lua", "heard")
            wait_until(lambda: syslogd.lines("said heard"), "the line after the start of syslogd")
            assert len(missed("2 events could not be sent to %s: No such file" % syslogd.path)) == 1
            assert not syslogd.lines("said lost")
            syslogd.stop()
            ask(server, "talk.lua", "lost")
            syslogd.start()
            ask(server, "talk.lua", "again")
            wait_until(lambda: syslogd.lines("said again"), "the line after the restart")
            assert len(missed("2 events could not be sent")) == 2
            # A new one at once, as a restart is: the old connection is refused once.
            syslogd.stop()
            syslogd.start()
            ask(server, "talk.lua", "unharmed")
            assert len(wait_until(lambda: syslogd.lines("said unharmed"), "the line after a quick restart")) == 1
            assert len(missed("could not be sent")) == 2

    def test_a_syslogd_that_does_not_read_blocks_no_request(self, site):
        site.write("chatter.lua", "function main() for i = 1, 3000 do Log('line ' .. i .. '.') end Send('ok') end")
        server = SyslogMaster(site, Workers=1)
        server.syslogd.start()
        with server:
            server.syslogd.read()
            assert ask(server, "chatter.lua") == "ok"
            heard = len(server.syslogd.lines(": line "))
            ask(server, "talk.lua", "after")
            wait_until(lambda: server.syslogd.lines("said after"), "the line after the flood")
            told, = server.syslogd.lines("could not be sent")
        assert 0 < heard < 3000
        assert int(re.search(r"(\d+) events could not be sent", told).group(1)) == 3000 - heard

    def test_json_goes_to_syslog(self, site):
        server = SyslogMaster(site, LogFormat="json")
        server.syslogd.start()
        with server:
            ask(server, "talk.lua", "x")
            line, = wait_until(lambda: server.syslogd.lines("said x"), "the line")
        assert json.loads(line.partition("]: ")[2])["script"].endswith("/talk.lua")


class TestJournal:
    def test_every_line_on_the_journals_socket_has_its_priority(self, site):
        server = Master(site, LogFilePath="stderr", Workers=1)
        journal, end = socket.socketpair()
        with journal:
            found = os.fstat(end.fileno())
            environment = dict(server.environment, JOURNAL_STREAM="%d:%d" % (found.st_dev, found.st_ino))
            server._process = subprocess.Popen(server.argv, stdin=subprocess.DEVNULL, stdout=end, stderr=end,
                                               env=environment)
            end.close()
            text = []

            def heard(part):
                text.append(journal.recv(65536).decode())
                return part in "".join(text)
            try:
                wait_until(lambda: heard("info: ready"), "the start")
                ask(server, "fail.lua", status=500)
                wait_until(lambda: heard("stack traceback"), "the error")
            finally:
                assert server.stop() == 0
            while text[-1]:
                heard("")
        lines = "".join(text).splitlines()
        assert all(re.match(r"<[2-7]>", line) for line in lines)
        assert [line for line in lines if re.match(r"<6>.* info: ready$", line)]
        at = next(index for index, line in enumerate(lines) if re.match(r"<3>.* error: 500 ", line))
        assert lines[at + 1].startswith("<3>    ")


class Elsewhere(Master):
    """A master that logs to `path`, while its standard error goes where it does in other tests."""

    def __init__(self, site, path, **settings):
        super().__init__(site, LogFilePath=path, Workers=1, **settings)
        self.path, self.tells = path, True

    def _has_started(self):
        return super()._has_started() if self.tells else Server._has_started(self)

    def log_text(self):
        return read(self.path) if os.path.exists(self.path) else ""

    def error_lines(self):
        return []


class TestLosses:
    @as_root
    def test_a_full_disk_never_stops_a_request(self, site):
        with small_disk(site, 64) as (folder, fill, clear), Elsewhere(site, os.path.join(folder, "l.log")) as server:
            fill()
            for _ in range(60):
                ask(server, "fail.lua", status=500)
                assert ask(server) == "body"
            clear()
            ask(server, "fail.lua", status=500)
            told = re.findall(r"warning: LogFilePath = .*: (\d+) lines could not be written: No space left on device",
                              server.log_text())
            # A traceback has several lines.
            assert len(told) == 1 and int(told[0]) > 60
            assert server.stop() == 0 and "info: stopped" in server.log_text()

    @as_root
    def test_a_full_disk_does_not_keep_a_server_from_starting(self, site):
        with small_disk(site, 64) as (folder, fill, clear):
            fill()
            server = Elsewhere(site, os.path.join(folder, "l.log"))
            server.tells = False
            with server:
                assert ask(server) == "body"
                clear()
                ask(server, "fail.lua", status=500)
                assert "error: 500" in server.log_text()
                assert server.stop() == 0

    def test_a_deleted_log_is_made_anew_by_the_next_line(self, site, start):
        server = start(Master, site)
        server.expect_errors("fail.lua")
        os.unlink(server.log)
        ask(server, "fail.lua", status=500)
        assert "fail.lua" in server.log_text()

    def test_a_lost_directory_stops_no_request_and_the_log_goes_on_when_it_is_back(self, site):
        folder = os.path.join(site.run, "logs")
        os.mkdir(folder)
        with Elsewhere(site, os.path.join(folder, "l.log")) as server:
            shutil.rmtree(folder)
            for _ in range(3):
                ask(server, "fail.lua", status=500)
            os.mkdir(folder)
            ask(server, "fail.lua", status=500)
            assert "lines could not be written: No such file or directory" in server.log_text()
            assert server.log_text().count("error: 500") == 1
            assert server.stop() == 0

    @as_root
    def test_a_directory_made_read_only_stops_no_request(self):
        entry = pwd.getpwnam("www-data")
        with Site() as site:
            os.chmod(site.path, 0o755)
            os.chmod(site.run, 0o777)
            folder = os.path.join(site.run, "logs")
            os.mkdir(folder)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            with Elsewhere(site, os.path.join(folder, "l.log"), User="www-data") as server:
                os.chmod(folder, 0o555)
                os.unlink(server.path)
                ask(server, "fail.lua", status=500)
                assert not os.path.exists(server.path)
                os.chmod(folder, 0o755)
                ask(server, "fail.lua", status=500)
                assert "lines could not be written: Permission denied" in server.log_text()
                assert server.stop() == 0

    @as_root
    def test_a_disk_that_turned_read_only_stops_no_request(self, site):
        with small_disk(site, 64) as (folder, _, _), Elsewhere(site, os.path.join(folder, "l.log")) as server:
            # The kernel refuses it while the log is open; over the same folder it can put a view that is read-only.
            os.unlink(server.path)
            subprocess.run(["mount", "--bind", folder, folder], check=True)
            try:
                subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
                ask(server, "fail.lua", status=500)
                assert ask(server) == "body"
            finally:
                subprocess.run(["umount", folder], check=True)
            ask(server, "fail.lua", status=500)
            assert "lines could not be written: Read-only file system" in server.log_text()
            assert server.stop() == 0
