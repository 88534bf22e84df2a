"""The documents: they render without a warning, and what they quote is what there is."""
from __future__ import annotations

import html
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import textwrap
import urllib.parse
import xml.etree.ElementTree

import docutils.core
import pytest
from docutils.writers import get_writer_class
from lua_site import VERSIONS, check, equal, promises

from luafcgid2.options import OPTIONS

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TYPES = "luafcgid2/types/luafcgid2.lua"
# These are read without Sphinx, too.
DOCUMENTS = ["README.rst", "docs/security.rst", "docs/several-machines.rst"]
SITE = ["docs/" + name for name in sorted(os.listdir(os.path.join(ROOT, "docs"))) if name.endswith(".rst")]


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


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site as `make docs` builds it: (folder, what Sphinx said, its exit code)."""
    pytest.importorskip("furo")
    folder = tmp_path_factory.mktemp("docs")
    done = subprocess.run([sys.executable, "-m", "sphinx", "-q", "-W", "-n", "--keep-going", "-b", "html", "-d",
                           str(folder / "cache"), os.path.join(ROOT, "docs"), str(folder / "site")],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return folder / "site", done.stdout, done.returncode


def pages(folder):
    """Name -> text of each page of the built site."""
    return {name: (folder / name).read_text(encoding="utf-8") for name in sorted(os.listdir(folder))
            if name.endswith(".html")}


def test_make_docs_has_no_warning(built):
    assert built[1:] == ("", 0)
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        assert "-m sphinx -q -W -n --keep-going -b html " in file.read()


def test_every_link_of_the_site_leads_somewhere(built):
    folder = built[0]
    texts = pages(folder)
    anchors = {name: set(re.findall(r'\sid="([^"]*)"', text)) for name, text in texts.items()}
    dead, count = [], 0
    for name, text in texts.items():
        for link in map(html.unescape, re.findall(r'(?:href|src)="([^"]*)"', text)):
            if re.match(r"[a-z]+:|//", link):
                continue
            path, _, anchor = urllib.parse.unquote(link).partition("#")
            target = path.partition("?")[0] or name
            count += 1
            if not (folder / target).exists() or anchor and target in texts and anchor not in anchors[target]:
                dead.append((name, link))
    assert dead == [] and count > 1000


def test_no_page_loads_anything_from_elsewhere(built):
    loaded = [(name, link) for name, text in pages(built[0]).items()
              for link in re.findall(r'<(?:script|img|iframe|link)\b[^>]*?(?:src|href)="(https?:|//)', text)]
    assert loaded == []


def test_the_site_has_every_page_name_of_the_api_and_key_of_the_configuration(built):
    texts = pages(built[0])
    for source in SITE:
        assert os.path.basename(source).replace(".rst", ".html") in texts
    for name in annotated() - {"File:save"}:
        if ":" not in name:
            assert "<span class=\"pre\">%s</span>" % name in texts["api.html"], name
    for option in OPTIONS:
        assert 'id="setting-%s"' % option.name in texts["configuration.html"], option.name


# What the site says in other words, or has from the tables.
NOT_ON_THE_SITE = {"Two commands", "Documentation", "What a script can use", "Security", "Configuration",
                   "Coming from the C++ luafcgid2", "Benchmarks", "How it works"}


def test_every_chapter_of_the_readme_is_in_the_site():
    chapters = set(re.findall(r"(?m)^(\S.*)\n-{4,}$", read("README.rst")))
    listed = [title for name in SITE for block in re.findall(r"\.\. readme::\n\n((?:   .*\n)+)", read(name))
              for title in textwrap.dedent(block).splitlines()]
    assert sorted(listed) == sorted(chapters - NOT_ON_THE_SITE), "name it below `readme` on a page of docs/"


def test_the_charts_show_the_table_of_the_readme():
    code = ("import json, sys; sys.path.insert(0, 'benchmarks'); import report\n"
            "print(report.table(json.load(open('benchmarks/results/hello.json'))['rows']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() in read("README.rst")
    results = json.loads(read("benchmarks/results/hello.json"))
    assert " ".join(results["caption"].split()) in " ".join(read("README.rst").split())
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", results["measured"]) and results["machine"]


def test_each_chart_is_a_picture_with_a_bar_for_each_server(tmp_path):
    source = os.path.join(ROOT, "benchmarks", "results", "hello.json")
    program = [sys.executable, os.path.join(ROOT, "benchmarks", "charts.py")]
    assert subprocess.run(program, stderr=subprocess.PIPE).returncode == 2
    subprocess.run([*program, source, str(tmp_path)], check=True)
    with open(source, encoding="utf-8") as file:
        rows = json.load(file)["rows"]
    assert {path.name for path in tmp_path.iterdir()} == {"rate.svg", "cpu.svg", "p50.svg", "pss.svg"}
    space = "{http://www.w3.org/2000/svg}"
    for path in tmp_path.iterdir():
        picture = xml.etree.ElementTree.parse(path).getroot()
        bars = picture.findall(space + "rect")
        assert len(bars) == len(rows)
        assert all(0 < float(bar.get("width")) <= 480 for bar in bars)
    widths = [float(bar.get("width")) for bar in xml.etree.ElementTree.parse(
        tmp_path / "rate.svg").getroot().findall(space + "rect")]
    rates = [row["rate"] for row in rows.values()]
    assert sorted(range(len(rates)), key=rates.__getitem__) == sorted(range(len(rates)), key=widths.__getitem__)


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


def annotated():
    """The names in the annotation file, without the methods of what a script gets from a function."""
    path = os.path.join(ROOT, "docs", "_ext", "annotations.py")
    spec = importlib.util.spec_from_file_location("annotations", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.names(module.parse(read(TYPES)))


# All that this script sees and a bare Lua does not have; what is loaded late is in an upvalue of lf's metatable.
SEEN = """
  local names = {}
  local function add(prefix, from) for name in pairs(from) do names[#names + 1] = prefix .. name end end
  for name in pairs(_G) do if name ~= "main" then names[#names + 1] = name end end
  LocalConfig = LocalConfig == nil and false
  -- These are filled when they are first looked into.
  local _, _, _, _ = lf.nothing, Shared.Get("x"), Session.nothing, con.header
  add("lf.", lf) add("Session.", Session) add("Shared.", Shared) add("con:", getmetatable(con))
  local late, index = getmetatable(lf).__index, 1
  while true do
    local name, value = debug.getupvalue(late, index)
    if not name then break end
    if type(value) == "table" and value.redirect then add("lf.", value) end
    index = index + 1
  end
  Send(table.concat(names, " "))
"""


def the_annotations_name_what_a_script_sees_and_nothing_else(site):
    bare = set(site.engine.new_runtime().execute(
        b"local n = {} for name in pairs(_G) do n[#n + 1] = name end return table.concat(n, ' ')").decode().split())
    seen = set(site.run(SEEN).body.decode().split()) - bare - {"con:__index"} | {"LocalConfig"}
    known = annotated() - {"File:save"}
    equal((sorted(seen - known), sorted(known - seen)), ([], []))
    equal(sorted(seen & {"lf.form", "lf.parse", "Shared.Incr", "Session.Id", "Flush", "con:puts"}),
          ["Flush", "Session.Id", "Shared.Incr", "con:puts", "lf.form", "lf.parse"])


def every_function_of_the_annotations_is_one(site):
    site.engine.compile(read(TYPES).encode(), b"@" + TYPES.encode())
    for name in sorted(re.findall(r"(?m)^function ([\w.]+)\(", read(TYPES))):
        equal((name, site.value("type(%s)" % name)), (name, "function"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", sorted(promises(globals())))
def test_promise(version, name):
    check(__file__, version, name)
