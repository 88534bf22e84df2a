"""luafcgid2ctl lint, new and repl: what whoever writes scripts runs, as processes."""
from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys

import pytest
from harness import ROOT, Site, free_port, program, wait_until
from servers import LIGHTTPD, NGINX, Lighttpd, Master, Nginx

from luafcgid2.runtime import Engine

PROBLEMS, UNUSABLE = 1, 2
needs_luacheck = pytest.mark.skipif(not shutil.which("luacheck"), reason="lua-check is not installed")


def ctl(*words, cwd="/", typed="", **environment):
    """Run the control program, with what is typed on its standard input."""
    return subprocess.run([sys.executable, "-m", "luafcgid2.ctl", *words], text=True, input=typed, timeout=120, cwd=cwd,
                          env=dict(os.environ, PYTHONPATH=ROOT, **environment), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)


def config(site, text=""):
    return site.write("../run/config.lua", text)


class TestLint:
    def test_a_clean_folder_is_0(self, site):
        site.write("one/index.lua", "function main(env) Send(env.URI, Shared.n, Session.x, lf.urlencode('x')) end")
        done = ctl("-c", config(site), "lint", os.path.join(site.www, "one"))
        assert (done.returncode, done.stderr) == (0, "") and "1 file, no problem" in done.stdout

    @pytest.mark.parametrize("version", Engine.versions())
    def test_a_syntax_error_is_named_with_file_and_line(self, site, version):
        path = site.write("a-very-long-name-" * 5 + "/bad.lua", "local x\nfunction main(\n")
        done = ctl("-c", config(site, "LuaVersion = '%s'" % version), "lint", os.path.dirname(path))
        assert done.returncode == PROBLEMS
        assert done.stdout.startswith(os.path.relpath(os.path.realpath(path), "/") + ":")

    def test_the_lua_of_the_server_decides_what_is_an_error(self, site):
        folder = os.path.dirname(site.write("one/new.lua", "local x = 3 // 2\nfunction main() Send(x) end"))
        assert ctl("-c", config(site, "LuaVersion = '5.1'"), "lint", folder).returncode == PROBLEMS
        assert ctl("-c", config(site, "LuaVersion = '5.3'"), "lint", folder).returncode == 0

    @needs_luacheck
    def test_accidental_globals_are_named_and_those_of_the_server_and_of_startup_are_not(self, site):
        startup = site.write("startup.lua", "function helper() end")
        path = site.write("one/index.lua", "function main()\n  cuont = helper()\n  Send(coutn)\nend")
        done = ctl("-c", config(site, "StartupScript = '%s'" % startup), "lint", os.path.dirname(path))
        path = os.path.relpath(os.path.realpath(path), "/")
        assert done.returncode == PROBLEMS and done.stdout.splitlines() == [
            path + ":2: setting non-standard global variable 'cuont'",
            path + ":3: accessing undefined variable 'coutn'", "1 file, 2 problems"]

    @needs_luacheck
    def test_the_entry_point_is_the_one_of_the_configuration(self, site):
        folder = os.path.dirname(site.write("one/index.lua", "function handle() end"))
        assert ctl("-c", config(site, "Entrypoint = 'handle'"), "lint", folder).returncode == 0
        assert ctl("-c", config(site), "lint", folder).returncode == PROBLEMS

    def test_an_authorizer_is_no_accident(self, site: Site) -> None:
        folder = os.path.dirname(site.write("auth/a.lua", "function authorize(env) return env.HTTP_X == 'y' end\n"))
        assert ctl("-c", config(site), "lint", folder).returncode == 0

    def test_without_luacheck_it_says_that_globals_were_not_looked_for(self, site):
        folder = os.path.dirname(site.write("one/index.lua", "function main() oops = 1 end"))
        done = ctl("-c", config(site), "lint", folder, PATH="/nonexistent")
        assert done.returncode == 0 and "luacheck is not installed" in done.stdout

    @pytest.mark.parametrize("folder", ["nonexistent", "empty"])
    def test_nothing_to_look_at_is_2(self, site, folder):
        os.mkdir(os.path.join(site.www, "empty"))
        done = ctl("-c", config(site), "lint", os.path.join(site.www, folder))
        assert done.returncode == UNUSABLE and folder in done.stderr and not done.stdout

    def test_a_configuration_that_cannot_be_used_is_2(self, site):
        assert ctl("-c", config(site, "Workers = 'many'"), "lint", site.www).returncode == UNUSABLE

    def test_no_script_runs(self, site):
        path = site.write("one/index.lua", "io.open('%s/ran', 'w'):close()\nfunction main() end" % site.run)
        assert ctl("-c", config(site), "lint", os.path.dirname(path)).returncode == 0
        assert not os.path.exists(site.run + "/ran")

    def test_without_a_folder_it_looks_at_script_roots(self, site):
        path = site.write("one/index.lua", "function (")
        done = ctl("-c", config(site, "ScriptRoots = {'%s'}" % os.path.dirname(path)), "lint")
        assert done.returncode == PROBLEMS and "one/index.lua:1:" in done.stdout


@pytest.fixture(scope="class")
def made():
    """A server, and a site made for it."""
    with Site() as site, Master(site) as master:
        done = ctl("-c", master.config, "new", "blog", cwd=site.run)
        assert (done.returncode, done.stderr) == (0, "")
        for name in ("www/index.lua", "nginx.conf", "lighttpd.conf"):
            assert os.path.exists(os.path.join(site.run, "blog", name)) and name in done.stdout
        site.blog, site.master = os.path.join(site.run, "blog"), master
        yield site


class TestNew:
    def test_the_script_has_no_problem(self, made):
        done = ctl("-c", config(made), "lint", made.blog)
        assert done.returncode == 0, done.stdout

    def test_nginx_serves_it_with_the_snippet(self, made):
        class New(Nginx):
            def __init__(self):
                super().__init__(made, made.master)
                with open(os.path.join(made.blog, "nginx.conf")) as file:
                    text = file.read()
                assert text.count("listen 80;") == 1
                with open(os.path.join(made.run, "nginx.conf"), "w") as file:
                    file.write(NGINX % {"user": "user root;" if os.geteuid() == 0 else "", "run": made.run,
                                        "log": self.log,
                                        "servers": text.replace("listen 80;", "listen 127.0.0.1:%d;" % self.port)})
        with New() as nginx:
            assert b"<h1>Hello, &lt;b&gt;!</h1>" in nginx.request("/?name=%3Cb%3E").body
            assert b"<h1>Hello, world!</h1>" in nginx.request("/index.lua?name=1&name=2").body
            assert nginx.request("/none.lua").status == 404

    def test_lighttpd_serves_it_with_the_snippet(self, made):
        class New(Lighttpd):
            def __init__(self):
                super(Lighttpd, self).__init__()
                self.log, self.port = os.path.join(made.run, "lighttpd-error.log"), free_port()
                self.address = ("127.0.0.1", self.port)
                conf = os.path.join(made.run, "lighttpd.conf")
                with open(conf, "w") as file:
                    file.write(LIGHTTPD % {"www": made.www, "run": made.run, "port": self.port, "log": self.log,
                                           "snippet": os.path.join(made.blog, "lighttpd.conf")})
                self.argv = [program("lighttpd"), "-D", "-f", conf]
        with New() as lighttpd:
            answer = lighttpd.request("/?name=%3Cb%3E", headers={"Host": "blog.example.org"})
            assert b"<h1>Hello, &lt;b&gt;!</h1>" in answer.body

    def test_nothing_is_overwritten(self, site):
        kept = site.write("shop/nginx.conf", "mine")
        done = ctl("-c", config(site), "new", "shop", cwd=site.www)
        assert done.returncode == 1 and "nginx.conf is there already" in done.stderr
        assert open(kept).read() == "mine" and os.listdir(os.path.dirname(kept)) == ["nginx.conf"]

    @pytest.mark.parametrize("name", ["a b", "x;y", "-x", '"', "ö"])
    def test_a_name_that_no_host_can_have_is_refused(self, site, name):
        done = ctl("-c", config(site), "new", "--", name, cwd=site.www)
        assert done.returncode == 1 and "not a name" in done.stderr and not os.path.exists(os.path.join(site.www, name))

    @pytest.mark.parametrize("listen, nginx, lighttpd", [
        ("127.0.0.1:9000", "fastcgi_pass 127.0.0.1:9000;", '"host" => "127.0.0.1", "port" => 9000'),
        (":9000", "fastcgi_pass 127.0.0.1:9000;", '"host" => "127.0.0.1", "port" => 9000'),
        ("/run/x.sock", "fastcgi_pass unix:/run/x.sock;", '"socket" => "/run/x.sock"')])
    def test_the_snippets_name_the_address_of_the_server(self, site, listen, nginx, lighttpd):
        assert ctl("-c", config(site, "Listen = '%s'" % listen), "new", "blog", cwd=site.www).returncode == 0
        assert nginx in open(site.www + "/blog/nginx.conf").read()
        assert lighttpd in open(site.www + "/blog/lighttpd.conf").read()


SCRIPT = """\
Global = { n = 1 }
local hidden = 41
function answer() return hidden + 1 end
function main(env) Send("you asked " .. env.QUERY_STRING .. Receive()) end
"""


class TestRepl:
    @pytest.fixture
    def repl(self, site):
        """What a prompt of SCRIPT prints, and its exit code."""
        path = site.write("x.lua", SCRIPT)

        def run(typed, *words, version="5.3", more=""):
            text = "LuaVersion = '%s'\nSessionStore = 'sqlite:///%s/s.db'\n" % (version, site.run) + more
            done = ctl("-c", config(site, text), "repl", path, *words, typed=typed)
            assert not done.stderr, done.stderr
            return done.stdout, done.returncode
        return run

    @pytest.mark.parametrize("version", Engine.versions())
    def test_expressions_print_their_values_in_every_lua(self, repl, version):
        typed = '1 + 1\nanswer()\n"a\\n\\"b"\nnil, false\nGlobal\n= 7\n' \
                '{ 1, "x", [10] = {}, k = { true } }\nlocal x = 1\n'
        assert repl(typed, version=version) == (
            '2\n42\n"a\\n\\"b"\nnil\tfalse\n{ n = 1 }\n7\n{ 1, "x", [10] = {}, k = { true } }\n', 0)

    @pytest.mark.parametrize("version", Engine.versions())
    def test_a_piece_goes_on_until_it_is_complete(self, repl, version):
        typed = "for i = 1, 3 do\n  Send(i)\nend\nfunction f()\n\n  return [[a\nb]]\nend\nf()\n"
        assert repl(typed, version=version) == ('123\n"a\\nb"\n', 0)

    def test_globals_stay_and_the_entry_point_can_be_called_and_replaced(self, repl):
        typed = "n = Global.n + 1\nn\nmain(Env)\nfunction main() Send('new') end\nmain()\nmain()\n"
        assert repl(typed, "--env", "QUERY_STRING=q") == ("2\nyou asked q\nnew\nnew\n", 0)

    def test_env_and_body_are_those_of_the_fake_request(self, repl):
        typed = "Env.REQUEST_METHOD\nmain(Env)\n" \
                ".env QUERY_STRING=other=1\n.body more\nmain(Env)\n.env QUERY_STRING=\nEnv.QUERY_STRING\n"
        assert repl(typed, "--env", "QUERY_STRING=q=1", "--body", "posted") == (
            '"POST"\nyou asked q=1posted\nyou asked other=1more\nnil\n', 0)

    def test_an_error_shows_where_and_does_not_end_it(self, repl):
        text, code = repl("main(nil)\nx = = 1\n1\n")
        assert "x.lua:4: attempt to index a nil value" in text and "stack traceback" in text
        assert "unexpected symbol near '='" in text and text.endswith("\n1\n") and code == 1

    def test_a_session_lasts_from_line_to_line(self, repl):
        assert repl("Session.n = 5\nSession.n\n", more="SessionCookieSecure = false\n")[0].endswith("5\n")

    def test_print_log_and_exit_are_those_of_a_request(self, repl):
        assert repl("print('a', 1)\nLog('logged')\nos.exit()\n2\n") == ("a\t1\nlogged\n2\n", 0)

    def test_a_piece_without_an_end_is_told(self, repl):
        text, code = repl("function f()\n")
        assert "has no end" in text and code == 1

    def test_a_script_that_does_not_load_is_told(self, site):
        path = site.write("x.lua", "error('top level')")
        done = ctl("-c", config(site), "repl", path)
        assert done.returncode == 1 and "x.lua:1: top level" in done.stderr and "Traceback (most" not in done.stderr

    def test_a_wsapi_application_has_a_prompt_too(self, site):
        path = site.write("app.lua", "n = 3\nreturn function() return 200, {}, function() end end")
        done = ctl("-c", config(site), "repl", path, typed="n + 1\nEnv.SCRIPT_NAME\n")
        assert (done.stdout, done.returncode) == ('4\n"/app.lua"\n', 0)

    def test_a_script_that_streams_can_be_tried(self, repl):
        assert repl("Send('a')\nfor i = 1, 2 do Send(i) Flush() end\n3\n") == ("a\n12\n3\n", 0)

    def test_reload_begins_anew(self, repl):
        assert repl("n = 1\n.reload\nn\n") == ("nil\n", 0)

    def test_a_terminal_has_prompts_a_history_and_ctrl_c(self, site):
        path = site.write("x.lua", SCRIPT)
        ours, theirs = pty.openpty()
        child = subprocess.Popen([sys.executable, "-m", "luafcgid2.ctl", "-c", config(site), "repl", path],
                                 stdin=theirs, stdout=theirs, stderr=theirs, cwd="/", start_new_session=True,
                                 env=dict(os.environ, PYTHONPATH=ROOT, HOME=site.run, TERM="dumb"))
        os.close(theirs)
        text = b""

        def until(expected, sent=b""):
            nonlocal text
            os.write(ours, sent)
            while expected not in text:
                text += os.read(ours, 4096)
            text = text[text.index(expected) + len(expected):]
        try:
            until(b"> ")
            until(b"42\r\n", b"answer()\n")
            until(b">> ", b"for i = 1, 2 do\n")
            until(b"> ", b"end\n")
            until(b"while true do end\r\n", b"while true do end\n")
            wait_until(lambda: running(child.pid), "the loop runs")
            os.kill(child.pid, signal.SIGINT)
            until(b"interrupted")
            until(b"> ")
            os.write(ours, b"\x04")
            assert child.wait(60) == 0
        finally:
            child.kill()
            child.wait()
            os.close(ours)
        assert "answer()" in open(os.path.join(site.run, ".luafcgid2_history")).read()


def running(pid):
    """Whether a thread beside the main one works."""
    def state(task):
        with open("/proc/%d/task/%s/stat" % (pid, task)) as file:
            return file.read().rpartition(")")[2].split()[0]
    return any(state(task) == "R" for task in os.listdir("/proc/%d/task" % pid) if int(task) != pid)
