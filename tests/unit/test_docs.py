"""The documents: they render without a warning, and what they quote is what there is."""
from __future__ import annotations

import io
import os
import re
import textwrap

import docutils.core
import pytest
from docutils.writers import get_writer_class
from lua_site import VERSIONS, check, equal, promises

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DOCUMENTS = ["README.rst"] + ["docs/" + name for name in sorted(os.listdir(os.path.join(ROOT, "docs")))
                              if name.endswith(".rst")]


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def blocks(name, language):
    """The code blocks of a document in one language, without their indentation."""
    found = re.findall(r"\.\. code-block:: %s\n\n((?:    .*\n|\n)+)" % language, read(name))
    return [textwrap.dedent(block).strip() + "\n" for block in found]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_renders_without_a_warning(name):
    said = io.StringIO()
    settings = {"warning_stream": said, "report_level": 1, "syntax_highlight": "none", "file_insertion_enabled": False}
    page = docutils.core.publish_string(read(name), writer=get_writer_class("html")(), settings_overrides=settings)
    assert said.getvalue() == "" and b"<h1" in page


def test_the_tenants_files_are_those_of_the_security_chapter():
    def bare(text):
        return [line for line in text.splitlines() if line and not line.startswith("--") and not line.startswith("#")]
    config = next(block for block in blocks("docs/security.rst", "lua") if "ListenOwner" in block)
    assert bare(config) == bare(read("etc/tenants/config.lua"))
    default = next(block for block in blocks("docs/security.rst", "sh") if "RUNDIR" in block)
    assert bare(default) == bare(read("etc/tenants/default"))


def the_form_of_the_security_chapter_takes_its_own_token_only(site):
    site.write("form.lua", next(block for block in blocks("docs/security.rst", "lua") if "csrf" in block))
    page = site.request("form.lua")
    token = re.search(rb'value="([0-9a-f]{32})"', page.body)[1]
    cookie = {"HTTP_COOKIE": page.header("Set-Cookie").partition(";")[0], "REQUEST_METHOD": "POST"}
    equal(site.request("form.lua", b"token=" + token, **cookie).body, b"Changed.\n")
    for body in (b"", b"token=", b"token=" + b"0" * 32):
        equal(site.request("form.lua", body, **cookie).status, 403)
    # Another visitor's token, and none at all.
    equal(site.request("form.lua", b"token=" + token, REQUEST_METHOD="POST").status, 403)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", sorted(promises(globals())))
def test_promise(version, name):
    check(__file__, version, name)
