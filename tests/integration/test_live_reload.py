"""`luafcgid2 serve` beside a browser: a page renews itself when a file is saved, and open tabs block nobody."""
from __future__ import annotations

import http.client
import os
import pty
import re
import socket
import subprocess
import sys

import pytest
from harness import ROOT, Site, wait_until
from servers import Serve
from test_status_page import CHROMIUM, DRIVER, browser

from luafcgid2.livereload import TAG
from luafcgid2.serve import HTTP_THREADS

PAGE = "function main() Send('<!DOCTYPE html><title>x</title><h1>%s</h1>') end\n"
NAVIGATION = {"Accept": "text/html", "Sec-Fetch-Dest": "document"}
needs_browser = pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="chromium or chromium-driver is not installed")


@pytest.fixture
def web():
    with Site() as site:
        site.write("page.lua", PAGE % "one")
        # A browser asks for it, and complains when there is none.
        site.write("favicon.ico", "")
        site.write("static.html", "<!DOCTYPE html><title>x</title><h1>one</h1>")
        with Serve(site.www, site.run) as server:
            server.site = site
            server.expect_errors(r"fails\.lua")
            yield server


def url(web, name):
    return "http://127.0.0.1:%d/%s" % (web.port, name)


def heading(driver):
    return driver.execute_script("return document.querySelector('h1')?.textContent ?? ''")


def token(web):
    return re.search(rb'token = "([^"]+)"', web.request("/.luafcgid2/live.js").body).group(1).decode()


@needs_browser
@pytest.mark.parametrize("name, new", [
    ("page.lua", PAGE % "two"), ("static.html", "<!DOCTYPE html><title>x</title><h1>two</h1>")], ids=["script", "file"])
def test_a_page_renews_itself_when_its_file_is_saved(web, tmp_path, name, new):
    with browser(tmp_path) as driver:
        driver.get(url(web, name))
        assert heading(driver) == "one"
        web.site.write(name, new)
        wait_until(lambda: heading(driver) == "two", "the page has renewed itself")


@needs_browser
def test_an_error_page_shows_all_copies_it_and_goes_when_it_is_repaired(web, tmp_path):
    broken = "function main()\n  local user\n  Send(user.name)\nend\n"
    web.site.write("fails.lua", broken)
    with browser(tmp_path) as driver:
        driver.execute_cdp_cmd("Network.setCookie", {"name": "session", "value": "geheim", "url": url(web, "")})
        driver.execute_cdp_cmd("Browser.grantPermissions",
                               {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
        driver.get(url(web, "fails.lua?a=1"))
        shown = driver.find_element("tag name", "main").text
        assert "local user" in shown and "Traceback" in shown and "QUERY_STRING a=1" in shown
        assert "session=***" in shown and "geheim" not in driver.page_source
        driver.find_element("id", "copy").click()
        wait_until(lambda: driver.find_element("id", "copy").text == "Copied", "it is copied")
        copied = driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
        assert "fails.lua:3:" in copied and "Traceback" in copied and "geheim" not in copied
        driver.get_log("browser")       # the 500 itself
        web.site.write("fails.lua", PAGE % "repaired")
        wait_until(lambda: heading(driver) == "repaired", "the page has renewed itself")


def test_only_a_page_of_a_browser_gets_the_tag_and_its_length_is_right(web):
    plain, page = web.request("/page.lua"), web.request("/page.lua", headers=NAVIGATION)
    assert TAG not in plain.body and page.body == plain.body + TAG
    assert int(page.headers["Content-Length"]) == len(page.body)
    head = web.request("/page.lua", "HEAD", headers=NAVIGATION)
    assert (head.headers["Content-Length"], head.body) == (page.headers["Content-Length"], b"")
    assert TAG in web.request("/missing", headers=NAVIGATION).body
    assert TAG not in web.request("/plain.txt", headers=NAVIGATION).body


def test_more_open_tabs_than_threads_block_nobody_and_all_are_told(web):
    now, tabs = token(web), []
    try:
        for _ in range(3 * HTTP_THREADS):
            tab = http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)
            tabs.append(tab)
            tab.request("GET", "/.luafcgid2/changes?" + now)
        assert web.request("/page.lua").status == 200
        web.site.write("page.lua", PAGE % "two")
        assert {tab.getresponse().read().decode() for tab in tabs} == {token(web)} != {now}
    finally:
        for tab in tabs:
            tab.close()


def test_a_tab_that_missed_a_change_is_told_at_once(web):
    old = token(web)
    web.site.write("page.lua", PAGE % "two")
    now = token(web)
    assert now != old and web.request("/.luafcgid2/changes?" + old).body.decode() == now


def test_a_tab_that_is_closed_leaves_no_connection(web):
    def held(port):
        """Whether the server has a descriptor for the connection from `port`: only then the kernel names an inode."""
        with open("/proc/net/tcp") as table:
            lines = [line.split() for line in table][1:]
        return any(line[1].endswith(":%04X" % web.port) and line[2].endswith(":%04X" % port) and line[9] != "0"
                   for line in lines)
    now = token(web)
    with socket.create_connection(("127.0.0.1", web.port)) as tab:
        port = tab.getsockname()[1]
        tab.sendall(("GET /.luafcgid2/changes?%s HTTP/1.1\r\nHost: x\r\n\r\n" % now).encode())
        wait_until(lambda: held(port), "it waits")
    wait_until(lambda: not held(port), "it is gone")


def serve_on_a_terminal(site, **environment):
    """What `luafcgid2 serve` prints on a terminal for one request."""
    ours, theirs = pty.openpty()
    done = subprocess.Popen([sys.executable, "-m", "luafcgid2", "serve", site.www, "--http", "127.0.0.1:0",
                             "--no-live"], stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL, cwd=ROOT,
                            env=dict(os.environ, TERM="xterm", TMPDIR=site.run, **environment))
    os.close(theirs)
    text = b""
    try:
        while not re.search(rb":(\d+)/ ", text):
            text += os.read(ours, 4096)
        client = http.client.HTTPConnection("127.0.0.1", int(re.search(rb":(\d+)/ ", text).group(1)), timeout=60)
        client.request("GET", "/page.lua", headers=NAVIGATION)
        assert TAG not in client.getresponse().read()
        client.close()
        while b" ms" not in text:
            text += os.read(ours, 4096)
    finally:
        done.terminate()
        done.wait(60)
        os.close(ours)
    return text


def test_lines_on_a_terminal_are_coloured_and_no_color_and_no_live_are_heard(site):
    site.write("page.lua", PAGE % "one")
    assert b"\x1b[32m200\x1b[0m" in serve_on_a_terminal(site)
    assert b"\x1b" not in serve_on_a_terminal(site, NO_COLOR="1")
