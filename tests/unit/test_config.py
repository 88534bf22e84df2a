"""From a Lua file to the frozen Config, and what is said about a wrong one."""
import math
import os
import sys

import pytest

from luafcgid2 import config, luaconfig
from luafcgid2.errors import ConfigError
from luafcgid2.options import OPTIONS, Opaque
from luafcgid2.runtime import Engine

FIXTURES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fixtures", "config")


@pytest.fixture
def write(tmp_path):
    def write(source):
        path = tmp_path / "config.lua"
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
        return str(path)
    return write


def problems(path, **options):
    with pytest.raises(ConfigError) as caught:
        config.load(path, **options)
    assert caught.value.exit_code == 78
    return str(caught.value)


def copy_in(version, chunk):
    """A function that evaluates an expression about the copy of Config, in the given Lua version."""
    runtime = Engine(version, c_modules=False).new_runtime()
    runtime.execute(b"Config = (loadstring or load)(...)()", chunk)
    return lambda expression: runtime.execute(b"return " + expression.encode())


def test_the_ancestors_file_loads_unchanged_and_without_warnings():
    loaded = config.load(os.path.join(FIXTURES, "ancestor.lua"))
    assert loaded.warnings == () and loaded.problems == ()
    assert (loaded.lua_states, loaded.lua_max_states, loaded.max_post_size) == (1, 6, 1048576)
    assert loaded.listen == "/var/tmp/luafcgid2.sock" and loaded.entrypoint == "main"
    assert loaded.default_headers == "X-Powered-By: luafcgid2\r\n"
    assert [note.split(":")[0] for note in loaded.notes] == [
        "LuaMaxSearchRetries", "HeadersSize", "BodySize", "BodySectors"]
    look = copy_in("5.3", loaded.globals_chunk)
    assert look("Config.entrypoint") == b"main"
    assert look("Config.a_table[3] .. Config.a_table.number") == b"three42"


def test_the_c_luafcgids_keys_mean_what_they_meant():
    loaded = config.load(os.path.join(FIXTURES, "luafcgid.lua"))
    assert loaded.warnings == ()
    assert (loaded.worker_threads, loaded.lua_total_states, loaded.lua_max_states) == (4, 8, 8)
    assert (loaded.min_file_info_time, loaded.show_errors, loaded.entrypoint) == (2500, True, "handle")
    assert (loaded.default_headers, loaded.default_http_status) == ("X-Powered-By: Lua\r\n", "200 OK")
    assert (loaded.default_content_type, loaded.max_post_size) == ("text/plain", 1048576)
    assert (loaded.log_file_path, loaded.listen_backlog) == ("/var/log/luafcgid/luafcgid.log", 1024)
    assert (loaded.listen, loaded.workers) == ("127.0.0.1:9000", 0)
    for key in ("watchdog", "retries", "buffering", "daemonize", "headersize", "bodysize", "maxcount"):
        assert any(note.startswith(key + ": accepted and ignored") for note in loaded.notes)


def test_defaults_are_those_of_the_ancestors_code():
    loaded = config.defaults()
    assert loaded.path == "" and loaded.globals_chunk == b"return {}\n" and loaded.warnings == ()
    for option in OPTIONS:
        if option.field:
            assert getattr(loaded, option.field) == option.default
    assert (loaded.lua_states, loaded.lua_max_states, loaded.max_post_size) == (3, 5, 4194304)
    assert loaded.worker_count == config.cores() >= 1


def test_an_empty_file_gives_the_defaults(write):
    path = write("")
    loaded = config.load(path)
    assert loaded.path == path and loaded.globals_chunk == b"return {}\n"
    assert loaded.lua_states == 3 and dict(loaded.given) == {}


def test_overrides_win_over_the_file_and_none_is_no_override(write):
    path = write('Workers = 3\nlisten = "/a.sock"\nPidFile = "/a.pid"\n')
    loaded = config.load(path, {"workers": 2, "Listen": ":9000", "pid_file": None})
    assert (loaded.workers, loaded.worker_count, loaded.listen, loaded.pid_file) == (2, 2, ":9000", "/a.pid")
    assert dict(loaded.origins) == {
        "workers": "command line", "listen": "command line", "pid_file": "PidFile"}


@pytest.mark.parametrize("overrides, words", [
    ({"worker": 1}, "did you mean Workers?"), ({"workers": "two"}, "command line: Workers"),
    ({"zebra": 1}, "zebra"),
])
def test_wrong_overrides_are_refused(overrides, words):
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
        config.defaults(**overrides)


def test_config_is_read_only():
    loaded = config.defaults()
    with pytest.raises(AttributeError, match="workers"):
        loaded.workers = 3
    with pytest.raises(AttributeError, match="workers"):
        del loaded.workers
    with pytest.raises(TypeError):
        loaded.given["x"] = 1


@pytest.mark.parametrize("source, line, words", [
    ('\nWorkerThreads = "8"\n', 2, 'WorkerThreads = "8": allowed is a whole number from 1 to 1024; '
     "numbers are written without quotes"),
    ("UseFileChecksum = 1", 1, "UseFileChecksum = 1: allowed is true or false, without quotes"),
    ("listen = 9000", 1, "listen = 9000: allowed is a socket path"),
    ("Listen = function() end", 1, "Listen = a function: allowed is a socket path"),
    ("Workers = -1", 1, "Workers = -1: allowed is a whole number from 0 to 512"),
    ("Workers = 1e9", 1, "Workers = 1000000000.0: allowed is a whole number from 0 to 512"),
    ("-- x\n  workers  =  {}", 2, "workers = {}: allowed is a whole number from 1 to 1024"),
    ('LuaVersion = "5.6"', 1, 'LuaVersion = "5.6": allowed is one of "5.1"'),
    ('Config = "x"', 1, 'Config = "x": allowed is a table'),
    ('handler = 5', 1, "handler = 5: allowed is a Lua name as a string"),
])
def test_a_wrong_value_is_told_with_file_line_key_value_and_what_is_allowed(write, source, line, words):
    path = write(source)
    assert ("%s:%d: %s" % (path, line, words)) in problems(path)


def test_all_wrong_values_are_told_at_once(write):
    text = problems(write("Workers = -1\nWorkerThreads = {}\nUser = true\n"))
    keys = [line.split(": ")[1].split(" ")[0] for line in text.split("\n")]
    assert keys == ["Workers", "WorkerThreads", "User"]


def test_a_line_is_told_only_when_one_assignment_can_be_meant(write):
    path = write("Workers = 1\nWorkers = -1\n")
    assert problems(path).startswith(path + ": Workers = -1")


def test_a_lenient_load_keeps_going_on_defaults_as_the_ancestor_did(write):
    loaded = config.load(write('WorkerThreads = "8"\nLuaStates = 2'), lenient=True)
    assert (loaded.worker_threads, loaded.lua_states) == (4, 2)
    assert len(loaded.problems) == 1 and "WorkerThreads" in loaded.problems[0]


@pytest.mark.parametrize("source, words", [
    ("\n\nx = = 1", ":3: unexpected symbol near '='"),
    ("\nlocal t = nil\nt.x = 1", ":3: attempt to index a nil value"),
    ("error('no good', 0)", ": no good"), ("error({})", ": the error is a table"),
    ("error()", ": the error is a nil"), ("\x1bLua", ": precompiled Lua code is refused"),
    ("\nos.exit(0)", ":2: a configuration file must not call os.exit"),
    ("Config = {} Config.me = { Config }", ": Config.me[1] contains itself"),
    ("Config = {[function() end] = 1}", ": Config has a function as a key"),
    ("Config = {} local t = Config for i = 1, 500 do t.t = {} t = t.t end", "is nested too deeply"),
])
def test_a_file_that_does_not_run_is_told_with_file_and_line(write, source, words):
    path = write(source)
    text = problems(path)
    assert text.startswith(path) and words in text


def test_a_long_path_is_told_whole(tmp_path):
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    path = folder / "config.lua"
    path.write_text("x = nil + 1")
    assert problems(str(path)).startswith("%s:1: attempt" % path)


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    path = str(tmp_path / "none.lua")
    assert problems(path) == path + ": cannot read the configuration file: No such file or directory"
    assert "Is a directory" in problems(str(tmp_path))


def test_a_file_that_never_ends_is_given_up_and_its_process_killed(write):
    with pytest.raises(ConfigError, match="did not end within 0.2 seconds"):
        luaconfig.run(b"while true do end", write(""), timeout=0.2)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_file_that_kills_its_process_is_told(write):
    path = write("os.execute('kill -9 $PPID')")
    assert problems(path) == path + ": the file ended the process that reads it"


def test_the_file_has_the_standard_library_and_modules_beside_it(write, tmp_path):
    (tmp_path / "site_settings.lua").write_text("return { threads = 7 }")
    loaded = config.load(write('WorkerThreads = require("site_settings").threads\n'
                               'DefaultHeaders = ("A: %s\\r\\n"):format(os.time{year=2000, month=1, day=1})'))
    assert loaded.worker_threads == 7 and loaded.default_headers.startswith("A: 94")
    assert "require" in loaded.bare_error


def test_a_byte_order_mark_and_a_first_line_for_the_shell_are_skipped(write):
    assert config.load(write(b"\xef\xbb\xbf#!/usr/bin/lua\nWorkers = 2")).workers == 2


def test_the_parents_lua_does_not_matter(write, monkeypatch):
    path = write('Workers = 3\nConfig = { a = "b" }')
    monkeypatch.setattr(luaconfig, "_other_lua_loaded", lambda: True)
    spawned = config.load(path)
    monkeypatch.setattr(luaconfig, "_other_lua_loaded", lambda: False)
    forked = config.load(path)
    assert spawned.workers == forked.workers == 3
    assert spawned.globals_chunk == forked.globals_chunk


def test_errors_of_a_spawned_reader_arrive_too(write, monkeypatch):
    monkeypatch.setattr(luaconfig, "_other_lua_loaded", lambda: True)
    assert ":1: unexpected symbol" in problems(write("= 1"))


def test_what_the_file_prints_reaches_standard_output_once(write, capfd):
    config.load(write('print("one") io.write("two\\n")'))
    assert capfd.readouterr().out == "one\ntwo\n"


@pytest.mark.parametrize("source, words", [
    ("WorkerThread = 4", "WorkerThread is not a key and has no effect: did you mean WorkerThreads?"),
    ("Zebra = {1}", "Zebra is not a key and has no effect"),
    ("workerthreads = 4", "workerthreads has no effect: the key is written WorkerThreads"),
    ("LuaStates = 0", "LuaStates = 0 is below the least value: 1 is used"),
    ("WorkerThreads = 4.7", "WorkerThreads = 4.7 is not whole: 4 is used"),
    ("SessionKeyLen = 4", "SessionKeyLen = 4 is below the least value: 16 is used"),
    ("LuaStates = 4 LuaMaxStates = 2", "LuaStates = 4 is above LuaMaxStates = 2: 2 is used"),
    ("clones = 8 states = 4", "LuaTotalStates = 4 is below LuaMaxStates = 8"),
    ('Listen = "/a" listen = "/b"',
     'Listen = "/a" and listen = "/b" are two spellings of one key: Listen is used'),
    ('StartupScript = "/no/such.lua"', 'StartupScript = "/no/such.lua": there is no such file'),
    ('SessionCookieSameSite = "None" SessionCookieSecure = false', "browsers refuse such a cookie"),
    ("LuaStates = 1 headers = {}", "headers = {} is taken for a variable of your own"),
])
def test_doubtful_things_are_warned_of(write, source, words):
    warnings = config.load(write(source)).warnings
    assert len(warnings) == 1 and words in warnings[0]


@pytest.mark.parametrize("source", [
    "base = '/srv' helper = {} function make() end local x = 1", "function Helper() end",
    'listen = "/a" Listen = listen', "headers = {} DefaultHeaders = 'A: b'",
    "workerthreads = 2 WorkerThreads = workerthreads", "Config = {}", "LuaMaxStates = 1",
])
def test_the_users_own_variables_are_not_warned_of(write, source):
    loaded = config.load(write(source))
    assert loaded.warnings == ()


def test_the_capitalised_spelling_wins(write):
    loaded = config.load(write('Entrypoint = "a" entrypoint = "b" handler = "c"'))
    assert loaded.entrypoint == "a" and len(loaded.warnings) == 2
    assert dict(loaded.given) == {"Entrypoint": "a", "entrypoint": "b", "handler": "c"}
    assert config.load(write('entrypoint = "b"')).origins["entrypoint"] == "entrypoint"


def test_a_wrong_type_in_an_ignored_key_does_not_stop_the_start(write):
    assert "BodySectors: accepted and ignored" in config.load(write('BodySectors = "x"')).notes[0]


def test_paths_that_are_no_text_survive(write):
    loaded = config.load(write(b'LogFilePath = "/tmp/\\255\\xe9"'))
    assert os.fsencode(loaded.log_file_path) == b"/tmp/\xff\xe9"


def test_tables_of_strings_become_tuples(write):
    loaded = config.load(write('ScriptRoots = {"/a", "/b"} ScriptExtensions = {}'))
    assert (loaded.script_roots, loaded.script_extensions) == (("/a", "/b"), ())
    assert "ScriptRoots = {\"/a\", 5}" not in problems(write('ScriptRoots = {"/a", 5}'))


@pytest.mark.parametrize("version", Engine.versions())
def test_the_config_table_is_the_same_in_every_lua_version(write, version):
    every_byte = bytes(range(256))
    source = b"".join(b"\\%03d" % byte for byte in every_byte)
    chunk = config.load(write(b"""
        Config = {"first", 2.5, nil, "fourth", text = "%s", yes = true, no = false, whole = 5.0,
          inf = math.huge, minus = -math.huge, nan = 0/0, big = 2^53, tiny = 5e-324, third = 1/3,
          [1.5] = "float key", [true] = "bool key", ["a b"] = {deep = {deeper = {"x"}}}, f = print,
          least = math.mininteger, ["end"] = "keyword", list = {"a", print, "c"}}
    """ % source)).globals_chunk
    look = copy_in(version, chunk)
    assert look("Config.text") == every_byte
    assert look("Config[1] .. Config[4]") == b"firstfourth" and look("Config[2]") == 2.5
    assert look("Config[3]") is None and look("Config.f") is None and look("Config.list[3]") == b"c"
    assert look("Config.yes") is True and look("Config.no") is False
    assert look("Config.inf") == math.inf and look("Config.minus") == -math.inf
    assert look("Config.nan ~= Config.nan")
    assert look("Config.big == 2^53") and look("Config.tiny") == 5e-324 and look("Config.third") == 1 / 3
    assert look("Config[1.5]") == b"float key" and look("Config[true]") == b"bool key"
    assert look("Config['a b'].deep.deeper[1]") == b"x" and look("Config['end']") == b"keyword"
    assert look("Config.least == -2^63") and look("Config.whole == 5")


@pytest.mark.parametrize("version", [v for v in Engine.versions() if v in ("5.3", "5.4", "5.5")])
def test_integers_stay_integers_and_floats_floats(write, version):
    loaded = config.load(write("Config = {5, 5.0, -0.0, math.maxinteger, 1e300}"))
    look = copy_in(version, loaded.globals_chunk)
    kinds = [look("math.type(Config[%d])" % index) for index in range(1, 6)]
    assert kinds == [b"integer", b"float", b"float", b"integer", b"float"]
    assert look("Config[4]") == 2 ** 63 - 1 and look("1 / Config[3]") == -math.inf


def test_a_table_used_twice_is_copied_twice_and_is_no_cycle(write):
    look = copy_in("5.3", config.load(write("t = {1} Config = {t, t}")).globals_chunk)
    assert look("Config[1] ~= Config[2] and Config[2][1]") == 1


def test_the_copy_ignores_metatables(write):
    look = copy_in("5.3", config.load(write(
        "Config = setmetatable({a = 1}, {__index = error, __pairs = error})")).globals_chunk)
    assert look("Config.a") == 1


def test_evaluate_gives_names_values_and_types():
    found = luaconfig.evaluate(b'a = 1 B = "x" c = {"p"} d = {1} e = print f = 1.5 g = true', "/x/config.lua")
    assert found["globals"] == {"a": 1, "B": "x", "c": ("p",), "d": Opaque("table"), "e": Opaque("function"),
                                "f": 1.5, "g": True}
    assert found["chunk"] == b"return {}\n" and found["bare_error"] == ""


def test_describe_names_the_socket_the_settings_and_the_remarks(write):
    path = write('listen = "/run/site.sock"\nBodySize = 5\nZebra = 1\nWorkers = 2\n'
                 'SessionStore = "redis://me:secret@host/0"\n')
    text = config.describe(config.load(path, {"user": "www-data"}))
    assert "Configuration file: " + path in text
    assert "unix socket /run/site.sock, mode 0660 (from listen)" in text
    lines = {line.split(" = ")[0].strip(): line for line in text.split("\n") if " = " in line}
    assert lines["Listen"].endswith("from listen") and lines["Workers"].endswith("from the file")
    assert lines["User"].endswith("from command line") and lines["LuaStates"].endswith("default")
    assert set(lines) >= {option.name for option in OPTIONS if option.field}
    assert "Zebra is not a key" in text and "BodySize: accepted and ignored" in text
    assert "secret" not in text and "redis://me:***@host/0" in text


def test_describe_sets_all_values_in_one_column():
    lines = config.describe(config.defaults()).splitlines()
    assert len({line.index(" = ") for line in lines if " = " in line}) == 1


@pytest.mark.parametrize("listen, words", [
    (":9000", "TCP :9000"), ("[::1]:9000", "TCP [::1]:9000"), ("fd:3", "the inherited descriptor 3"),
    ("stdin", "the inherited descriptor 0"), ("systemd", "the socket that systemd passes"),
])
def test_describe_tells_what_kind_of_socket_it_is(listen, words):
    text = config.describe(config.defaults(listen=listen))
    assert "Effective socket:   %s (from command line)" % words in text


def test_a_version_that_lupa_does_not_ship_is_refused(write, monkeypatch):
    monkeypatch.setattr(Engine, "versions", staticmethod(lambda: ("5.3", "5.4")))
    path = write('LuaVersion = "jit"')
    assert problems(path) == path + ':1: LuaVersion = "jit": allowed is what the installed lupa has: 5.3, 5.4'


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_loading_leaks_no_descriptor(write):
    path = write("Workers = 1")
    config.load(path)
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        config.load(path)
    assert len(os.listdir("/proc/self/fd")) == len(before)
