"""Which file a request means, and when its content is another one."""
from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest

from luafcgid2.errors import ScriptError, ScriptForbidden, ScriptNotFound
from luafcgid2.runtime import Engine
from luafcgid2.script import MAX_NAMES, Resolver, Script, Version

NOW, GENERATION, KEEP = 100.0, 1, 5.0


@pytest.fixture(scope="module")
def engine():
    return Engine("5.3", c_modules=False)


@pytest.fixture
def root(tmp_path):
    """A document root with a script in it, as bytes."""
    folder = tmp_path / "www"
    folder.mkdir()
    (folder / "x.lua").write_text("function main() end")
    return os.fsencode(str(folder))


def resolver(roots=(), extensions=(".lua",), keep=KEEP):
    return Resolver(roots, extensions, keep)


def resolve(name, root, **options):
    return resolver(**options).resolve(name, root, NOW, GENERATION)


class TestTheFileOfARequest:
    def test_a_script_below_the_document_root_is_found(self, root):
        found = resolve(root + b"/x.lua", root)
        assert found == Script(root + b"/x.lua", root + b"/x.lua", root)
        assert found.directory == root

    def test_a_trailing_slash_of_the_root_does_not_matter(self, root):
        assert resolve(root + b"/x.lua", root + b"/") == resolve(root + b"/x.lua", root)

    @pytest.mark.parametrize("missing", ["SCRIPT_FILENAME", "DOCUMENT_ROOT"])
    def test_a_name_that_the_web_server_does_not_send_is_said(self, root, missing):
        names = {"SCRIPT_FILENAME": root + b"/x.lua", "DOCUMENT_ROOT": root, missing: b""}
        with pytest.raises(ScriptError, match=missing):
            resolve(*names.values())

    @pytest.mark.parametrize("name", [b"x", b"/", b"/a", b"x.lua", b"./x.lua", b"../x.lua", b".lua"])
    def test_names_that_are_short_or_relative_are_refused(self, root, name):
        with pytest.raises((ScriptNotFound, ScriptForbidden)):
            resolve(name, root)

    @pytest.mark.parametrize("name", [b"y.txt", b"y", b"y.lua.bak", b"y.LUA", b"lua"])
    def test_another_extension_is_forbidden(self, root, name):
        with open(os.path.join(root, name), "w"):
            pass
        with pytest.raises(ScriptForbidden, match="ScriptExtensions"):
            resolve(root + b"/" + name, root)

    def test_without_extensions_any_name_will_do(self, root):
        with open(root + b"/page", "w"):
            pass
        assert resolve(root + b"/page", root, extensions=()).path == root + b"/page"
        with pytest.raises(ScriptForbidden):
            resolve(root + b"/page", root, extensions=(".lua", ".lp"))

    def test_a_missing_script_is_not_found(self, root):
        for name in (b"/missing.lua", b"/missing/x.lua", b"/x.lua/y.lua", b"/" + b"n" * 5000 + b".lua"):
            with pytest.raises(ScriptNotFound):
                resolve(root + name, root)

    def test_a_script_outside_of_the_root_is_forbidden(self, root, tmp_path):
        (tmp_path / "out.lua").write_text("")
        (tmp_path / "www2").mkdir()
        (tmp_path / "www2" / "x.lua").write_text("")
        outside = os.fsencode(str(tmp_path))
        for name in (outside + b"/out.lua", root + b"/../out.lua", root + b"2/x.lua", root + b"/./../www2/x.lua"):
            with pytest.raises(ScriptForbidden, match="ScriptRoots"):
                resolve(name, root)

    def test_a_symbolic_link_out_of_the_root_is_forbidden(self, root, tmp_path):
        (tmp_path / "out.lua").write_text("")
        os.symlink(os.fsencode(str(tmp_path)) + b"/out.lua", root + b"/link.lua")
        os.symlink(os.fsencode(str(tmp_path)), root + b"/folder")
        for name in (b"/link.lua", b"/folder/out.lua"):
            with pytest.raises(ScriptForbidden):
                resolve(root + name, root)

    def test_a_symbolic_link_within_the_root_keeps_its_own_name(self, root):
        os.symlink(b"x.lua", root + b"/link.lua")
        assert resolve(root + b"/link.lua", root) == Script(root + b"/link.lua", root + b"/x.lua", root)

    def test_a_root_that_is_a_symbolic_link_will_do(self, root, tmp_path):
        link = os.fsencode(str(tmp_path)) + b"/current"
        os.symlink(root, link)
        assert resolve(link + b"/x.lua", link) == Script(link + b"/x.lua", root + b"/x.lua", link)

    def test_links_in_a_circle_are_not_found(self, root):
        os.symlink(b"a.lua", root + b"/b.lua")
        os.symlink(b"b.lua", root + b"/a.lua")
        with pytest.raises(ScriptNotFound):
            resolve(root + b"/a.lua", root)

    def test_script_roots_replace_the_document_root(self, root, tmp_path):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "y.lua").write_text("")
        roots = (os.fsdecode(root), str(tmp_path / "other"))
        assert resolve(root + b"/x.lua", b"/nonsense", roots=roots).root == b"/nonsense"
        assert resolve(os.fsencode(str(tmp_path)) + b"/other/y.lua", root, roots=roots)
        with pytest.raises(ScriptForbidden):
            resolve(root + b"/x.lua", root, roots=roots[1:])

    def test_dots_in_the_name_are_resolved_and_name_the_same_script(self, root):
        os.mkdir(root + b"/sub")
        plain = resolve(root + b"/x.lua", root)
        for name in (b"/./x.lua", b"/sub/../x.lua", b"//x.lua", b"/sub/.././/x.lua"):
            assert resolve(root + name, root) == plain

    def test_dots_behind_a_symbolic_link_never_give_one_file_the_name_of_another(self, root):
        os.makedirs(root + b"/real/deep")
        with open(root + b"/real/x.lua", "w"):
            pass
        os.symlink(b"real/deep", root + b"/link")
        found = resolve(root + b"/link/../x.lua", root)
        assert found.real == root + b"/real/x.lua"
        assert found.path != resolve(root + b"/x.lua", root).path

    def test_what_is_no_regular_file_is_not_found(self, root):
        os.mkdir(root + b"/folder.lua")
        os.mkfifo(root + b"/fifo.lua")
        for name in (b"/folder.lua", b"/fifo.lua"):
            with pytest.raises(ScriptNotFound, match="regular"):
                resolve(root + name, root)

    def test_a_nul_in_the_name_is_not_found(self, root):
        for name in (root + b"/x.lua\0.lua", root + b"\0/x.lua"):
            with pytest.raises(ScriptNotFound):
                resolve(name, root)

    def test_a_nul_in_the_document_root_is_forbidden(self, root):
        with pytest.raises(ScriptForbidden, match="document root"):
            resolve(root + b"/x.lua", root + b"\0")

    @pytest.mark.parametrize("prefix", [b"proxy:fcgi://127.0.0.1:9000", b"proxy:fcgi://localhost", b"proxy:fcgi://[::1]:9",
                                        b"proxy:unix:/run/x.sock|fcgi://localhost", b"proxy:fcgi://127.0.0.1:9000/"])
    def test_the_prefix_of_apache_is_taken_off(self, root, prefix):
        assert resolve(prefix + root + b"/x.lua", root) == Script(root + b"/x.lua", root + b"/x.lua", root)

    def test_names_need_not_be_utf8(self, root):
        with open(root + b"/\xff.lua", "w"):
            pass
        assert resolve(root + b"/\xff.lua", root).path == root + b"/\xff.lua"
        with pytest.raises(ScriptNotFound):
            resolve(root + b"/\xfe.lua", root)


class TestAnswersAreKept:
    def test_for_the_time_given_then_looked_up_again(self, root):
        finder = resolver()
        found = finder.resolve(root + b"/x.lua", root, NOW, GENERATION)
        os.unlink(root + b"/x.lua")
        assert finder.resolve(root + b"/x.lua", root, NOW + KEEP - 0.1, GENERATION) is found
        with pytest.raises(ScriptNotFound):
            finder.resolve(root + b"/x.lua", root, NOW + KEEP + 0.1, GENERATION)

    def test_until_the_generation_moves(self, root):
        finder = resolver()
        finder.resolve(root + b"/x.lua", root, NOW, GENERATION)
        os.unlink(root + b"/x.lua")
        with pytest.raises(ScriptNotFound):
            finder.resolve(root + b"/x.lua", root, NOW, GENERATION + 1)

    def test_but_not_that_there_is_none(self, root):
        finder = resolver()
        with pytest.raises(ScriptNotFound):
            finder.resolve(root + b"/new.lua", root, NOW, GENERATION)
        with open(root + b"/new.lua", "w"):
            pass
        assert finder.resolve(root + b"/new.lua", root, NOW, GENERATION)

    def test_for_a_bounded_number_of_names(self, root):
        finder = resolver()
        for number in range(MAX_NAMES + 10):
            finder.resolve(root + b"/x.lua", b"/%d/.." % number + root, NOW, GENERATION)
        assert len(finder._known) <= MAX_NAMES


def bump(path, seconds=10):
    """Give a file another time."""
    status = os.stat(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + seconds * 10**9))


def write(path, text):
    """An edit in place, whose time differs for sure."""
    before = os.stat(path).st_mtime_ns if os.path.exists(path) else 0
    with open(path, "w") as file:
        file.write(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


@pytest.fixture(params=[True, False], ids=["checksum", "no checksum"])
def checksum(request):
    return request.param


@pytest.fixture
def version(engine, root, checksum):
    """make(startup): a version whose code was loaded."""
    def make(startup=""):
        made = Version(engine, Script(root + b"/x.lua", root + b"/x.lua", root), startup, checksum)
        made.code()
        made.startup()
        return made
    return make


class TestChanges:
    def test_an_untouched_file_has_not_changed(self, version):
        assert not version().changed()

    def test_an_edit_is_a_change(self, version, root):
        made = version()
        write(root + b"/x.lua", "function main() return end")
        assert made.changed() and made.changed()

    def test_an_edit_of_the_same_size_is_a_change(self, version, root):
        made = version()
        write(root + b"/x.lua", "function main() en ")
        assert made.changed()

    def test_another_file_put_in_place_is_a_change(self, version, root):
        made = version()
        status = os.stat(root + b"/x.lua")
        with open(root + b"/new", "w") as file:
            file.write("function main() en ")
        os.utime(root + b"/new", ns=(status.st_atime_ns, status.st_mtime_ns))
        os.rename(root + b"/new", root + b"/x.lua")
        assert made.changed()

    def test_a_touch_is_a_change_only_without_checksum(self, version, root, checksum):
        made = version()
        bump(root + b"/x.lua")
        assert made.changed() is (not checksum)
        if checksum:
            assert not made.changed()
            write(root + b"/x.lua", "function main() en ")
            assert made.changed()

    def test_a_deleted_script_is_not_found(self, version, root):
        made = version()
        os.unlink(root + b"/x.lua")
        with pytest.raises(ScriptNotFound):
            made.changed()

    def test_an_edited_module_is_a_change(self, version, root):
        made = version()
        write(root + b"/m.lua", "return 1")
        assert made.module(root + b"/m.lua")
        assert not made.changed()
        write(root + b"/m.lua", "return 2")
        assert made.changed()

    def test_a_deleted_module_is_a_change(self, version, root):
        made = version()
        write(root + b"/m.lua", "return 1")
        made.module(root + b"/m.lua")
        os.unlink(root + b"/m.lua")
        assert made.changed()

    def test_a_module_that_was_missing_and_comes_is_a_change(self, version, root):
        made = version()
        assert made.module(root + b"/m.lua") is None
        assert made.module(root + b"/sub/m.lua") is None
        assert not made.changed()
        os.mkdir(root + b"/sub")
        assert not made.changed()
        write(root + b"/sub/m.lua", "return 1")
        assert made.changed()

    def test_a_folder_named_like_a_module_is_no_change(self, version, root):
        made = version()
        os.mkdir(root + b"/m.lua")
        assert made.module(root + b"/m.lua") is None
        assert not made.changed() and not made.changed()

    def test_a_module_that_does_not_compile_is_watched(self, version, root):
        made = version()
        write(root + b"/m.lua", "return return")
        with pytest.raises(ScriptError):
            made.module(root + b"/m.lua")
        assert not made.changed()
        write(root + b"/m.lua", "return 1")
        assert made.changed()

    def test_a_script_that_does_not_compile_is_watched(self, engine, root, checksum):
        write(root + b"/x.lua", "function main(")
        made = Version(engine, Script(root + b"/x.lua", root + b"/x.lua", root), "", checksum)
        with pytest.raises(ScriptError):
            made.code()
        assert not made.changed()
        write(root + b"/x.lua", "function main() end")
        assert made.changed()

    def test_an_edited_startup_script_is_a_change(self, version, tmp_path):
        path = tmp_path / "startup.lua"
        path.write_text("A = 1")
        made = version(str(path))
        assert made.startup() and made.startup_name() == b"@" + os.fsencode(str(path))
        assert not made.changed()
        write(str(path), "A = 2")
        assert made.changed()

    def test_a_missing_startup_script_is_no_error_and_watched(self, version, tmp_path):
        path = tmp_path / "startup.lua"
        made = version(str(path))
        assert made.startup() is None
        assert not made.changed()
        path.write_text("A = 1")
        assert made.changed()

    def test_a_watched_file_is_a_change(self, version, root):
        made = version()
        write(root + b"/data.lua", "return 1")
        made.watch(root + b"/data.lua")
        made.watch(root + b"/data.lua")
        made.watch(root + b"/missing.lua")
        assert not made.changed()
        write(root + b"/missing.lua", "return 1")
        assert made.changed()

    def test_what_is_no_file_is_watched_without_being_read(self, version, root):
        made = version()
        os.mkfifo(root + b"/fifo")
        made.watch(root + b"/fifo")
        made.watch(root)
        assert not made.changed()

    def test_a_name_with_nul_is_no_module(self, version, root):
        made = version()
        assert made.module(root + b"/m\0.lua") is None
        assert not made.changed()


class TestCode:
    def test_is_read_once(self, version, root):
        made = version()
        code = made.code()
        write(root + b"/x.lua", "not lua at all")
        os.unlink(root + b"/x.lua")
        assert made.code() is code

    def test_of_a_script_that_is_gone_is_not_found(self, engine, root):
        for name in (b"/gone.lua", b"/x.lua/y.lua"):
            with pytest.raises(ScriptNotFound):
                Version(engine, Script(root + name, root + name, root)).code()

    def test_names_the_script_as_the_web_server_does(self, engine, root):
        write(root + b"/x.lua", "\n\nfunction main(")
        with pytest.raises(ScriptError, match=r"^/site/x.lua:3: "):
            Version(engine, Script(b"/site/x.lua", root + b"/x.lua", root)).code()

    def test_that_may_not_be_read_is_forbidden_until_it_may(self):
        here = os.path.abspath(__file__)
        package = os.path.dirname(os.path.dirname(os.path.dirname(here)))
        # pytest's own temporary directories are closed to the user that the program becomes.
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([sys.executable, here, folder], env=dict(os.environ, PYTHONPATH=package),
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            os.chmod(folder, 0o700)
        assert done.returncode == 0, done.stdout.decode()


def as_nobody(root):
    """Run without root's right to read everything."""
    engine = Engine("5.3", c_modules=False)
    path = root + b"/x.lua"
    write(path, "function main() end")
    if not os.getuid():
        os.chown(root, 65534, 65534)
        os.chown(path, 65534, 65534)
        os.setuid(65534)
    os.chmod(path, 0)
    version = Version(engine, resolve(path, root))
    with pytest.raises(ScriptForbidden):
        version.code()
    assert not version.changed()
    os.chmod(path, 0o600)
    assert version.changed()
    os.chmod(root, 0)
    with pytest.raises(ScriptForbidden):
        resolve(path, root)


if __name__ == "__main__":
    as_nobody(os.fsencode(sys.argv[1]))
