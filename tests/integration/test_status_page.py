"""The status page in a real browser: it renders, renews itself, complains of nothing, and shows hostile texts."""
from __future__ import annotations

import contextlib
import http.server
import os
import re
import shutil
import sys
import threading
import time

import pytest
from harness import ROOT, wait_until

from luafcgid2.snapshot import take
from luafcgid2.status import render

sys.path.insert(0, os.path.join(ROOT, "tests", "unit"))
import boards  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="chromium or chromium-driver is not installed")
QUIET = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
         "--window-size=1200,1400")


class Board:
    """A scoreboard on http://127.0.0.1, `url`; `requests` tells what was asked for, `down` refuses all."""

    def __init__(self) -> None:
        self.board, self.requests, self.down = boards.filled(), [], False
        for _, slot in self.board.workers():
            for line in slot.running:
                line.started = time.monotonic_ns() - boards.SECOND

    def __enter__(self) -> Board:
        board = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                board.requests.append(self.path)
                if board.down:
                    return self.send_error(503)
                board.board.slot(0).requests += 1
                found = take(board.board, boards.config(), time.monotonic_ns(), time.time())
                head, content = render(self.path.partition("?")[2].encode(), found)
                self.wfile.write(head.replace(b"Status:", b"HTTP/1.0") + content)

            def log_message(self, *words):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = "http://127.0.0.1:%d/status" % self._server.server_port
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def browser(folder, *, scripts=True, width=1200, scheme="light"):
    """A headless Chromium; it must not have complained of anything when the block ends."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in (*QUIET, "--user-data-dir=%s" % folder):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia",
                               {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                               {"width": width, "height": 1400, "deviceScaleFactor": 1, "mobile": width < 600})
        yield driver
        assert driver.get_log("browser") == []
    finally:
        driver.quit()


@pytest.fixture
def served():
    with Board() as board:
        yield board


def text(driver, name: str) -> str:
    return driver.find_element("id", name).text


def test_it_renders_and_renews_itself(served, tmp_path):
    with browser(tmp_path) as driver:
        driver.get(served.url)
        assert "luafcgid2" in driver.find_element("tag name", "h1").text
        assert "/slow.lua?n=0" in text(driver, "running")
        served.board.slot(0).lines[1].uri = b"/another.lua"
        served.board.header.past_requests = 7_000_000
        wait_until(lambda: "/another.lua" in text(driver, "running"), "the running request changes")
        assert "7,000," in text(driver, "tiles")


def test_the_charts_draw_what_has_happened(served, tmp_path):
    with browser(tmp_path) as driver:
        driver.get(served.url)
        wait_until(lambda: driver.find_element("id", "charts").is_displayed(), "the charts are shown")
        path = driver.find_element("css selector", "#rates .first")
        wait_until(lambda: path.get_attribute("d").count("L") >= 2, "the line has three points")
        assert float(text(driver, "rate")) > 0
        assert re.match(r"[0-9.]+/s", driver.title)


def test_a_selected_request_stays_selected_while_the_page_renews_itself(served, tmp_path):
    with browser(tmp_path) as driver:
        driver.get(served.url)
        driver.execute_script("getSelection().selectAllChildren(document.querySelector('#running td.text'))")
        before = driver.execute_script("return getSelection().toString()")
        assert "/slow.lua" in before
        seen = len(served.requests)
        wait_until(lambda: len(served.requests) >= seen + 2, "the page asks twice")
        assert driver.execute_script("return getSelection().toString()") == before


def test_a_hostile_address_is_shown_as_text(served, tmp_path):
    hostile = b"/x.lua?<script>document.title='owned'</script><img src=x onerror=alert(1)>"
    served.board.slot(0).lines[1].uri = hostile
    with browser(tmp_path) as driver:
        driver.get(served.url)
        seen = len(served.requests)
        wait_until(lambda: len(served.requests) >= seen + 2, "the page asks twice")
        assert hostile.decode() in text(driver, "running")
        assert "owned" not in driver.title
        assert driver.find_elements("css selector", "main img, main script") == []


def test_it_tells_that_the_server_is_gone_and_that_it_is_back(served, tmp_path):
    with browser(tmp_path) as driver:
        driver.get(served.url)
        served.down = True
        wait_until(lambda: driver.find_element("id", "lost").is_displayed(), "the page says so")
        served.down = False
        wait_until(lambda: not driver.find_element("id", "lost").is_displayed(), "the page goes on")
        assert {entry["level"] for entry in driver.get_log("browser")} == {"SEVERE"}    # the 503


def test_a_restarted_server_does_not_make_the_charts_jump_below_zero(served, tmp_path):
    with browser(tmp_path) as driver:
        driver.get(served.url)
        wait_until(lambda: text(driver, "rate"), "a first rate")
        served.board.header.since_start, served.board.header.past_requests = int(time.time()), 0
        seen = len(served.requests)
        wait_until(lambda: len(served.requests) >= seen + 3, "the page asks three times")
        assert not text(driver, "rate").startswith("-")


def test_it_is_whole_without_scripts(served, tmp_path):
    with browser(tmp_path, scripts=False) as driver:
        driver.get(served.url)
        assert "1,081" in text(driver, "tiles")
        assert "/slow.lua?n=0" in text(driver, "running")
        assert not driver.find_element("id", "charts").is_displayed()
        wait_until(lambda: len([path for path in served.requests if path == "/status"]) >= 2, "it loads itself again")


@pytest.mark.parametrize("width", [360, 1200])
def test_it_is_no_wider_than_the_screen(served, tmp_path, width):
    served.board.slot(0).lines[1].uri = b"/" + b"x" * 230
    with browser(tmp_path, width=width) as driver:
        driver.get(served.url)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width


def luminance(color: str) -> float:
    """WCAG 2.1, relative luminance of `rgb(r, g, b)`."""
    shares = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [part / 12.92 if part <= .04045 else ((part + .055) / 1.055) ** 2.4 for part in shares]
    return .2126 * linear[0] + .7152 * linear[1] + .0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_color_schemes(served, tmp_path, scheme):
    with browser(tmp_path, scheme=scheme) as driver:
        driver.get(served.url)
        card = driver.find_element("id", "running").value_of_css_property("background-color")
        colors = driver.execute_script("return [...document.querySelectorAll('main *')]"
                                       ".filter(e => e.innerText).map(e => getComputedStyle(e).color)")
        for color in set(colors):
            light, dark = sorted((luminance(color), luminance(card)), reverse=True)
            assert (light + .05) / (dark + .05) >= 4.5, (color, card)       # WCAG 2.1, 1.4.3
