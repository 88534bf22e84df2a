"""The option table and the check of single values."""
import math
import os

import pytest

from luafcgid2.options import BY_KEY, CHECKS, OPTIONS, Opaque, find, find_field, nearest, show

NUMERIC = [option for option in OPTIONS if option.kind in ("int", "ms", "bytes", "seconds")]
USED = [option for option in OPTIONS if option.field]

# Every key of the C++ luafcgid2's configuration file.
ANCESTOR_KEYS = """WorkerThreads LuaStates LuaMaxStates LuaMaxSearchRetries HeadersSize BodySize BodySectors
    MinFileInfoTime UseFileChecksum SessionName SessionTime SessionKeyLen SessionCookieSecure
    SessionCookieHttpOnly SessionCookieSameSite SessionTargetScore SessionIpScore SessionUserAgentScore
    SessionLanguageScore DefaultHeaders DefaultHttpStatus DefaultContentType MaxPostSize LogFilePath Listen
    listen StartupScript Entrypoint entrypoint Config""".split()
LUAFCGID_KEYS = """listen workers states clones sweep watchdog retries showerrors buffering daemonize
    headersize bodysize headers handler httpstatus contenttype maxpost maxcount logfile backlog""".split()


@pytest.mark.parametrize("key", ANCESTOR_KEYS + LUAFCGID_KEYS)
def test_every_key_of_both_ancestors_is_known(key):
    assert find(key) is not None


def test_names_aliases_and_fields_are_each_used_once():
    keys = [key for option in OPTIONS for key in (option.name,) + option.aliases]
    fields = [option.field for option in USED]
    assert len(keys) == len(set(keys)) == len(BY_KEY)
    assert len(fields) == len(set(fields))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_each_row_is_complete(option):
    assert option.kind in CHECKS or option.effect == "ignored"
    assert option.doc.endswith(".") and option.group
    assert option.since in ("luafcgid2", "luafcgid", "new")
    assert bool(option.field) == (option.effect == "used" and option.name != "Config")


@pytest.mark.parametrize("option", USED, ids=lambda option: option.name)
def test_defaults_and_examples_pass_their_own_check_unchanged(option):
    for value in (option.default, option.example):
        if value is not None:
            wanted = int(value[:-1]) << 20 if option.kind == "size" and value else value
            assert option.check(value) == (wanted, [])


@pytest.mark.parametrize("option", USED, ids=lambda option: option.name)
@pytest.mark.parametrize("value", [Opaque("function"), Opaque("userdata"), Opaque("table")], ids=str)
def test_lua_objects_are_refused_by_every_option(option, value):
    with pytest.raises(ValueError, match="."):
        option.check(value)


@pytest.mark.parametrize("option", NUMERIC, ids=lambda option: option.name)
def test_numbers_refuse_other_types_and_values_that_are_no_numbers(option):
    for value in ("4", True, (), math.nan, math.inf, -math.inf, option.maximum + 1):
        with pytest.raises(ValueError) as caught:
            option.check(value)
        assert str(option.maximum) in str(caught.value)


@pytest.mark.parametrize("option", NUMERIC, ids=lambda option: option.name)
def test_below_the_minimum_old_keys_are_clamped_and_new_ones_refused(option):
    value = option.minimum - 1
    if value in dict(option.stands_for):
        value = option.minimum - 5
    if option.clamp:
        checked, remarks = option.check(value)
        assert checked == option.minimum and str(option.minimum) in remarks[0]
    else:
        with pytest.raises(ValueError):
            option.check(value)


def test_clamps_exist_only_for_keys_of_the_ancestor():
    assert {option.since for option in OPTIONS if option.clamp} == {"luafcgid2"}


def test_whole_floats_become_integers_and_others_are_cut_with_a_remark():
    option = find("WorkerThreads")
    assert option.check(4.0) == (4, []) and isinstance(option.check(4.0)[0], int)
    assert option.check(4.7) == (4, ["4.7 is not whole: 4 is used"])


def test_seconds_may_have_a_fraction():
    assert find("StopTimeout").check(0.25) == (0.25, [])


@pytest.mark.parametrize("option", [o for o in USED if o.kind == "bool"], ids=lambda option: option.name)
@pytest.mark.parametrize("value", ["true", 1, 0, (), None])
def test_booleans_take_true_and_false_only(option, value):
    with pytest.raises(ValueError, match="true or false"):
        option.check(value)


@pytest.mark.parametrize("name, value, used", [
    ("SessionCookieSameSite", "lax", "Lax"), ("LogLevel", "INFO", "info"),
    ("OnReloadError", "Error", "error"),
    ("LuaVersion", 5.4, "5.4"), ("LuaVersion", "luajit", "jit"), ("LuaVersion", "JIT", "jit"),
    ("ListenMode", "660", "0660"), ("ListenMode", 660, "0660"), ("ListenMode", "0o600", "0600"),
    ("ListenBacklog", -1, 1024), ("ListenBacklog", 0, 1024), ("ListenBacklog", 5, 5),
    ("User", 1000, "1000"), ("User", "www-data", "www-data"),
    ("ScriptExtensions", ".lua", (".lua",)), ("ScriptExtensions", (), ()),
    ("ScriptExtensions", (".lua", ".ws"), (".lua", ".ws")),
    ("ScriptRoots", ("/srv/www/",), ("/srv/www",)),
    ("DefaultHeaders", "A: 1", "A: 1\r\n"), ("DefaultHeaders", "A: 1\nB:2\r\n\r\n", "A: 1\r\nB:2\r\n"),
    ("DefaultHeaders", "", ""), ("DefaultHttpStatus", "404", "404"),
    ("LogFilePath", "logs/x.log", os.path.abspath("logs/x.log")), ("LogFilePath", "", ""),
    ("LogFilePath", "syslog", "syslog"), ("LogFilePath", "stderr", "stderr"), ("LogFilePath", "-", "-"),
    ("AccessLogPath", "syslog", os.path.abspath("syslog")), ("LogFormat", "JSON", "json"),
    ("Listen", "site.sock", os.path.abspath("site.sock")), ("Listen", "unix:/run/x.sock", "/run/x.sock"),
    ("Listen", ":9000", ":9000"), ("Listen", "*:9000", "*:9000"), ("Listen", "[::1]:9000", "[::1]:9000"),
    ("Listen", "localhost:9000", "localhost:9000"), ("Listen", "fd:3", "fd:3"),
    ("Listen", "systemd", "systemd"), ("Listen", "/run/odd:1", "/run/odd:1"),
    ("MemoryBudget", "", 0), ("MemoryBudget", 0, 0), ("MemoryBudget", "0", 0), ("MemoryBudget", "128M", 128 << 20),
    ("MemoryBudget", "1G", 1 << 30), ("MemoryBudget", "1.5g", 3 << 29), ("MemoryBudget", " 64 MiB ", 64 << 20),
    ("MemoryBudget", "65536 kB", 64 << 20), ("MemoryBudget", 134217728, 128 << 20),
    ("MemoryBudget", 134217728.0, 128 << 20), ("MemoryBudget", "134217728", 128 << 20),
    ("MemoryBudget", "134217728 B", 128 << 20),
])
def test_values_are_brought_to_one_form(name, value, used):
    assert find(name).check(value) == (used, [])


@pytest.mark.parametrize("name, value", [
    ("SessionCookieSameSite", "Sometimes"), ("LuaVersion", "5.6"), ("LuaVersion", True), ("LuaVersion", 5),
    ("ListenMode", "0888"), ("ListenMode", "rw"), ("ListenMode", 432.5), ("ListenMode", "10660"),
    ("ListenMode", False), ("User", -1), ("User", True), ("Entrypoint", ""), ("Entrypoint", "a.b"),
    ("Entrypoint", 5), ("ScriptRoots", ("relative",)), ("ScriptRoots", (5,)), ("ScriptExtensions", ("lua",)),
    ("DefaultHeaders", "no colon"), ("DefaultHeaders", "A: 1\rB: 2"), ("DefaultHeaders", "A b: 1"),
    ("DefaultHeaders", "A: \0"), ("DefaultHttpStatus", "OK"), ("DefaultHttpStatus", "200 OK\r\nX: y"),
    ("DefaultContentType", "text/html\r\n"), ("DefaultContentType", ""),
    ("LogFilePath", "a\0b"), ("SessionName", "a b"), ("SessionName", "a=b"), ("SessionName", ""),
    ("SessionStore", "/no/scheme"), ("SessionCookieDomain", "a; Secure"),
    ("MemoryBudget", "128"), ("MemoryBudget", 128), ("MemoryBudget", "15M"), ("MemoryBudget", "M"),
    ("MemoryBudget", "-128M"), ("MemoryBudget", "1e9"), ("MemoryBudget", "128X"), ("MemoryBudget", False),
    ("MemoryBudget", True), ("MemoryBudget", (5,)), ("MemoryBudget", "2T"), ("MemoryBudget", float("nan")),
    ("Listen", ""), ("Listen", 9000), ("Listen", "9000"),
    ("Listen", "localhost:70000"), ("Listen", "::1:9000"), ("Listen", "localhost:http"), ("Listen", "unix:"),
])
def test_values_that_are_not_allowed_say_what_is(name, value):
    with pytest.raises(ValueError) as caught:
        find(name).check(value)
    assert str(caught.value) == find(name).allowed() != ""


def test_workers_is_the_threads_in_a_file_and_the_processes_as_an_attribute():
    assert find("workers").name == "WorkerThreads"
    assert find_field("workers").name == "Workers"
    assert find_field("handler") is None


@pytest.mark.parametrize("written, meant", [
    ("WorkerThread", "WorkerThreads"), ("Luastates", "LuaStates"), ("ScriptRoot", "ScriptRoots"),
    ("SessionTimeout", "SessionTime"), ("Zebra", None),
])
def test_the_nearest_name_is_found(written, meant):
    assert nearest(written) == meant


@pytest.mark.parametrize("value, text", [
    ('a"\\\r\n\0', '"a\\"\\\\\\r\\n\\000"'), ("\udcff", '"\\255"'), (True, "true"), (5, "5"), (4.7, "4.7"),
    (None, "nil"), (("a", "b"), '{"a", "b"}'), (Opaque("function"), "a function"),
])
def test_values_are_shown_as_lua_writes_them(value, text):
    assert show(value) == text
