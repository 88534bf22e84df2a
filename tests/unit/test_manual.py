"""Manual pages as text; how they are set is for tests/integration/test_installed.py."""
from __future__ import annotations

import pytest

from luafcgid2 import manual, roff


@pytest.mark.parametrize("words, wanted", [
    ("plain words", "plain words"),
    (".TH is no macro", "\\&.TH is no macro"),
    ("'br is none", "\\&'br is none"),
    ("first\n.second\n'third", "first\n\\&.second\n\\&'third"),
    ("\\fB", "\\efB"),
    ("--option ^ ~ `", "\\-\\-option \\(ha \\(ti \\(ga"),
    ("naïve €", "na\\[u00EF]ve \\[u20AC]"),
])
def test_no_character_of_a_text_is_a_command(words, wanted):
    assert roff.escape(words) == wanted


def test_a_quote_does_not_end_an_argument():
    assert roff.quoted('say "hello"') == '"say \\(dqhello\\(dq"'


def test_the_examples_of_a_help_text_keep_their_lines():
    page = roff.Page("x", "8", "x 1", "is x")
    page.paragraphs("What it does,\nand how.\n\n\b\nExamples:\n  x 1\n    .more\n\nThe end.")
    assert str(page).endswith("""\
What it does, and how.
.PP
Examples:
.RS 4
.nf
x 1
  .more
.fi
.RE
.PP
The end.
""")


def test_pages_are_the_same_every_time():
    assert [make() for make in manual.PAGES.values()] == [make() for make in manual.PAGES.values()]


def test_each_page_is_ascii_and_ends_with_a_line():
    for make in manual.PAGES.values():
        assert make().isascii() and make().endswith("\n")


def test_the_command_prints_a_page_or_writes_them_all(capsys, tmp_path):
    assert manual.main(["luafcgid2.8"]) == 0
    page = capsys.readouterr().out
    assert page.startswith('.TH "LUAFCGID2" 8 ')
    assert manual.main([str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(manual.PAGES)
    assert (tmp_path / "luafcgid2.8").read_text() == page


@pytest.mark.parametrize("arguments", [[], ["/nonexistent/folder"], ["luafcgid2.8", "luafcgid2ctl.8"]])
def test_another_argument_is_a_usage_error(arguments, capsys):
    assert manual.main(arguments) == 2
    assert "luafcgid2ctl.8" in capsys.readouterr().err
