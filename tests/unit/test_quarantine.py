"""Quarantine: strikes, back-offs, trials; the master's part and the workers' gate over one scoreboard."""
from __future__ import annotations

import logging
import os
import signal
import threading

import pytest

from luafcgid2.decisions import Log
from luafcgid2.gate import TRIAL_WAIT, Gate
from luafcgid2.quarantine import MAX_SCRIPTS, Quarantine, blames_script
from luafcgid2.scoreboard import QUARANTINE, QUARANTINE_SERIAL, RUNNING, Scoreboard, script_key

SECOND = 10 ** 9
WALL = 1_700_000_000 * SECOND
PATH = b"/srv/www/bad.lua"
STRIKES, INTERVAL, FIRST, LONGEST = 3, 60, 10, 3600
CRASH = int(signal.SIGSEGV)


class Site:
    """A master's quarantine, one worker's gate, and a clock."""

    def __init__(self, strikes=STRIKES, interval=INTERVAL, first=FIRST, longest=LONGEST):
        self.board = Scoreboard(4, 4)
        self.now = 1000 * SECOND
        self.told = []
        self.quarantine = Quarantine(self.board, strikes, interval, first, longest, wall=lambda: WALL)
        self.gate = self.another_gate()

    def another_gate(self):
        return Gate(self.board, self.told.append, clock=lambda: self.now)

    def wait(self, seconds):
        self.now += int(seconds * SECOND)
        return self.quarantine.tick(self.now)

    def strike(self, path=PATH, times=1, reason="timeout", started=0):
        decisions = []
        for _ in range(times):
            decisions += self.quarantine.strike(path, reason, self.now, started)
        return decisions

    def die(self, scripts, status=CRASH, **more):
        slot = self.board.slot(self.board.take())
        for line, script in zip(slot.lines, scripts):
            line.script, line.state = script, RUNNING
        decisions = self.quarantine.death(slot, status, self.now, **more)
        slot.clear()
        return decisions

    @property
    def lines(self):
        return [line for line in self.board.quarantine if line.path]


@pytest.fixture
def site():
    return Site()


def test_the_third_strike_within_the_interval_brings_quarantine(site):
    assert site.strike(times=2) == []
    assert site.gate.check(PATH) == 0
    [log] = site.strike()
    assert log == Log(logging.ERROR, "script /srv/www/bad.lua is in quarantine: it ran too long, 3 times within 60 s; "
                                     "its requests are answered 503 for 10 s")
    assert site.gate.check(PATH) == 10
    assert site.gate.check(b"/srv/www/good.lua") == 0


def test_strikes_far_apart_never_add_up(site):
    for _ in range(20):
        assert site.strike() == []
        site.wait(31)
    assert site.lines == []


def test_no_strikes_configured_means_no_quarantine():
    site = Site(strikes=0)
    assert site.strike(times=100) == [] and site.die([PATH]) == []
    assert site.quarantine.next_tick(site.now) is None


def test_the_line_tells_until_when_how_bad_and_how_often(site):
    site.strike(times=3)
    [line] = site.lines
    assert line.values() == {"until": site.now + 10 * SECOND, "level": 1, "strikes": 3, "past": 1, "since": WALL}
    assert line.path == PATH


def test_each_change_of_the_lines_moves_the_serial(site):
    seen = [site.board.cells[QUARANTINE_SERIAL]]
    for change in (lambda: site.strike(times=3), lambda: site.wait(FIRST + INTERVAL),
                   lambda: site.strike(times=3), lambda: site.quarantine.flush()):
        change()
        seen.append(site.board.cells[QUARANTINE_SERIAL])
    assert seen == sorted(set(seen))


def test_strikes_during_the_back_off_and_from_before_it_change_nothing(site):
    began = site.now
    site.now += SECOND
    site.strike(times=3)
    assert site.strike(times=5) == []
    site.wait(FIRST + 1)
    # Eight requests were under way; the last ones time out when the script is on trial already.
    assert site.strike(started=began) == []
    assert site.lines[0].level == 1


def test_a_strike_on_trial_doubles_the_back_off_up_to_the_longest():
    site = Site(longest=100)
    site.strike(times=3)
    pauses = [site.gate.check(PATH)]
    for _ in range(6):
        site.wait(pauses[-1])
        assert site.gate.check(PATH) == 0
        [log] = site.strike()
        assert "again, while on trial" in log.text
        pauses.append(site.gate.check(PATH))
    assert pauses == [10, 20, 40, 80, 100, 100, 100]


def test_a_calm_spell_halves_the_back_off_and_at_last_the_script_is_forgotten(site):
    site.strike(times=3)
    site.wait(10)
    site.strike()
    assert site.lines[0].level == 2
    site.wait(20)
    # An interval is longer than the back-off here.
    assert site.quarantine.next_tick(site.now) == INTERVAL
    assert site.wait(INTERVAL) == [] and site.lines[0].level == 1
    [log] = site.wait(INTERVAL)
    assert log == Log(logging.INFO, "script /srv/www/bad.lua is out of quarantine: no harm was done for a while")
    assert site.lines == [] and site.quarantine.next_tick(site.now) is None
    assert site.strike(times=2) == []


def test_a_master_that_slept_through_all_calm_spells_forgets_at_once(site):
    site.strike(times=3)
    site.wait(10)
    site.strike()
    assert len(site.wait(10 ** 6)) == 1 and site.lines == []


def test_a_tick_is_wanted_only_when_a_calm_spell_is_over(site):
    assert site.quarantine.next_tick(site.now) is None
    site.strike(times=2)
    assert site.quarantine.next_tick(site.now) is None
    site.strike()
    assert site.quarantine.next_tick(site.now) == FIRST + INTERVAL
    assert site.quarantine.next_tick(site.now + 1000 * SECOND) == 0


def test_on_trial_one_request_runs_and_others_wait(site):
    site.strike(times=3)
    site.wait(FIRST)
    waits = []

    def ask():
        waits.append(site.gate.check(PATH))

    assert site.gate.check(PATH) == 0
    other = threading.Thread(target=ask)
    other.start()
    other.join()
    assert waits == [TRIAL_WAIT]


def test_after_a_trial_that_went_well_all_requests_run(site):
    site.strike(times=3)
    site.wait(FIRST)
    assert site.gate.check(PATH) == 0
    site.gate.done(PATH, well=True)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(site.gate.check(PATH))) for _ in range(3)]
    for thread in threads:
        thread.start()
        thread.join()
    assert answers == [0, 0, 0]


def test_each_worker_makes_its_own_trial(site):
    second = site.another_gate()
    site.strike(times=3)
    site.wait(FIRST)
    assert site.gate.check(PATH) == second.check(PATH) == 0


def test_a_trial_that_went_wrong_is_followed_by_another_until_the_master_knows(site):
    site.strike(times=3)
    site.wait(FIRST)
    assert site.gate.check(PATH) == 0
    site.gate.done(PATH, well=False)
    assert site.gate.check(PATH) == 0
    site.strike()
    assert site.gate.check(PATH) == 20


def test_a_request_from_before_the_quarantine_is_no_trial(site):
    assert site.gate.check(PATH) == 0
    site.strike(times=3)
    site.wait(FIRST)
    site.gate.check(b"/other.lua")
    holder = threading.Thread(target=site.gate.check, args=(PATH,))
    holder.start()
    holder.join()
    site.gate.done(PATH, well=True)
    assert site.gate.check(PATH) == TRIAL_WAIT


def test_a_good_trial_holds_when_other_scripts_come_and_go(site):
    site.strike(times=3)
    site.wait(FIRST)
    site.gate.check(PATH)
    site.gate.done(PATH, well=True)
    site.strike(b"/other.lua", times=3)
    assert site.gate.check(PATH) == 0 and site.gate.check(b"/other.lua") == 10


def test_a_good_trial_of_the_last_quarantine_says_nothing_about_the_next(site):
    site.strike(times=3)
    site.wait(FIRST)
    site.gate.check(PATH)
    site.gate.done(PATH, well=True)
    site.strike()
    assert site.gate.check(PATH) == 20


def test_without_quarantine_the_gate_reads_no_line(site):
    site.gate.check(PATH)
    site.gate._lines = None
    assert site.gate.check(PATH) == 0
    site.gate.done(PATH, well=True)


def test_a_gate_made_later_knows_what_was_in_quarantine_before(site):
    site.strike(times=3)
    assert site.another_gate().check(PATH) == 10


def test_a_changed_file_ends_the_quarantine_in_this_worker_and_for_all(site, tmp_path):
    path = os.fsencode(tmp_path / "bad.lua")
    site.quarantine._wall = lambda: os.stat(path).st_ctime_ns
    (tmp_path / "bad.lua").write_text("-- bad")
    site.strike(path, times=3)
    assert site.gate.check(path) == 10
    before = os.stat(path).st_ctime_ns
    while os.stat(path).st_ctime_ns == before:
        (tmp_path / "bad.lua").write_text("-- mended")
    assert site.gate.check(path) == 0 and site.gate.check(path) == 0
    assert site.told == [path]
    [log] = site.quarantine.changed(path)
    assert "its file has changed" in log.text
    assert site.lines == [] and site.another_gate().check(path) == 0


def test_a_file_put_in_place_with_an_old_modification_time_counts_as_changed(site, tmp_path):
    path = os.fsencode(tmp_path / "bad.lua")
    (tmp_path / "bad.lua").write_text("-- bad")
    site.quarantine._wall = lambda: os.stat(path).st_ctime_ns
    site.strike(path, times=3)
    assert site.gate.check(path) == 10
    before = os.stat(path).st_ctime_ns
    while os.stat(path).st_ctime_ns == before:
        (tmp_path / "new").write_text("-- mended")
        os.utime(tmp_path / "new", (1, 1))
        os.replace(tmp_path / "new", tmp_path / "bad.lua")
    assert site.gate.check(path) == 0


def test_a_file_that_is_gone_stays_in_quarantine(site):
    site.strike(b"/no/such/file.lua", times=3)
    assert site.gate.check(b"/no/such/file.lua") == 10


def test_a_file_from_a_time_to_come_is_not_taken_for_a_changed_one(site, tmp_path, monkeypatch):
    path = os.fsencode(tmp_path / "bad.lua")
    (tmp_path / "bad.lua").write_text("-- bad")
    monkeypatch.setattr("luafcgid2.gate.time.time_ns", lambda: WALL + SECOND)
    assert os.stat(path).st_ctime_ns > WALL + 2 * SECOND
    site.strike(path, times=3)
    assert site.gate.check(path) == 10 and site.told == []


def test_news_of_a_script_that_nobody_knows_is_ignored(site):
    assert site.quarantine.changed(b"/never/heard.lua") == []


def test_a_flush_ends_every_quarantine(site):
    site.strike(times=3)
    site.strike(b"/b.lua", times=3)
    site.strike(b"/c.lua", times=2)
    assert [log.level for log in site.quarantine.flush()] == [logging.INFO] * 2
    assert site.lines == [] and site.gate.check(PATH) == 0
    assert site.strike(b"/c.lua", times=2) == []


def test_long_paths_with_the_same_beginning_are_two_scripts(site):
    one, two = (b"/" + b"x" * 300 + end for end in (b"1.lua", b"2.lua"))
    site.strike(one, times=3)
    assert site.gate.check(one) == 10 and site.gate.check(two) == 0
    assert script_key(script_key(one)) == script_key(one) == site.lines[0].path


def test_more_scripts_than_lines_leave_those_whose_time_ends_last(site):
    for number in range(QUARANTINE + 5):
        site.strike(b"/%d.lua" % number, times=3)
        site.now += SECOND // 100
    assert len(site.lines) == QUARANTINE
    assert site.gate.check(b"/0.lua") == 0
    assert site.gate.check(b"/%d.lua" % (QUARANTINE + 4)) > 9
    site.now += 1000 * SECOND
    site.quarantine.tick(site.now)
    assert site.lines == []


def test_any_number_of_scripts_with_strikes_is_remembered_up_to_a_bound(site):
    site.strike(times=3)
    for number in range(MAX_SCRIPTS + 50):
        site.strike(b"/%d.lua" % number)
    assert len(site.quarantine._cases) == MAX_SCRIPTS
    assert site.gate.check(PATH) == 10


@pytest.mark.parametrize("status, oom, blamed", [
    (signal.SIGSEGV, False, True), (signal.SIGABRT, False, True), (signal.SIGBUS | 0x80, False, True),
    (signal.SIGKILL, False, False), (signal.SIGKILL, True, True), (signal.SIGTERM, True, False),
    (signal.SIGQUIT, False, False), (0, False, False), (1 << 8, False, True), (3 << 8, False, False),
])
def test_a_script_is_blamed_for_crashes_but_not_for_what_people_or_the_master_do(status, oom, blamed):
    assert blames_script(int(status), oom) is blamed


def test_a_script_that_kills_its_worker_three_times_is_in_quarantine(site):
    assert site.die([PATH]) == [] and site.die([PATH, PATH]) == []
    [log] = site.die([PATH])
    assert "it brought a worker down" in log.text


def test_workers_killed_by_hand_put_nothing_in_quarantine(site):
    for _ in range(20):
        assert site.die([PATH], status=int(signal.SIGKILL)) == []
    assert site.die([PATH], status=int(signal.SIGKILL), oom=True) == []
    site.die([PATH], status=int(signal.SIGKILL), oom=True)
    assert len(site.die([PATH], status=int(signal.SIGKILL), oom=True)) == 1


def test_a_worker_that_dies_idle_blames_nobody(site):
    for _ in range(5):
        assert site.die([]) == []


def test_of_several_scripts_the_one_that_was_always_there_is_found(site):
    assert site.die([PATH, b"/a.lua"]) == [] and site.die([PATH, b"/b.lua"]) == []
    [log] = site.die([PATH, b"/a.lua", b"/b.lua"])
    assert "/srv/www/bad.lua" in log.text
    assert [line.path for line in site.lines] == [PATH]


def test_of_several_scripts_the_one_on_trial_is_blamed(site):
    site.strike(times=3)
    site.wait(FIRST)
    [log] = site.die([PATH, b"/a.lua"])
    assert "/srv/www/bad.lua" in log.text and "again, while on trial" in log.text


def test_two_scripts_that_are_always_there_together_are_both_spared(site):
    for _ in range(10):
        assert site.die([PATH, b"/a.lua"]) == []


def test_a_request_whose_script_is_not_known_makes_it_nobodys_fault(site):
    for _ in range(10):
        assert site.die([b""]) == []


def test_several_deaths_far_apart_blame_nobody(site):
    for other in (b"/a.lua", b"/b.lua", b"/c.lua", b"/d.lua"):
        assert site.die([PATH, other]) == []
        site.wait(INTERVAL)
