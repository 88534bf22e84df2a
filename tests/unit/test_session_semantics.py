"""What a script may rely on about sessions, through each real store and without Lua."""
from __future__ import annotations

import logging
import re
from contextlib import closing

import pytest
from stores import make_store  # noqa: F401

from luafcgid2 import config as configuration
from luafcgid2.errors import SessionError
from luafcgid2.sessions import open_store
from luafcgid2.sessions.cookie import ALPHABET, digest, http_date, new_key
from luafcgid2.sessions.session import HOST_CALLS, SessionService

LOGGER = logging.getLogger("test-sessions")
ANNA = (b"192.0.2.7", b"Browser/1", b"de", b"on")
THIEF = (b"198.51.100.9", b"Robot/2", b"en", b"on")
REALM = b"realm"
ONE, TWO = b"i1;", b"i2;"


class Clock:
    def __init__(self):
        # Far enough away that no server removes by its own clock what these tests look for.
        self.now = 4_102_444_800.25

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(make_store):  # noqa: F811
    return make_store()


@pytest.fixture
def service(store, clock):
    return make(store, clock)


def make(store, clock, **settings):
    return SessionService(configuration.defaults(**settings), store, LOGGER, clock)


def begin(service, cookie=None, who=ANNA):
    calls = service.for_state()
    calls.open(cookie, *who)
    return calls


def login(service, who=ANNA, realm=REALM, name=b"user", value=ONE):
    """A committed session; its key."""
    calls = begin(service, None, who)
    calls.set(realm, name, value)
    calls.commit()
    return calls.id()


# Keys and cookies

def test_a_key_has_the_configured_length_and_alphabet(service):
    key = login(service)
    assert re.fullmatch(rb"[A-Za-z0-9_]{24}", key)
    assert len(new_key(128)) == 128
    assert set(new_key(5000)) == set(ALPHABET)


def test_the_cookie_has_all_attributes_and_no_domain_by_default(store, clock):
    calls = begin(make(store, clock, session_time=3600, session_cookie_same_site="Lax"))
    calls.start()
    assert calls.commit() == (b"Set-Cookie: XLuaSession=%s; Expires=Fri, 01 Jan 2100 01:00:00 GMT; HttpOnly; Secure; "
                              b"SameSite=Lax; Path=/" % calls.id())


def test_attributes_follow_the_configuration(store, clock):
    calls = begin(make(store, clock, session_name="sid", session_cookie_secure=False, session_key_len=32,
                       session_cookie_http_only=False, session_cookie_domain="example.org"))
    calls.start()
    assert re.fullmatch(rb"Set-Cookie: sid=\w{32}; Expires=[^;]+ GMT; Path=/; Domain=example\.org", calls.commit())


def test_dates_do_not_depend_on_the_locale():
    assert http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert http_date(951782400) == "Tue, 29 Feb 2000 00:00:00 GMT"


def test_the_deletion_cookie_has_the_attributes_of_the_cookie(store, clock):
    service = make(store, clock, session_cookie_domain="example.org", session_cookie_same_site="Strict")
    key = login(service)
    calls = begin(service, key)
    calls.delete()
    assert calls.commit() == (b"Set-Cookie: XLuaSession=_; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Secure; "
                              b"SameSite=Strict; Path=/; Domain=example.org")


def test_every_response_whose_script_touched_the_session_carries_the_cookie(service):
    key = login(service)
    calls = begin(service, key)
    assert calls.get(REALM, b"user") == ONE
    assert calls.commit().startswith(b"Set-Cookie: XLuaSession=" + key)


def test_a_visitor_without_cookie_who_stores_nothing_gets_no_cookie(service):
    calls = begin(service)
    assert calls.get(REALM, b"user") is None
    assert not calls.has_realm(REALM)
    calls.clear(REALM)
    calls.delete()
    calls.set(REALM, b"user", None)
    assert calls.commit() is None
    assert calls.id() is None


@pytest.mark.parametrize("cookie", [b"_", b"unknown_key_of_24_chars_", b"not a key; at all", b"x" * 129, b"\xff\0"])
def test_a_cookie_that_leads_nowhere_is_deleted_and_never_adopted(service, cookie):
    calls = begin(service, cookie)
    assert calls.get(REALM, b"user") is None
    assert b"=_; Expires=Thu, 01 Jan 1970" in calls.commit()
    calls.start()
    assert calls.id() != cookie
    assert b"=" + calls.id() + b";" in calls.commit()


def test_secure_over_plain_http_is_warned_of_once(service, caplog):
    for https in (b"on", None, b"off", b""):
        login(service, ANNA[:3] + (https,))
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "SessionCookieSecure" in warnings[0].getMessage()


def test_without_secure_or_over_https_there_is_no_warning(store, clock, caplog):
    login(make(store, clock))
    login(make(store, clock, session_cookie_secure=False), ANNA[:3] + (None,))
    assert caplog.records == []


# Variables and realms

def test_a_variable_lives_from_request_to_request(service):
    assert begin(service, login(service)).get(REALM, b"user") == ONE


def test_what_a_request_stored_it_sees_at_once(service):
    calls = begin(service)
    assert calls.set(REALM, b"a", ONE)
    assert (calls.get(REALM, b"a"), calls.has_realm(REALM)) == (ONE, True)
    calls.set(REALM, b"a", None)
    assert (calls.get(REALM, b"a"), calls.has_realm(REALM)) == (None, True)


def test_nothing_is_stored_before_the_commit(service):
    key = login(service)
    calls = begin(service, key)
    calls.set(REALM, b"user", TWO)
    assert begin(service, key).get(REALM, b"user") == ONE
    calls.commit()
    assert begin(service, key).get(REALM, b"user") == TWO


def test_a_request_that_failed_leaves_nothing_for_the_next_on_its_state(service):
    key = login(service)
    calls = begin(service, key)
    calls.set(REALM, b"user", TWO)
    calls.open(None, *THIEF)
    assert calls.id() is None and calls.get(REALM, b"user") is None
    calls.commit()
    assert begin(service, key).get(REALM, b"user") == ONE


def test_erasing_a_variable_keeps_its_realm(service):
    key = login(service)
    calls = begin(service, key)
    calls.set(REALM, b"user", None)
    calls.commit()
    calls = begin(service, key)
    assert (calls.get(REALM, b"user"), calls.has_realm(REALM)) == (None, True)


def test_clearing_the_only_realm_forgets_it(service):
    key = login(service)
    calls = begin(service, key)
    calls.clear(REALM)
    assert not calls.has_realm(REALM)
    calls.commit()
    assert not begin(service, key).has_realm(REALM)


def test_clearing_one_realm_of_several_keeps_it_empty(service):
    key = login(service)
    calls = begin(service, key)
    calls.set(b"other", b"x", ONE)
    calls.commit()
    calls = begin(service, key)
    calls.set(REALM, b"staged", TWO)
    calls.clear(REALM)
    calls.commit()
    calls = begin(service, key)
    assert calls.has_realm(REALM) and calls.get(REALM, b"user") is None and calls.get(REALM, b"staged") is None
    assert calls.get(b"other", b"x") == ONE


def test_a_realm_made_and_cleared_in_one_request_stays_as_if_stored_before(service):
    key = login(service)
    calls = begin(service, key)
    calls.set(b"new", b"x", ONE)
    calls.set(b"new", b"", ONE)
    calls.clear(b"new")
    calls.commit()
    calls = begin(service, key)
    assert calls.has_realm(b"new") and calls.get_all(b"new") == b"{}"


def test_clear_and_set_again_stores_the_same_value_again(service):
    key = login(service)
    calls = begin(service, key)
    calls.clear(REALM)
    calls.set(REALM, b"user", ONE)
    calls.commit()
    assert begin(service, key).get(REALM, b"user") == ONE


def test_star_reads_the_first_realm_that_has_the_key(service):
    key = login(service, realm=b"b", name=b"k", value=TWO)
    calls = begin(service, key)
    calls.set(b"a", b"other", ONE)
    calls.set(b"c", b"k", ONE)
    assert calls.get(b"*", b"k") == TWO
    assert calls.get(b"*", b"missing") is None
    assert calls.has_realm(b"*")


def test_star_writes_into_existing_realms_only(service):
    calls = begin(service)
    assert calls.set(b"*", b"k", ONE)
    assert not calls.has_realm(b"*") and calls.get(b"*", b"k") is None
    calls.set(b"a", b"x", ONE)
    calls.set(b"b", b"x", ONE)
    calls.set(b"*", b"k", TWO)
    calls.commit()
    calls = begin(service, calls.id())
    assert (calls.get(b"a", b"k"), calls.get(b"b", b"k")) == (TWO, TWO)
    calls.clear(b"*")
    calls.commit()
    assert not begin(service, calls.id()).has_realm(b"*")


def test_get_all_gives_a_realm_or_all_of_them_as_encoded_tables(service):
    calls = begin(service)
    assert calls.get_all(REALM) == calls.get_all(b"*") == b"{}"
    calls.set(b"a", b"x", ONE)
    calls.set(b"b", b"", b"s2:hi")
    assert calls.get_all(b"b") == b"{s0:s2:hi}"
    assert calls.get_all(b"none") == b"{}"
    assert calls.get_all(b"*") == b"{s1:a{s1:xi1;}s1:b{s0:s2:hi}}"


def test_requests_that_run_at_once_and_set_different_variables_both_win(service):
    key = login(service)
    first, second = begin(service, key), begin(service, key)
    first.set(REALM, b"first", ONE)
    second.set(REALM, b"second", TWO)
    first.commit()
    second.commit()
    calls = begin(service, key)
    assert (calls.get(REALM, b"first"), calls.get(REALM, b"second")) == (ONE, TWO)


def test_a_second_commit_stores_what_came_after_the_first(service):
    calls = begin(service)
    calls.set(REALM, b"a", ONE)
    calls.commit()
    calls.set(REALM, b"b", TWO)
    calls.commit()
    assert begin(service, calls.id()).get(REALM, b"b") == TWO


# Delete, Regenerate

def test_delete_ends_the_session_and_a_new_one_may_follow_at_once(service):
    key = login(service)
    calls = begin(service, key)
    calls.delete()
    assert calls.id() is None and calls.get(REALM, b"user") is None
    calls.set(REALM, b"user", TWO)
    line = calls.commit()
    assert calls.id() != key and b"=" + calls.id() + b";" in line
    assert begin(service, key).get(REALM, b"user") is None
    assert begin(service, calls.id()).get(REALM, b"user") == TWO


def test_a_late_write_does_not_bring_a_deleted_session_back(service):
    key = login(service)
    late, calls = begin(service, key), begin(service, key)
    calls.delete()
    calls.commit()
    late.set(REALM, b"user", TWO)
    assert late.commit() is None
    assert begin(service, key).get(REALM, b"user") is None


def test_regenerate_changes_the_key_and_keeps_the_variables(service):
    old = login(service)
    calls = begin(service, old)
    new = calls.regenerate()
    assert new == calls.id() != old
    assert b"=" + new + b";" in calls.commit()
    assert begin(service, new).get(REALM, b"user") == ONE
    assert begin(service, old).get(REALM, b"user") is None


def test_a_late_write_reaches_the_regenerated_session_but_sends_no_old_cookie(service):
    old = login(service)
    late, calls = begin(service, old), begin(service, old)
    new = calls.regenerate()
    calls.commit()
    late.set(REALM, b"late", TWO)
    assert late.commit() is None
    assert begin(service, new).get(REALM, b"late") == TWO


def test_regenerate_without_a_session_does_nothing(service):
    calls = begin(service)
    assert calls.regenerate() is None
    assert calls.commit() is None


def test_regenerate_before_the_first_commit_stores_the_last_key_only(service, make_store):  # noqa: F811
    calls = begin(service)
    calls.start()
    first, second = calls.id(), calls.regenerate()
    calls.commit()
    assert begin(service, first).id() is None
    assert begin(service, second).id() == second
    assert make_store.contents()[0] == 1


# Identity

@pytest.mark.parametrize("who, opens", [
    (ANNA, True),
    (THIEF, False),
    ((ANNA[0],) + THIEF[1:], True),                       # the address alone: 3 points
    ((THIEF[0],) + ANNA[1:], True),                       # browser and language: 2 + 1
    ((THIEF[0], ANNA[1]) + THIEF[2:], False),             # browser alone: 2
    (THIEF[:2] + ANNA[2:], False),                        # language alone: 1
])
def test_points_for_equal_address_browser_and_language_must_reach_the_target(service, who, opens):
    key = login(service)
    calls = begin(service, key, who)
    assert (calls.get(REALM, b"user") == ONE) is opens
    assert (b"=" + key + b";" in calls.commit()) is opens


def test_a_refused_visitor_loses_the_cookie_and_the_owner_loses_nothing(service):
    key = login(service)
    thief = begin(service, key, THIEF)
    thief.delete()
    thief.clear(b"*")
    assert b"=_;" in thief.commit()
    assert begin(service, key).get(REALM, b"user") == ONE


def test_a_target_of_zero_switches_the_check_off(store, clock):
    service = make(store, clock, session_target_score=0)
    assert begin(service, login(service), THIEF).get(REALM, b"user") == ONE


def test_scores_follow_the_configuration(store, clock):
    service = make(store, clock, session_target_score=5, session_ip_score=1, session_user_agent_score=5)
    key = login(service)
    assert begin(service, key, (ANNA[0],) + THIEF[1:]).id() is None
    assert begin(service, key, (THIEF[0], ANNA[1]) + THIEF[2:]).id() == key


def test_missing_and_empty_fields_are_the_same(service):
    key = login(service, (None, None, None, None))
    assert begin(service, key, (b"", b"", b"", b"on")).id() == key


def test_a_session_follows_its_visitor_step_by_step(service):
    key = login(service)
    moved = (THIEF[0],) + ANNA[1:]
    begin(service, key, moved).commit()
    assert begin(service, key, (THIEF[0], b"Browser/2", b"fr", b"on")).id() == key


def test_the_store_holds_neither_keys_nor_addresses(service, make_store):  # noqa: F811
    key = login(service)
    service.store.close()
    count, stored = make_store.contents()
    assert count == 1 and b"user" in stored
    assert key not in stored and ANNA[0] not in stored and ANNA[1] not in stored


def test_keys_are_never_logged_whole(service, caplog):
    caplog.set_level(logging.DEBUG)
    key = login(service)
    begin(service, key, THIEF).commit()
    late, calls = begin(service, key), begin(service, key)
    calls.delete()
    calls.commit()
    late.set(REALM, b"x", ONE)
    late.commit()
    assert len(caplog.records) == 2
    assert key.decode() not in caplog.text and key[:4].decode() in caplog.text


# Expiry

def test_an_expired_session_is_gone_at_the_look_up(service, clock):
    key = login(service)
    clock.now += 3601
    calls = begin(service, key)
    assert calls.get(REALM, b"user") is None and not calls.has_realm(REALM)
    assert b"=_;" in calls.commit()


def test_use_keeps_a_session_alive(service, clock):
    key = login(service)
    for _ in range(4):
        clock.now += 3000
        calls = begin(service, key)
        assert calls.get(REALM, b"user") == ONE
        calls.commit()


def test_the_expiry_is_written_only_when_it_moved_by_a_tenth(service, clock):
    key = login(service)

    def expires():
        return service.store.load(digest(key), int(clock.now)).expires
    before = expires()
    clock.now += 359
    line = begin(service, key).commit()
    assert expires() == before
    assert http_date(before).encode() in line
    clock.now += 1
    line = begin(service, key).commit()
    assert expires() == before + 360
    assert http_date(before + 360).encode() in line


def test_storing_the_same_value_again_writes_nothing(service, monkeypatch):
    key = login(service)
    commits = []
    commit = service.store.commit
    monkeypatch.setattr(service.store, "commit", lambda change: commits.append(change) or commit(change))
    calls = begin(service, key)
    calls.set(REALM, b"user", ONE)
    calls.commit()
    assert commits == []


@pytest.fixture
def swept(tmp_path, clock):
    """The sessions of a store that needs sweeping."""
    with closing(open_store("sqlite://%s/swept/state.db" % tmp_path, LOGGER)) as opened:
        yield make(opened, clock)


def test_a_sweep_comes_once_a_minute_and_goes_on_while_there_is_more(swept, clock):
    for _ in range(250):
        login(swept)
    assert swept.sweep() == 0
    clock.now += 3601
    assert [swept.sweep(), swept.sweep(), swept.sweep()] == [200, 50, 0]
    login(swept)
    clock.now += 30
    assert swept.sweep() == 0
    clock.now += 3601
    assert swept.sweep() == 1


def test_a_young_gate_is_closed_without_looking_into_the_store(swept, clock, monkeypatch):
    login(swept)
    swept.sweep()
    monkeypatch.setattr(swept.store, "sweep", None)
    clock.now += 59
    assert swept.sweep() == 0


def test_a_worker_whose_scripts_use_no_session_never_sweeps(swept, tmp_path):
    assert swept.sweep() == 0
    assert list(tmp_path.iterdir()) == []


# A store that fails

@pytest.fixture
def broken(tmp_path, clock):
    (tmp_path / "file").write_text("in the way")
    with closing(open_store("sqlite://%s/file/state.db" % tmp_path, LOGGER)) as opened:
        yield make(opened, clock)


def test_an_unusable_store_is_warned_of_at_start(broken, service, caplog):
    assert service.check()
    assert caplog.records == []
    assert not broken.check()
    assert "file/state.db" in caplog.text


def test_scripts_that_use_an_unusable_store_get_an_error_that_names_it(broken, tmp_path):
    calls = begin(broken)
    calls.set(REALM, b"a", ONE)
    with pytest.raises(SessionError, match="file/state.db"):
        calls.commit()
    with pytest.raises(SessionError, match="file/state.db"):
        begin(broken, b"some_key")


def test_a_sweep_of_an_unusable_store_logs_and_does_not_raise(broken, caplog):
    begin(broken)
    assert broken.sweep() == broken.sweep() == 0
    assert len(caplog.records) == 1


def test_every_host_call_is_a_method(service):
    calls = service.for_state()
    assert all(callable(getattr(calls, method)) for method in HOST_CALLS.values())
