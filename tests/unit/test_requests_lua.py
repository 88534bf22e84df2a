"""What `lf` knows of requests (get, post, json, form, cookie, redirect, accepts, conditional), in every Lua version."""
import hashlib
import io
import os
import resource

import pytest
from lua_site import VERSIONS, check, equal, promises

URLENCODED = "application/x-www-form-urlencoded"
BOUNDARY = "----bound"
EVERY_BYTE = bytes(range(256))


def post(at, main, body=b"", kind=URLENCODED, **more):
    return at.run(main, body=body, REQUEST_METHOD="POST", CONTENT_TYPE=kind, **more)


def part(name, content, filename=None, kind=None):
    head = b'Content-Disposition: form-data; name="%s"' % name
    if filename is not None:
        head += b'; filename="%s"' % filename
    if kind:
        head += b"\r\nContent-Type: " + kind
    return b"--" + BOUNDARY.encode() + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def form(at, main, *parts, **more):
    body = b"".join(parts) + b"--" + BOUNDARY.encode() + b"--\r\n"
    if more.pop("on_disk", False):
        body = io.BytesIO(body)
    more.setdefault("kind", "multipart/form-data; boundary=" + BOUNDARY)
    return post(at, main, body, **more)


def temp_dir(at, **options):
    """TempDir of this site, empty."""
    folder = os.path.join(at.folder, "temp")
    os.makedirs(folder, exist_ok=True)
    at.configure(temp_dir=folder, **options)
    return folder


def refused(at, found, status, words):
    """The client gets the status, and the log says why."""
    equal(found.status, status)
    line = at.log.lines[-1]
    assert line.startswith("%d " % status) and words in line, line
    equal(bool(found.stderr), status >= 500)


def an_unknown_name_of_lf_is_nil(site):
    equal(site.value("rawget(lf, 'get')"), "nil")
    equal(site.value("lf.nothing"), "nil")
    equal(site.value("lf.nothing == nil and lf.other == nil and type(lf.get)"), "function")
    equal(site.value("type(lf.parse) .. type(require('luafcgid').get)"), "functionfunction")


def get_gives_fields_of_the_query_string(site):
    query = "a=1&b=%C3%BC+x&c=1&c=2&d"
    found = site.run("local g = lf.get() Send(g.a .. g.b .. g.c[2] .. g.d .. lf.get('c') .. lf.get('a')) "
                     "Send(tostring(lf.get('none')) .. tostring(lf.get() == g))", QUERY_STRING=query)
    equal(found.body.decode(), "1ü x211niltrue")
    equal(site.run("lf.get({})").status, 500)


def each_request_has_its_own_fields(site):
    site.write("index.lua", "function main() Env = nil Send(tostring(lf.get('x')) .. tostring(lf.post('y'))) end")
    for number in range(3):
        equal(site.request(QUERY_STRING="x=%d" % number, body=b"y=%d" % number, CONTENT_TYPE=URLENCODED).body,
              b"%d%d" % (number, number))
    equal(site.request().body, b"nilnil")


def post_gives_fields_of_an_urlencoded_body(site):
    equal(post(site, "Send(lf.post('a') .. #lf.post().b)", b"a=%00&b=1&b=2").body, b"\x002")
    for body in (b"a=1", io.BytesIO(b"a=1")):
        equal(post(site, "Send(lf.post('a') .. lf.form().fields.a .. #lf.form().files)", body,
                   URLENCODED.upper() + " ; charset=utf-8").body, b"110")
    equal(post(site, "Send(tostring(next(lf.post())))", b"a=1", "text/plain").body, b"nil")


def what_is_kept_in_memory_is_bounded(site):
    site.configure(form_memory=100, form_max_parts=3)
    for body in (b"a=" + b"x" * 99, io.BytesIO(b"a=" + b"x" * 99)):
        refused(site, post(site, "lf.post()", body), 413, "FormMemory (100 bytes), see lf.post")
    equal(post(site, "Send(#lf.post('a'))", b"a=" + b"x" * 98).body, b"98")
    refused(site, post(site, "lf.json()", b'"%s"' % (b"x" * 99)), 413, "FormMemory")
    refused(site, post(site, "lf.post()", b"a&b&c&d"), 413, "FormMaxParts")
    equal(post(site, "Send(lf.post('c'))", b"a&b&c=3").body, b"3")
    refused(site, form(site, "lf.form()", part(b"a", b"x" * 50), part(b"b", b"x" * 51)), 413, "FormMemory")
    refused(site, form(site, "lf.form()", *[part(b"a", b"")] * 4), 413, "over 3 fields and files (FormMaxParts)")


def a_body_is_read_once(site):
    for first in ("Receive(1)", "lf.json()"):
        for body in (b"12", io.BytesIO(b"12")):
            found = post(site, first + " lf.post()", body)
            equal(found.status, 500)
            assert b"/run%d.lua:2: lf.post: the body was read before" % site._count in found.stderr, found.stderr
    assert b"lua:2: lf.form: the body was read before" in form(site, "Receive() lf.form()", part(b"a", b"")).stderr
    assert b"lua:2: lf.form: the body was read before" in post(site, "Receive() lf.form()", b"a=1").stderr
    assert b"lua:2: lf.json: the body was read before" in post(site, "Receive() local x = lf.json()", b"1").stderr


def there_is_no_request_while_top_level_code_runs(site):
    site.write("index.lua", "ok, message = pcall(lf.get) function main() Send(message) end")
    assert b"lf.get: there is no request" in site.request().body


def json_gives_lua_values(site):
    text = (b'{"a": [1, 2.5, -3, true, false, "x\\u00fc\\ud83d\\ude00\\n"], "o": {"k": {}}, "e": "", "big": 1e300, '
            b'"a b": 9007199254740991, "k": 1, "k": 2}')
    main = """local j = lf.json()
      local a = j.a
      Send(table.concat({ a[1], a[2], a[3], tostring(a[4]), tostring(a[5]), a[6], #a }, ","))
      Send(type(next(j.o.k)) .. #j.e .. tostring(j.big == 1e300) .. tostring(j["a b"] == 2^53 - 1) .. j.k)
      Send(tostring(lf.json() == j) .. (math.type and math.type(a[1]) .. math.type(a[2]) or "integerfloat"))"""
    for body in (text, io.BytesIO(text), b"\xef\xbb\xbf" + text):
        equal(post(site, main, body, "application/json").body.decode(),
              "1,2.5,-3,true,false,xü\U0001f600\n,6nil0truetrue2trueintegerfloat")
    for text, value in ((b"1", "1"), (b" false ", "false"), (b"null", "nil"), (b'"x"', "x"), (b"-0.5", "-0.5"),
                        (b"1e999", "inf"), (b'"\\u0000"', "\0")):
        equal(site.value("lf.json()", body=text), value)
    equal(site.value("lf.json() > 1e29", body=b"123456789012345678901234567890"), "true")


def null_of_json_is_nil_or_what_the_script_wants(site):
    main = "local j = lf.json(%s) Send(tostring(j.a) .. tostring(j.l[2]) .. tostring(j.l[3]))"
    text = b'{"a": null, "l": [1, null, 3]}'
    equal(post(site, main % "", text).body, b"nilnil3")
    equal(post(site, main % "{ null = false }", text).body, b"falsefalse3")
    equal(post(site, main % "{ null = 'none' }", text).body, b"nonenone3")
    equal(site.value("lf.json { null = false }", body=b"null"), "false")
    equal(post(site, "lf.json { null = print }", text).status, 500)


def broken_json_is_400_with_a_line_in_the_log(site):
    for text in (b"", b"{", b"[1,]", b"nope", b"NaN", b"-Infinity", b"\xff", b'"a', b"[1] x", b"[" * 101 + b"]" * 101,
                 b"[" * 100000, b"{'a': 1}", b"1" * 5000 + b"x"):
        refused(site, post(site, "Send('lost') pcall(lf.json) Send('never')", text), 400, "JSON")
    equal(site.value("#lf.json() == 1 and type(lf.json()[1])", body=b"[" * 100 + b"]" * 100), "table")


def a_refusal_passes_through_everything_that_catches_errors(site):
    catching = ["pcall(lf.json)", "xpcall(lf.json, function(m) return m end)", "pcall(pcall, lf.json)",
                "coroutine.resume(coroutine.create(lf.json))", "coroutine.wrap(lf.json)()",
                "xpcall(function() error('x') end, function() lf.json() end)"]
    for call in catching:
        found = post(site, "Header('X-Lost', '1') Send('lost') %s Send('never')" % call, b"{")
        refused(site, found, 400, "JSON")
        equal(found.all("X-Lost"), [])
        assert b"lost" not in found.body and b"never" not in found.body


def a_refusal_leaves_nothing_behind(site):
    site.write("index.lua", "function main() if lf.get('j') then lf.json() end Send('well') os.exit() end")
    for _ in range(3):
        equal(site.request(QUERY_STRING="j=1", body=b"{").status, 400)
        found = site.request()
        equal((found.status, found.body), (200, b"well"))


def form_gives_fields_and_files(site):
    folder = temp_dir(site)
    main = """local f = lf.form()
      Send(f.fields.a .. "," .. f.fields.b[1] .. f.fields.b[2] .. "," .. #f.files .. "," .. tostring(lf.form() == f))
      for _, file in ipairs(f.files) do
        local handle = io.open(file.path, "rb")
        local content = handle:read("*a")
        handle:close()
        Send("|" .. file.name .. "," .. file.filename .. "," .. file.type .. "," .. #content .. "," .. file.size)
        Send("," .. tostring(file == f.files[file.name]))
        if file.name == "bytes" then Send(content) end
      end"""
    parts = (part(b"a", b"1\r\n-2"), part(b"b", b"x"), part(b"bytes", EVERY_BYTE, b"b.bin", b"image/PNG; x=y"),
             part(b"b", b"y"), part(b"big", EVERY_BYTE * 1000, "grö.txt".encode()), part(b"none", b"", b""))
    expected = (b"1\r\n-2,xy,2,true|bytes,b.bin,image/png,256,256,true" + EVERY_BYTE +
                b"|big,gr\xc3\xb6.txt,")
    for on_disk in (False, True):
        found = form(site, main, *parts, on_disk=on_disk)
        assert found.body.startswith(expected) and found.body.endswith(b",256000,256000,true"), found.raw[:600]
        equal(os.listdir(folder), [])


def a_large_form_takes_little_memory(site):
    folder = temp_dir(site, script_max_memory=3 << 20)
    main = "local f = lf.form().files[1] Send(f.size) f:save('big.bin')"
    found = form(site, main, part(b"a", b"x" * (12 << 20), b"a"), on_disk=True)
    equal((found.body, os.listdir(folder)), (b"12582912", []))


def a_form_of_a_get_request_is_empty(site):
    equal(site.value("next(lf.form().fields) == nil and #lf.form().files"), "0")


def a_file_is_saved_where_the_script_wants(site):
    folder = temp_dir(site)
    os.makedirs(os.path.join(site.folder, "kept"))
    site.write("kept/old.bin", "old")
    main = """local a, b = lf.form().files.a, lf.form().files.b
      Send(tostring(a:save("kept/new.bin")) .. tostring(b:save(Dir() .. "/kept/old.bin")))
      Send(a.path == Dir() .. "/kept/new.bin" and "moved" or a.path)
      Send(tostring(pcall(a.save, a, "kept/again.bin")))"""
    content = os.urandom(200000)
    found = form(site, main, part(b"a", content, b"a.bin"), part(b"b", EVERY_BYTE, b"b.bin"))
    equal(found.body, b"truetruemovedfalse")
    for name, expected in (("new.bin", content), ("old.bin", EVERY_BYTE)):
        path = os.path.join(site.folder, "kept", name)
        with open(path, "rb") as file:
            equal(hashlib.sha256(file.read()).digest(), hashlib.sha256(expected).digest())
        umask = os.umask(0)
        os.umask(umask)
        equal(os.stat(path).st_mode & 0o777, 0o666 & ~umask)
    equal((sorted(os.listdir(os.path.join(site.folder, "kept"))), os.listdir(folder)), (["new.bin", "old.bin"], []))


def a_file_that_cannot_be_saved_is_an_error_and_can_be_saved_elsewhere(site):
    folder = temp_dir(site)
    main = """local a = lf.form().files.a
      for _, path in ipairs { "/nowhere/x", Dir(), Dir() .. "/a\\0b" } do
        local ok, message = pcall(a.save, a, path)
        Send(tostring(ok) .. tostring(message:find("cannot be written") ~= nil))
      end
      Send(tostring(pcall(a.save, a)) .. tostring(pcall(a.save, {}, "x")) .. tostring(a:save("a.bin")))"""
    found = form(site, main, part(b"a", EVERY_BYTE, b"a.bin"))
    equal(found.body, b"falsetrue" * 3 + b"falsefalsetrue")
    with open(os.path.join(site.folder, "a.bin"), "rb") as file:
        equal(file.read(), EVERY_BYTE)
    equal((os.listdir(folder), [name for name in os.listdir(site.folder) if name.endswith(".new")]), ([], []))


def a_name_of_the_client_is_never_a_path(site):
    folder = temp_dir(site)
    main = "for _, f in ipairs(lf.form().files) do Send('[' .. f.filename .. ']') " \
           "if f.path:find('evil', 1, true) then Send('path!') end end"
    names = (b"../../evil", b"/etc/evil", b"C:\\\\temp\\\\evil.txt", b"..", b"a%0D%0Aevil", b"..\\evil", b"evil/")
    found = form(site, main, *[part(b"f%d" % number, b"x", name) for number, name in enumerate(names)])
    equal(found.body, b"[evil][evil][evil.txt][][aevil][evil][]")
    equal(os.listdir(folder), [])


def files_over_the_limits_are_413(site):
    folder = temp_dir(site, form_max_file_size=1000, form_max_size=1500)
    refused(site, form(site, "lf.form()", part(b"a", b"x" * 1001, b"a")), 413, "FormMaxFileSize (1000 bytes)")
    two = part(b"a", b"x" * 1000, b"a"), part(b"b", b"x" * 501, b"b")
    refused(site, form(site, "pcall(lf.form)", *two), 413, "FormMaxSize (1500 bytes)")
    equal(form(site, "Send(#lf.form().files)", two[0], part(b"b", b"x" * 500, b"b")).body, b"2")
    equal(os.listdir(folder), [])


def a_broken_form_is_400(site):
    folder = temp_dir(site)
    whole = part(b"a", b"x" * 100, b"a")
    for kind in ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "x" * 300,
                 "multipart/form-data; boundary=other"):
        refused(site, form(site, "lf.form()", whole, kind=kind), 400, "form")
    kind = "multipart/form-data; boundary=" + BOUNDARY
    for body in (b"", whole, whole[:-40], b"--" + BOUNDARY.encode() + b"\r\nno header\r\n\r\nx", b"x" * 100000,
                 whole.replace(b"form-data", b"attachment") + b"--" + BOUNDARY.encode() + b"--",
                 whole.replace(b"filename", b"x" * 9000)):
        refused(site, post(site, "lf.form()", body, kind), 400, "the form is broken")
    equal(os.listdir(folder), [])


def a_failed_script_leaves_no_file_and_no_descriptor(site):
    folder = temp_dir(site)
    before = len(os.listdir("/proc/self/fd"))
    whole = part(b"a", b"x" * 100000, b"a")
    kind = "multipart/form-data; boundary=" + BOUNDARY
    for _ in range(20):
        equal(form(site, "kept = lf.form() error('x')", whole).status, 500)
        equal(form(site, "lf.form() os.exit()", whole, on_disk=True).status, 200)
        equal(post(site, "lf.form()", whole[:-10], kind).status, 400)
    equal(os.listdir(folder), [])
    site.pool.close()
    # The store of the sessions and the like may have been opened meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= before + 3


def a_file_of_a_request_that_is_over_cannot_be_saved(site):
    temp_dir(site)
    site.write("index.lua", "function main() if lf.get('save') then kept:save('x') end kept = lf.form().files.a end")
    body = part(b"a", b"x", b"a") + b"--" + BOUNDARY.encode() + b"--\r\n"
    equal(site.request(body=body, CONTENT_TYPE="multipart/form-data; boundary=" + BOUNDARY).status, 200)
    found = site.request(QUERY_STRING="save=1")
    equal(found.status, 500)
    assert b"its request is over" in found.stderr, found.stderr


def a_form_that_the_disk_has_no_room_for_is_507(site):
    folder = temp_dir(site)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200000, limits[1]))
    try:
        refused(site, form(site, "lf.form()", part(b"a", b"x" * 300000, b"a")), 507, "TempDir")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    equal(os.listdir(folder), [])
    site.configure(temp_dir=os.path.join(folder, "gone"))
    refused(site, form(site, "lf.form()", part(b"a", b"x", b"a")), 507, "TempDir")


def cookie_writes_set_cookie(site):
    for call, expected in (
            ("'a', 'b'", "a=b; Path=/; HttpOnly; SameSite=Lax"),
            ("'a', 5, { path = '/x', secure = true, http_only = false, same_site = 'strict' }",
             "a=5; Path=/x; Secure; SameSite=Strict"),
            ("'a', 'b', { ['Max-Age'] = 60, Expires = 784111777, Domain = 'example.org', SameSite = false, "
             "path = false }",
             "a=b; Domain=example.org; Max-Age=60; Expires=Sun, 06 Nov 1994 08:49:37 GMT; HttpOnly"),
            ("'a', nil, { path = '/x' }",
             "a=; Path=/x; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; SameSite=Lax"),
            ("'__Host-a', '', { Secure = true, Partitioned = true, SameSite = 'None' }",
             "__Host-a=; Path=/; Secure; HttpOnly; SameSite=None; Partitioned")):
        equal(site.run("lf.cookie(%s)" % call).header("Set-Cookie"), expected)
    equal(site.run("lf.cookie('a', '1') lf.cookie('b', '2')").all("Set-Cookie"),
          [name + "; Path=/; HttpOnly; SameSite=Lax" for name in ("a=1", "b=2")])


def what_is_no_cookie_is_an_error(site):
    for call in ("", "''", "'a b', 'x'", "'a=b', 'x'", "'a;b', 'x'", "'a\\r\\nb', 'x'", "'a\\0', 'x'", "{}, 'x'",
                 "'a', 'b;c'", "'a', 'b c'", "'a', 'b\\r\\nX: y'", "'a', 'b\\0'", "'a', '\"'", "'a', 'b\\\\'",
                 "'a', '\\195\\188'", "'a', 'b,c'", "'a', {}", "'a', 'b', { path = 'x' }", "'a', 'b', { path = '/;x' }",
                 "'a', 'b', { path = '/\\n' }", "'a', 'b', { domain = 'a b' }", "'a', 'b', { domain = 'a;b' }",
                 "'a', 'b', { max_age = 1.5 }", "'a', 'b', { max_age = '1' }", "'a', 'b', { expires = 'soon' }",
                 "'a', 'b', { same_site = 'x' }", "'a', 'b', { same_site = 'None' }", "'a', 'b', { unknown = 1 }",
                 "'__Secure-a', 'b'", "'__Host-a', 'b', { secure = true, path = '/x' }", "'a', 'b', 'c'",
                 "'__Host-a', 'b', { secure = true, domain = 'x.org' }", "'a', 'b', { partitioned = true }"):
        found = site.run("lf.cookie(%s)" % call)
        equal((call, found.status, found.all("Set-Cookie")), (call, 500, []))
        assert b"/run%d.lua:2: " % site._count in found.stderr, (call, found.stderr)


def redirect_sends_the_browser_elsewhere(site):
    for call, method, status, location in (
            ("'/a?b=c#d'", "GET", 302, "/a?b=c#d"), ("'/a'", "POST", 303, "/a"), ("'/a'", "HEAD", 302, "/a"),
            ("'/a', 301", "GET", 301, "/a"), ("'/a', 308", "POST", 308, "/a"),
            ("'http://x.org/a b\\195\\188\"%20'", "GET", 302, "http://x.org/a%20b%C3%BC%22%20")):
        found = site.run("Send('old') lf.redirect(%s)" % call, REQUEST_METHOD=method)
        equal((found.status, found.header("Location"), found.body), (status, location, b""))
    for call in ("'/a\\r\\nX: y'", "'/a\\0'", "''", "nil", "{}", "'/a', 200", "'/a', '302 Found'", "'/a', 304"):
        found = site.run("lf.redirect(%s)" % call)
        equal((call, found.status, found.all("Location")), (call, 500, []))


def escape_makes_text_safe_in_html(site):
    equal(site.run("Send(lf.escape('<a href=\"x\">&\\'\\0\\255') .. lf.escape(5))").body,
          b"&lt;a href=&quot;x&quot;&gt;&amp;&#39;\0\xff5")
    equal(site.run("lf.escape(nil)").status, 500)


def urlencode_is_right_for_every_byte(site):
    main = "local all = Receive() local coded = lf.urlencode(all) " \
           "Send(tostring(lf.urldecode(coded) == all) .. coded)"
    expected = "".join("+" if byte == 32 else chr(byte) if chr(byte).isalnum() and byte < 128 else "%%%02X" % byte
                       for byte in range(256))
    equal(post(site, main, EVERY_BYTE, "x/y").body.decode(), "true" + expected)


def accepts_gives_what_the_client_likes_best(site):
    offers = "'text/html', 'application/json', 'text/plain;charset=utf-8'"
    for accept, expected in (
            (None, "text/html"), ("", "text/html"), ("*/*", "text/html"), ("application/json", "application/json"),
            ("text/html;q=0.5, application/json", "application/json"), ("text/html;q=0.5, */*;q=0.1", "text/html"),
            ("text/*;q=0.5, application/*;q=0.7, text/html", "text/html"), ("image/png", "nil"),
            ("text/html;q=0, */*", "application/json"),
            ("TEXT/HTML;Q=0.2,Application/JSON ; q=0.3", "application/json"),
            ("text/plain;charset=\"UTF-8\", text/html;q=0.9", "text/plain;charset=utf-8"),
            ("text/plain;charset=latin-1", "nil"), ("text/html;q=2, application/json;q=0.1", "application/json"),
            ("text/html;q=0.001", "text/html"), (";;,,/,text", "nil"),
            ("x/y;a=\"text/html,\", application/json;q=1.000", "application/json")):
        equal((accept, site.value("lf.accepts(%s)" % offers, HTTP_ACCEPT=accept)), (accept, expected))
    for call in ("lf.accepts('html')", "lf.accepts({})", "lf.accepts(nil)"):
        equal(site.run(call).status, 500)


def a_hostile_accept_takes_no_time_to_speak_of(site):
    for accept in ("a/b;c=" + " " * 200000 + "x", "a/b" + ";" * 200000, '"' * 200001, ("a/b;" + "c" * 1000) * 200,
                   " " * 200000, 'a/b;c="' + '" ' * 90000):
        equal(site.value("lf.accepts('text/html')", HTTP_ACCEPT=accept)[:3], "nil" if accept.strip() else "tex")


def conditional_answers_304_to_who_has_the_page(site):
    date, earlier, later = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:36 GMT",
                            "Sunday, 06-Nov-94 08:49:38 GMT")
    both = "'v1', 784111777"
    cases = (
        (both, {}, 200), (both, {"HTTP_IF_NONE_MATCH": '"v1"'}, 304), (both, {"HTTP_IF_NONE_MATCH": '"v2"'}, 200),
        (both, {"HTTP_IF_NONE_MATCH": '"a,b", W/"v1"'}, 304), (both, {"HTTP_IF_NONE_MATCH": "*"}, 304),
        (both, {"HTTP_IF_NONE_MATCH": '"v2"', "HTTP_IF_MODIFIED_SINCE": date}, 200),
        (both, {"HTTP_IF_NONE_MATCH": "v1"}, 200), ("'W/\"v1\"'", {"HTTP_IF_NONE_MATCH": '"v1"'}, 304),
        (both, {"HTTP_IF_MODIFIED_SINCE": date}, 304), (both, {"HTTP_IF_MODIFIED_SINCE": earlier}, 200),
        ("nil, 784111777", {"HTTP_IF_MODIFIED_SINCE": later}, 304),
        ("nil, 784111777", {"HTTP_IF_MODIFIED_SINCE": "Sun Nov  6 08:49:37 1994"}, 304),
        ("nil, 784111777", {"HTTP_IF_MODIFIED_SINCE": "yesterday"}, 200),
        ("nil, 784111777", {"HTTP_IF_MODIFIED_SINCE": date, "REQUEST_METHOD": "POST"}, 200),
        (both, {"HTTP_IF_NONE_MATCH": '"v1"', "REQUEST_METHOD": "HEAD"}, 304),
        (both, {"HTTP_IF_NONE_MATCH": "*", "REQUEST_METHOD": "PUT"}, 412),
        (both, {"HTTP_IF_MATCH": '"v2"', "REQUEST_METHOD": "PUT"}, 412),
        (both, {"HTTP_IF_MATCH": '"v2", "v1"', "REQUEST_METHOD": "PUT"}, 200),
        (both, {"HTTP_IF_MATCH": 'W/"v1"', "REQUEST_METHOD": "PUT"}, 412),
        (both, {"HTTP_IF_UNMODIFIED_SINCE": earlier, "REQUEST_METHOD": "PUT"}, 412),
        (both, {"HTTP_IF_UNMODIFIED_SINCE": date, "REQUEST_METHOD": "PUT"}, 200),
    )
    for arguments, request, status in cases:
        found = site.run("Send('old') if not lf.conditional(%s) then Send('new') end" % arguments, **request)
        head = request.get("REQUEST_METHOD") == "HEAD"
        equal((request, found.status, found.body), (request, status, b"oldnew" if status == 200 and not head else b""))
        if "v1" in arguments:
            assert found.header("ETag") in ('"v1"', 'W/"v1"')
        if "784111777" in arguments:
            equal(found.header("Last-Modified"), date)


def what_is_no_tag_and_no_time_is_an_error(site):
    for call in ("", "'a b'", "'a\"b'", "'a\\r\\nb'", "{}", "nil, 'now'", "nil, -1", "'W/\"a'"):
        found = site.run("lf.conditional(%s)" % call)
        equal((call, found.status), (call, 500))
        assert b"lua:2: lf.conditional: " in found.stderr, (call, found.stderr)
    equal(site.run("lf.conditional(nil, os.time() + 1000)").header("Last-Modified")[-3:], "GMT")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", promises(globals()))
def test_lua(version, name):
    check(__file__, version, name)
