"""The script API of both ancestors, with their faults mended, in every Lua version."""
import io

import pytest
from lua_site import VERSIONS, check, equal, promises


def functions_are_functions_and_take_more_arguments_than_needed(site):
    for name in ("Send", "Header", "Reset", "Log", "Receive", "RespStatus", "RespContentType", "ThreadData",
                 "Dir"):
        equal(site.value("type(%s)" % name), "function")
    equal(site.run("Send('a', 'b')").body, b"a")


def numbers_are_text_and_other_types_are_an_error(site):
    number = "5" if site.engine.version in ("5.1", "5.2", "jit") else "5.0"
    equal(site.run("Send(12) Send(5.0) Send(-0.5)").body, b"12" + number.encode() + b"-0.5")
    for call in ("Send()", "Send(nil)", "Send(true)", "Send({})", "Log(nil)", "RespStatus({})", "Header()",
                 "Header({}, 'x')", "Header('X', {})", "RespContentType(nil)"):
        found = site.run(call)
        equal(found.status, 500)
        assert b"bad argument #" in found.stderr and b"string expected" in found.stderr, (call, found.stderr)
        assert b"/run" in found.stderr.split(b"bad argument")[0], (call, found.stderr)


def header_with_one_argument_is_a_whole_line(site):
    found = site.run("Header('X-Line: a: b', nil) Header('X-Bare:')")
    equal(found.header("X-Line"), "a: b")
    equal(found.header("X-Bare"), "")
    equal(site.run("Header('no colon')").status, 500)


def reset_clears_headers_and_body_but_not_status_and_type(site):
    found = site.run("RespStatus('404') RespContentType('text/x') Header('X-A', 'a') Send('old') Reset() "
                     "Send('new')")
    equal((found.status, found.header("Content-Type"), found.body), (404, "text/x", b"new"))
    equal(found.all("X-A"), [])


def respstatus_takes_codes_and_lines(site):
    for given, status, reason in (("'404'", 404, "Not Found"), ("404", 404, "Not Found"),
                                  ("Response[403]", 403, "Forbidden"), ("'299 Mine'", 299, "Mine"),
                                  ("'418'", 418, "I'm a teapot")):
        found = site.run("RespStatus(%s)" % given)
        equal((found.status, found.reason), (status, reason))


def dir_is_the_folder_of_the_script(site):
    site.write("sub/a.lua", "function main() Send(Dir()) end")
    equal(site.request("sub/a.lua").body.decode(), site.folder + "/sub")


def threaddata_counts_states_by_script(site):
    path = site.write("index.lua",
                      "function main() for k, v in pairs(ThreadData()) do Send(k .. '=' .. v) end end")
    equal(site.request().body.decode(), path + "=1")


def receive_gives_all_then_nothing(site):
    body = bytes(range(256)) * 40
    found = site.run("local all = Receive() Send(#all .. ',' .. #Receive() .. ',') Send(all)", body=body,
                     REQUEST_METHOD="POST", CONTENT_LENGTH="3")
    equal(found.body, b"10240,0," + body)
    equal(site.value("#Receive()"), "0")


def receive_gives_as_much_as_asked(site):
    script = "for _, n in ipairs { 3, 0, 2, 100 } do Send(Receive(n) .. '|') end Send(Receive(1))"
    equal(site.run(script, body=b"abcdefgh").body, b"abc||de|fgh|")
    equal(site.run(script, body=io.BytesIO(b"abcdefgh")).body, b"abc||de|fgh|")
    equal(site.run("Send(Receive() .. Receive())", body=io.BytesIO(b"on disk")).body, b"on disk")
    equal(site.run("Receive(-1)").status, 500)


def env_is_the_raw_params_and_nothing_else(site):
    equal(site.value("Env.HTTP_X_BYTES", HTTP_X_BYTES=b"a\xff\x01+%20"), "a\\xff\x01+%20")
    equal(site.value("Env.FCGI_ROLE"), "RESPONDER")
    equal(site.value("Env.PATH or Env.HOME"), "nil")
    equal(site.value("Env.HTTP_PROXY", HTTP_PROXY="evil:1"), "nil")
    equal(site.value("#Env.QUERY_STRING", QUERY_STRING="x" * 300), "300")
    equal(site.value("Env.REMOTE_USER", REMOTE_USER=""), "")


def params_of_any_length_are_decoded(site):
    for name, value in (("N" * 127, "v" * 128), ("N" * 128, "v" * 127), ("N" * 300, "v" * 70000), ("N", "")):
        found = site.run("local v = Env[Receive()] Send(#v .. ' ' .. v:sub(-3))", body=name.encode(),
                         **{name: value})
        equal(found.body.decode(), "%d %s" % (len(value), value[-3:]))


def info_has_the_numbers_of_state_and_thread(site):
    site.write("index.lua", "function main() Send(Info.Thread .. ' ' .. type(Info.State)) end")
    equal(site.request(thread=3).body, b"3 number")
    equal(site.request(thread=0).body, b"0 number")


def the_globals_of_the_ancestor_are_there_at_once(site):
    site.write("index.lua", "early = {LUAFCGID, LUAFCGID_VERSION, type(lf.parse), Response[404], "
               "type(Config), type(Env), type(Send), type(Session)} "
               "function main() for i = 1, 8 do Send(tostring(early[i]) .. ',') end end")
    equal(site.request().body, b"true,2,function,404 Not Found,table,nil,nil,table,")


def cookies_are_parsed_as_the_ancestor_did_without_its_faults(site):
    script = ("local t = {} for k, v in pairs(Cookies) do t[#t + 1] = '<' .. k .. '=' .. v .. '>' end "
              "table.sort(t) Send(table.concat(t))")
    for given, expected in (
            ("a=1; b=2", "<a=1><b=2>"), ("a=x,y;b=2", "<a=x,y><b=2>"), ('q="a;b"; r=1', "<q=a;b><r=1>"),
            ('h="half; i=1', '<h="half; i=1>'), ("k", "<k=>"), ("a=1; a=2", "<a=2>"), ("a=1;", "<a=1>"),
            ("", ""), (None, ""), ("a=b=c", "<a=b=c>"), ("  n  = v ", "<n= v >"), ("p=%41", "<p=%41>")):
        equal(site.run(script, HTTP_COOKIE=given).body.decode(), expected)


def config_and_localconfig_come_from_the_file(site):
    site.configure(globals_chunk=b"return {site = {title = 'here', n = {1, 2}}, other = 5}")
    equal(site.value("LocalConfig.title .. #Config.site.n .. Config.other"), "here25")
    equal(site.value("LocalConfig", SERVER_NAME="elsewhere"), "nil")
    equal(site.value("LocalConfig", SERVER_NAME=None), "nil")
    site.configure()
    equal(site.value("LocalConfig"), "nil")


def a_query_without_a_value_is_no_error(site):
    equal(site.value("lf.parse(Env.QUERY_STRING).debug == ''", QUERY_STRING="debug"), "true")


def globals_persist_between_requests_on_a_state(site):
    site.write("index.lua", "hits = 0 function main() hits = hits + 1 Send(hits) end")
    equal([site.request().body for _ in range(3)], [b"1", b"2", b"3"])


def an_overwritten_function_is_back_in_the_next_request(site):
    site.write("index.lua", "function main() Send('x') Send = nil Env = 5 Header = 'gone' end")
    equal([(a.status, a.body) for a in (site.request(), site.request())], [(200, b"x")] * 2)


def a_strict_global_table_does_no_harm(site):
    site.write("index.lua", "function main() Send(Env.SERVER_NAME) end "
               "setmetatable(_G, {__newindex = function(_, k) error('new ' .. k) end, "
               "__index = function(_, k) error('unknown ' .. k) end})")
    equal([(a.status, a.body) for a in (site.request(), site.request())], [(200, b"site")] * 2)


def a_script_without_the_entry_point_is_a_clear_500(site):
    site.write("index.lua", "x = 1")
    found = site.request()
    equal(found.status, 500)
    assert b"main" in found.stderr and b"Entrypoint" in found.stderr
    site.configure(entrypoint="serve")
    site.write("index.lua", "function serve() Send('by name') end")
    equal(site.request().body, b"by name")


def syntax_errors_and_errors_at_the_top_name_file_and_line(site):
    site.write("index.lua", "\nfunction main(\n")
    found = site.request()
    equal(found.status, 500)
    assert b"/index.lua:" in found.stderr
    site.write("index.lua", "#!/usr/bin/lua\n\nerror('at the top')")
    assert b"/index.lua:3: at the top" in site.request().stderr


def the_startup_script_runs_first_and_shares_globals(site):
    startup = site.write("start/up.lua", "order = 'startup' local hidden = 1")
    site.configure(startup_script=startup)
    site.write("index.lua", "order = order .. ',script' function main() Send(order .. tostring(hidden)) end")
    equal(site.request().body, b"startup,scriptnil")
    site.write("start/up.lua", "\nerror('broken start')")
    site.configure(startup_script=startup)
    assert b"up.lua:2: broken start" in site.request().stderr


# The C luafcgid

def the_connection_of_the_c_luafcgid_works(site):
    site.configure(globals_chunk=b"return {colour = 'red'}")
    found = site.run("con:header('X-Con', 'c') con:puts('lost') con:reset() con:puts('kept ') "
                     "con:puts(con:gets()) con:flush() con:puts(con:config('colour')) con:log('from con') "
                     "con:puts(env.SERVER_NAME)", body=b"posted ")
    equal((found.status, found.header("X-Con"), found.body), (200, "c", b"kept posted redsite"))
    assert "from con" in site.log.text()


def the_module_of_the_c_luafcgid_is_lf(site):
    equal(site.value("require('luafcgid').parse('a=b').a"), "b")
    equal(site.value("require('luafcgid') == lf"), "true")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("promise", list(promises(globals())))
def test_script_api(promise, version):
    check(__file__, version, promise)
