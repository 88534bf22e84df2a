"""Which answers get the live reload, and which files make a page renew itself."""
from __future__ import annotations

import os

import pytest

from luafcgid2 import livereload
from luafcgid2.livereload import LiveReload


@pytest.fixture
def live(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "page.lua").write_text("one")
    found = LiveReload(str(tmp_path))
    yield found
    found.close()


@pytest.mark.parametrize("environ, expected", [
    ({"HTTP_SEC_FETCH_DEST": "document"}, True), ({"HTTP_SEC_FETCH_DEST": "empty", "HTTP_ACCEPT": "text/html"}, False),
    ({"HTTP_SEC_FETCH_DEST": "iframe"}, False), ({"HTTP_ACCEPT": "text/html,*/*"}, True),
    ({"HTTP_ACCEPT": "*/*"}, False), ({}, False), ({"HTTP_ACCEPT": "text/html", "HTTP_HX_REQUEST": "true"}, False),
    ({"HTTP_ACCEPT": "text/html", "HTTP_X_REQUESTED_WITH": "XMLHttpRequest"}, False)])
def test_only_pages_of_a_browser_are_changed(environ, expected):
    assert livereload.wanted(environ) is expected


@pytest.mark.parametrize("status, headers", [
    (200, [("Content-Type", "text/plain")]), (304, [("Content-Type", "text/html")]), (200, []),
    (200, [("Content-Type", "text/html"), ("Content-Encoding", "gzip")])])
def test_what_is_no_html_stays_as_it_is(status, headers):
    assert livereload.tagged(status, headers) == []


def test_the_length_counts_the_tag():
    kind, length = ("content-type", "Text/HTML; charset=utf-8"), str(10 + len(livereload.TAG))
    assert livereload.tagged(500, [kind, ("Content-LENGTH", "10"), ("A", "b")]) == [
        kind, ("Content-LENGTH", length), ("A", "b")]


@pytest.mark.parametrize("change", [
    lambda folder: (folder / "sub" / "page.lua").write_text("other"),
    lambda folder: (folder / "new.css").write_text(""),
    lambda folder: os.unlink(folder / "sub" / "page.lua"),
    lambda folder: os.replace(folder / "other.tmp", folder / "sub" / "page.lua")])
def test_a_saved_source_is_a_change_once(live, tmp_path, change):
    (tmp_path / "other.tmp").write_text("two")
    before = live.token
    assert not live.look() and live.token == before
    change(tmp_path)
    assert live.look() and live.token != before
    assert not live.look()


@pytest.mark.parametrize("name", ["data.db", "hits.txt", "data.json", ".hidden.lua", ".git/x.lua"])
def test_what_a_script_may_write_is_no_change(live, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    assert not live.look()
