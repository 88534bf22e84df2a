"""The documents made from the tables."""
import os
import re

import pytest

from luafcgid2 import config, reference
from luafcgid2.changes import CHANGES
from luafcgid2.options import OPTIONS

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_the_committed_sample_is_the_one_made_from_the_table():
    with open(os.path.join(ROOT, "etc", "config.lua"), encoding="utf-8") as file:
        assert file.read() == reference.sample(), "run: python -m luafcgid2.reference sample > etc/config.lua"


def test_the_sample_loads_without_warnings_and_means_the_defaults():
    loaded, builtin = config.load(os.path.join(ROOT, "etc", "config.lua")), config.defaults()
    assert loaded.warnings == () and loaded.notes == ()
    for option in OPTIONS:
        if option.field:
            assert getattr(loaded, option.field) == getattr(builtin, option.field)
    assert b"blog.example.org" in loaded.globals_chunk


def test_every_commented_line_of_the_sample_works_when_it_is_uncommented(tmp_path):
    path = tmp_path / "config.lua"
    path.write_text(re.sub(r"(?m)^-- (\w+ = )", r"\1", reference.sample()))
    loaded = config.load(str(path))
    assert {option.field for option in OPTIONS if option.field} == set(loaded.origins)
    assert [warning.split(" ")[0] for warning in loaded.warnings] == ["StartupScript"]
    for option in OPTIONS:
        if option.field:
            wanted = option.default if option.example is None else option.example
            assert getattr(loaded, option.field) == option.check(wanted)[0]


def test_the_sample_has_every_key_that_works_and_none_that_does_not():
    text = reference.sample()
    for option in OPTIONS:
        assert bool(re.search(r"(?m)^(-- )?%s = " % option.name, text)) == (option.effect == "used")
    assert max(map(len, text.split("\n"))) <= 110


@pytest.mark.parametrize("make, rows, columns", [
    (reference.rst, len(OPTIONS), 5), (reference.changes_rst, len(CHANGES), 4)])
def test_list_tables_have_a_row_for_each_entry_and_even_columns(make, rows, columns):
    head, body = make().split("\n\n", 1)
    assert head.startswith(".. list-table::") and len(re.findall(r"\d+", head.split("widths:")[1])) == columns
    entries = re.split(r"(?m)^   \* ", body)[1:]
    assert len(entries) == rows + 1
    for entry in entries:
        assert len(re.findall(r"(?m)^(?:     )?-(?: |$)", entry)) == columns


def test_every_option_is_in_the_readme_table():
    text = reference.rst()
    for option in OPTIONS:
        for name in (option.name,) + option.aliases:
            assert "``%s``" % name in text


def test_every_option_has_a_place_in_the_configuration_reference():
    found = re.findall(r"(?m)^\.\. setting:: (\w+)(?: = (.*))?$", reference.settings_rst())
    assert [name for name, _ in found] == [option.name for option in OPTIONS]
    assert dict(found)["WorkerThreads"] == "4" and dict(found)["Config"] == ""


def test_every_key_of_the_c_luafcgid_is_in_its_table():
    text = reference.old_keys_rst()
    for option in OPTIONS:
        for name in (option.name,) + option.aliases:
            if name.islower() and name != "entrypoint":
                assert "* - ``%s``" % name in text
    assert ":setting:`LuaMaxStates`" in text and "``entrypoint``" not in text


def test_the_command_prints_one_document_or_how_to_use_it(capsys):
    assert reference.main(["sample"]) == 0
    assert capsys.readouterr().out == reference.sample()
    for arguments in ([], ["zebra"], ["rst", "sample"]):
        assert reference.main(arguments) == 2
        assert "sample|rst|changes" in capsys.readouterr().err


def test_readme_and_security_have_the_generated_tables_as_they_are_now(monkeypatch):
    monkeypatch.chdir(ROOT)
    with open("README.rst", encoding="utf-8") as file:
        assert file.read() == reference.readme(), "run: make sample"
    with open("docs/security.rst", encoding="utf-8") as file:
        assert file.read() == reference.security(), "run: make sample"
