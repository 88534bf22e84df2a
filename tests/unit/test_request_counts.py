"""What one hello request costs inside the Lua state, as counts that do not depend on the machine."""
import pytest
from lua_site import VERSIONS, check, equal, promises

from luafcgid2 import blank

HELLO = "function main() Send('Hello, world!') end"
REQUESTS = 50
# Bytes that a request makes in Lua: its Env of 26 pairs above all.  An eighth more than it is, for other architectures;
# who needs more on the way of each request says here why.
MOST_BYTES = {"5.1": 2700, "5.2": 2650, "5.3": 2350, "5.4": 2050, "5.5": 2050, "jit": 2200}
# A function that nobody called in Lua was called from Python; or from the end of another, which LuaJIT does not tell:
# `handle` ends so, by response.finish(method, cookie_lines).
COUNT = b"""
if jit then jit.off() end
local entries = 0
debug.sethook(function(event)
  local last = jit and debug.getinfo(2, "u").nparams == 2
  if event == "call" and not last and not debug.getinfo(3, "S") then entries = entries + 1 end
end, "c")
return function() debug.sethook() return entries end
"""


def usual(site, number=0):
    """A request as nginx sends it, with names of different lengths; what changes is what does in real life."""
    return site.request("hello.lua", CONTENT_TYPE="", CONTENT_LENGTH="", REQUEST_URI="/hello.lua",
                        DOCUMENT_URI="/hello.lua", SERVER_PROTOCOL="HTTP/1.1", REQUEST_SCHEME="http",
                        GATEWAY_INTERFACE="CGI/1.1", SERVER_SOFTWARE="nginx/1.22.1", REMOTE_PORT=str(40000 + number),
                        SERVER_ADDR="127.0.0.1", SERVER_PORT="80", REDIRECT_STATUS="200", HTTP_HOST="localhost:8080",
                        HTTP_USER_AGENT="Mozilla/5.0 (X11; Linux aarch64)", HTTP_ACCEPT="text/html,*/*;q=0.8",
                        HTTP_ACCEPT_ENCODING="gzip, deflate, br", HTTP_ACCEPT_LANGUAGE="en", HTTP_CONNECTION="close")


def warm(site):
    """Until the state has learnt what requests look like; that state's runtime."""
    site.write("hello.lua", HELLO)
    for number in range(40):
        equal(usual(site, number).body, b"Hello, world!")
    entry, = site.pool.entries
    clone, = entry.idle
    return clone._runtime


def a_request_is_one_crossing(site):
    into_python = []
    call = blank.Host.call

    def counted(host, name, *arguments):
        into_python.append(name)
        return call(host, name, *arguments)
    blank.Host.call = counted
    try:
        site.configure(lua_states=1)
        stop = warm(site).execute(COUNT)
        into_python.clear()
        for number in range(REQUESTS):
            usual(site, number)
        # One more for `stop` itself.
        equal((stop(), into_python), (REQUESTS + 1, []))
    finally:
        blank.Host.call = call


def a_script_that_logs_is_seen_to_cross(site):
    """That the count above would notice."""
    site.write("hello.lua", "function main() Log('x') Send('Hello, world!') end")
    equal(site.request("hello.lua").status, 200)
    entry, = site.pool.entries
    runtime = entry.idle[0]._runtime
    stop = runtime.execute(COUNT)
    site.request("hello.lua")
    runtime.execute(b"local nothing")
    equal(stop(), 3)


def the_garbage_of_a_request_is_bounded(site):
    runtime = warm(site)
    size = runtime.execute(b"collectgarbage() collectgarbage('stop') return function() "
                           b"return collectgarbage('count') * 1024 end")
    before = size()
    for number in range(REQUESTS):
        usual(site, number)
    made = (size() - before) / REQUESTS
    assert made <= MOST_BYTES[site.engine.version], made


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", promises(globals()))
def test_each_lua_version(name, version):
    check(__file__, version, name)
