# luafcgid2.  `make run` serves examples/, `make test` runs every test; `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
# make run: where the development front listens, and what it serves.
HTTP ?= 127.0.0.1:8080
SITE ?= examples
# make test: which tests, and more options of pytest.
TESTS ?= tests
ARGS ?=
# make test: processes that run tests.  Most tests wait for something, so one more than there are cores.
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1) + 1)
# make fuzz: options of tests/fuzz/guided.py.
FUZZ ?=
# make bench: options of benchmarks/bench.py; make bench-sessions: of benchmarks/sessions.py; make bench-idle: of
# idle.py; make bench-states: of states.py; make soak: of soak.py.
BENCH ?=
# make install: DESTDIR is the root of a package being built.
PREFIX ?= /usr/local
DESTDIR ?=
SYSCONFDIR ?= /etc
LOCALSTATEDIR ?= /var
EXTRAS ?= redis,doctor,top,forms

# What the fast path is compiled with.
C_PACKAGES = gcc libc6-dev python3-dev
DEB_PACKAGES = $(C_PACKAGES) debhelper dpkg-dev python3 python3-venv
LINT_PACKAGES = lua-check shellcheck
TEST_PACKAGES = $(DEB_PACKAGES) $(LINT_PACKAGES) $(BENCH_PACKAGES) chromium chromium-driver curl faketime fish \
	groff iproute2 lighttpd logrotate lua-cgi lua-cosmo lua-coxpcall lua-filesystem lua-lpeg lua-orbit lua-rings \
	lua-sql-sqlite3 man-db mandoc openssl spawn-fcgi strace systemd zsh
# php-fpm comes with its opcache.
BENCH_PACKAGES = $(C_PACKAGES) libfcgi-dev libnginx-mod-http-lua lua-cjson lua-socket lua-wsapi lua-wsapi-fcgi nginx \
	php-fpm procps redis-server uwsgi-core uwsgi-plugin-lua5.1 wrk

# One stamp per Python: another PYTHON makes the virtualenv anew, and so all that is in it.
PYVERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
# Two builds of one version differ, too: in speed, and in what was compiled for them.
PYBUILD := $(shell $(PYTHON) -c 'import sys, zlib; print("%08x" % zlib.crc32(sys.base_prefix.encode()))' 2>/dev/null)
MADE = $(VENV)/made-with-python-$(PYVERSION)-$(PYBUILD)
PACKAGED = setup.cfg setup.py luafcgid2/__init__.py $(wildcard luafcgid2/native/*)
SOURCES = LICENSE README.rst setup.cfg setup.py
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
NO_WHEEL = { echo "pip failed. Without a ready-made lupa for this machine (a Pi Zero or Pi 1) it compiles:" \
	"sudo apt-get install gcc python3-dev"; exit 1; } >&2

# What an administrator edits, as FILE-IN-ETC:PLACE; never overwritten.  Nothing of it is in effect before nginx
# or lighttpd is told to use it.
KEPT_FILES = config.lua:luafcgid2/config.lua default/luafcgid2:default/luafcgid2 \
	logrotate.d/luafcgid2:logrotate.d/luafcgid2 \
	nginx/luafcgid2.conf:nginx/snippets/luafcgid2.conf \
	nginx/luafcgid2-upstream.conf:nginx/conf.d/luafcgid2-upstream.conf \
	lighttpd/luafcgid2.conf:lighttpd/conf-available/15-luafcgid2.conf
HOME_DIR = $(PREFIX)/lib/luafcgid2
SHARE_DIR = $(PREFIX)/share/luafcgid2
STAGED = $(DESTDIR)$(HOME_DIR)
# Where the shells look for completions; Debian's packages use another folder for zsh.
BASH_DIR = $(PREFIX)/share/bash-completion/completions
FISH_DIR = $(PREFIX)/share/fish/vendor_completions.d
ZSH_DIR = $(PREFIX)/share/zsh/site-functions
# What is made from the installed program, as FILE:PLACE.
MADE_FILES = luafcgid2.8:$(PREFIX)/share/man/man8/luafcgid2.8 \
	luafcgid2ctl.8:$(PREFIX)/share/man/man8/luafcgid2ctl.8 \
	luafcgid2-config.5:$(PREFIX)/share/man/man5/luafcgid2-config.5 \
	luafcgid2.bash:$(BASH_DIR)/luafcgid2 luafcgid2ctl.bash:$(BASH_DIR)/luafcgid2ctl \
	luafcgid2.fish:$(FISH_DIR)/luafcgid2.fish luafcgid2ctl.fish:$(FISH_DIR)/luafcgid2ctl.fish \
	luafcgid2.zsh:$(ZSH_DIR)/_luafcgid2 luafcgid2ctl.zsh:$(ZSH_DIR)/_luafcgid2ctl
# For systemd, as FILE-IN-ETC:PLACE.
SYSTEMD_FILES = systemd/luafcgid2.service:$(PREFIX)/lib/systemd/system/luafcgid2.service \
	systemd/luafcgid2.socket:$(PREFIX)/lib/systemd/system/luafcgid2.socket \
	sysusers.d/luafcgid2.conf:$(PREFIX)/lib/sysusers.d/luafcgid2.conf \
	tmpfiles.d/luafcgid2.conf:$(PREFIX)/lib/tmpfiles.d/luafcgid2.conf
MADE_HERE = build/man
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' luafcgid2/__init__.py)

.DEFAULT_GOAL = help
.PHONY: help run docs test fuzz lint coverage bench bench-sessions bench-idle bench-states soak sample man deb install uninstall clean python

help:
	@echo 'make run        serve $(SITE)/ on http://$(HTTP)   (HTTP=host:port SITE=folder)'
	@echo 'make test       install what the tests need, run them   (TESTS=tests/unit ARGS=-x JOBS=0)'
	@echo 'make fuzz       hostile input for the decoders and a server   (FUZZ="--seconds 600 params")'
	@echo 'make lint       ruff, mypy, bandit, luacheck, shellcheck; make test does so, too'
	@echo 'make coverage   every test, and which lines of the package none reaches'
	@echo 'make bench      against a bare C responder, php-fpm, uWSGI and others   (BENCH="--workload session", BENCH=--all)'
	@echo 'make bench-sessions   what a session costs among 100 and among 100,000 others'
	@echo 'make bench-states   what a Lua state costs, and a request that finds none (BENCH="--versions 5.3")'
	@echo 'make bench-idle   what requests cost beside a thousand idle and trickling connections'
	@echo 'make soak       ten minutes of mixed load with kills   (BENCH="--seconds 3600")'
	@echo 'make sample     write etc/config.lua and the tables in README.rst and docs from the table of options'
	@echo 'make man        the manual pages, in $(MADE_HERE)'
	@echo 'make docs       the documentation as a site: build/docs/index.html'
	@echo 'make deb        a Debian package, in dist'
	@echo 'make install    into $(PREFIX) and $(SYSCONFDIR)   (DESTDIR= PREFIX= EXTRAS=redis,doctor)'
	@echo 'make uninstall  remove the programs; configuration, sessions and logs stay'
	@echo 'make clean      remove the virtualenv and everything built'

run: $(VENV)/serve
	@exec $(VENV)/bin/luafcgid2 serve '$(SITE)' --http '$(HTTP)'

test:
	@.ci/apt $(TEST_PACKAGES)
	@$(MAKE) --no-print-directory $(VENV)/test
	@$(MAKE) --no-print-directory $(VENV)/lint || echo 'no make lint on this machine: tests/unit/test_checks.py is skipped'
	@exec $(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile --timeout=300 $(ARGS) $(TESTS)

fuzz: $(VENV)/fuzz
	@exec $(VENV)/bin/python tests/fuzz/guided.py $(FUZZ)

lint:
	@.ci/apt $(LINT_PACKAGES)
	@$(MAKE) --no-print-directory $(VENV)/lint
	@exec $(VENV)/bin/python tests/checks.py

# Everybody may write to the folder: workers of a master that root started do.
coverage:
	@.ci/apt $(TEST_PACKAGES)
	@$(MAKE) --no-print-directory $(VENV)/test $(VENV)/coverage
	@rm -rf build/coverage
	@install -d -m 1777 build/coverage
	$(VENV)/bin/python -m coverage run -m pytest -n $(JOBS) --dist loadfile --timeout=300 $(ARGS) $(TESTS)
	@$(VENV)/bin/python -m coverage combine --quiet
	@exec $(VENV)/bin/python -m coverage report

bench:
	@.ci/apt $(BENCH_PACKAGES)
	@$(MAKE) --no-print-directory $(VENV)/bench
	@exec $(VENV)/bin/python benchmarks/bench.py $(BENCH)

bench-sessions:
	@.ci/apt redis-server
	@$(MAKE) --no-print-directory $(VENV)/bench
	@exec $(VENV)/bin/python benchmarks/sessions.py $(BENCH)

bench-idle:
	@$(MAKE) --no-print-directory $(VENV)/bench
	@exec $(VENV)/bin/python benchmarks/idle.py $(BENCH)

bench-states:
	@$(MAKE) --no-print-directory $(VENV)/bench
	@exec $(VENV)/bin/python benchmarks/states.py $(BENCH)

soak: $(VENV)/bench
	@exec $(VENV)/bin/python benchmarks/soak.py $(BENCH)

sample: $(VENV)/serve
	$(VENV)/bin/python -m luafcgid2.reference sample >etc/config.lua.new
	mv etc/config.lua.new etc/config.lua
	$(VENV)/bin/python -m luafcgid2.reference readme >README.rst.new
	mv README.rst.new README.rst
	$(VENV)/bin/python -m luafcgid2.reference security >docs/security.rst.new
	mv docs/security.rst.new docs/security.rst

man: $(VENV)/serve
	@mkdir -p '$(MADE_HERE)'
	$(VENV)/bin/python -m luafcgid2.manual '$(MADE_HERE)'

# A warning is an error, and so is a link that leads nowhere.
docs: $(VENV)/docs
	$(VENV)/bin/python -m sphinx -q -W -n --keep-going -b html -d build/docs-cache docs build/docs
	@echo 'Built: build/docs/index.html'

# The package holds a virtualenv of Debian's own Python.  It is built in a copy, since dpkg wants debian/ on top.
deb:
	@.ci/apt $(DEB_PACKAGES)
	rm -rf build/deb
	mkdir -p build/deb/luafcgid2 dist
	cp -R .ci Makefile $(SOURCES) luafcgid2 etc examples init.d build/deb/luafcgid2/
	mv build/deb/luafcgid2/etc/debian build/deb/luafcgid2/debian
	sed -i "s/@VERSION@/$(VERSION)/; s/@DATE@/$$(date -R -d "@$${SOURCE_DATE_EPOCH:-$$( \
		git log -1 --format=%ct 2>/dev/null || date +%s)}")/" build/deb/luafcgid2/debian/changelog
	cd build/deb/luafcgid2 && env -u MAKEFLAGS -u MAKELEVEL -u DESTDIR -u PREFIX dpkg-buildpackage --build=binary --no-sign
	mv build/deb/*.deb dist/
	rm -rf build/deb

# The interpreter is the one thing that cannot be installed by a rule of its own.
python:
	@test -n '$(PYVERSION)' || { echo "$(PYTHON) does not run: sudo apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || \
		{ echo "luafcgid2 needs Python 3.9 or newer; $(PYTHON) is $(PYVERSION)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || .ci/apt python3-venv
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make virtualenvs: sudo apt-get install python3-venv" >&2; exit 1; }

$(MADE):
	@$(MAKE) --no-print-directory python
	$(PYTHON) -m venv --clear '$(VENV)'
	@touch '$@'

$(VENV)/serve: $(MADE) $(PACKAGED)
	$(PIP) install --quiet --editable '.[serve,forms]' || $(NO_WHEEL)
	@touch '$@'

$(VENV)/test: $(MADE) $(PACKAGED)
	$(PIP) install --quiet --editable '.[serve,forms,test,docs]' || $(NO_WHEEL)
	@touch '$@' '$(VENV)/serve'

# atheris has wheels for some Pythons on x86-64 only; without it the inputs are not guided by coverage.
$(VENV)/fuzz: $(VENV)/test
	$(PIP) install --quiet --only-binary=atheris --editable '.[serve,forms,test,fuzz]' || echo 'no atheris for this Python'
	@touch '$@'

$(VENV)/bench: $(MADE) $(PACKAGED)
	$(PIP) install --quiet --editable '.[serve,forms,redis]' || $(NO_WHEEL)
	@touch '$@' '$(VENV)/serve'

$(VENV)/lint: $(MADE) $(PACKAGED)
	$(PIP) install --quiet --editable '.[serve,forms,redis,doctor,lint]'
	@touch '$@' '$(VENV)/serve'

$(VENV)/docs: $(MADE) $(PACKAGED)
	$(PIP) install --quiet --editable '.[serve,forms,docs]' || $(NO_WHEEL)
	@touch '$@' '$(VENV)/serve'

$(VENV)/coverage: $(MADE) $(PACKAGED)
	$(PIP) install --quiet --editable '.[coverage]'
	@touch '$@'

# A virtualenv of its own, because Debian's Python refuses packages of pip.  It is built beside the old one
# and then moved, so that a failure leaves what was there; what names the building place is rewritten.  The
# package is built from a copy: a build in the checkout would leave root's files there.
install: python
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/lib'
	rm -rf '$(STAGED).new' '$(STAGED).old'
	$(PYTHON) -m venv '$(STAGED).new'
	mkdir '$(STAGED).new/source'
	cp -R luafcgid2 $(SOURCES) '$(STAGED).new/source/'
	'$(STAGED).new/bin/python' -m pip --disable-pip-version-check install --quiet \
		'$(STAGED).new/source$(if $(EXTRAS),[$(EXTRAS)])' || $(NO_WHEEL)
	rm -rf '$(STAGED).new/source'
	mkdir '$(STAGED).new/made'
	'$(STAGED).new/bin/python' -I -m luafcgid2.manual '$(STAGED).new/made'
	set -e; for shell in bash fish zsh; do \
		_LUAFCGID2_COMPLETE=$${shell}_source '$(STAGED).new/bin/luafcgid2' >'$(STAGED).new/made/luafcgid2.'$$shell; \
		_LUAFCGID2CTL_COMPLETE=$${shell}_source '$(STAGED).new/bin/luafcgid2ctl' >'$(STAGED).new/made/luafcgid2ctl.'$$shell; \
	done
	set -e; for pair in $(MADE_FILES); do \
		install -D -m 644 "$(STAGED).new/made/$${pair%%:*}" "$(DESTDIR)$${pair#*:}"; done
	rm -rf '$(STAGED).new/made'
	grep -rlI -F '$(STAGED).new' '$(STAGED).new/bin' '$(STAGED).new/pyvenv.cfg' | \
		xargs sed -i 's|$(STAGED)\.new|$(HOME_DIR)|g'
	test ! -e '$(STAGED)' || mv '$(STAGED)' '$(STAGED).old'
	mv '$(STAGED).new' '$(STAGED)'
	rm -rf '$(STAGED).old'
	ln -sf '$(HOME_DIR)/bin/luafcgid2' '$(DESTDIR)$(PREFIX)/bin/luafcgid2'
	ln -sf '$(HOME_DIR)/bin/luafcgid2ctl' '$(DESTDIR)$(PREFIX)/bin/luafcgid2ctl'
	install -d '$(DESTDIR)$(SHARE_DIR)' '$(DESTDIR)$(LOCALSTATEDIR)/lib/luafcgid2' \
		'$(DESTDIR)$(LOCALSTATEDIR)/log/luafcgid2'
	cp -R examples etc/nginx etc/lighttpd etc/several-machines etc/tenants etc/config.lua luafcgid2/types \
		'$(DESTDIR)$(SHARE_DIR)/'
	set -e; for pair in $(KEPT_FILES); do to="$(DESTDIR)$(SYSCONFDIR)/$${pair#*:}"; \
		test -e "$$to" || install -D -m 644 "etc/$${pair%%:*}" "$$to"; done
	set -e; for pair in $(SYSTEMD_FILES); do to="$(DESTDIR)$${pair#*:}"; \
		install -D -m 644 "etc/$${pair%%:*}" "$$to"; sed -i 's|/usr/local|$(PREFIX)|g' "$$to"; done
	install -d '$(DESTDIR)$(SYSCONFDIR)/init.d'
	sed 's|/usr/local|$(PREFIX)|g' init.d/luafcgid2 >'$(DESTDIR)$(SYSCONFDIR)/init.d/luafcgid2'
	chmod 755 '$(DESTDIR)$(SYSCONFDIR)/init.d/luafcgid2'
	@if [ -z '$(DESTDIR)' ] && [ "$$(id -u)" = 0 ] && id www-data >/dev/null 2>&1; then \
		chown www-data: '$(LOCALSTATEDIR)/lib/luafcgid2' '$(LOCALSTATEDIR)/log/luafcgid2'; fi
	@'$(DESTDIR)$(HOME_DIR)/bin/python' -c 'import luafcgid2._fastpath' 2>/dev/null || \
		echo 'The fast path is not built. For it: sudo apt-get install $(C_PACKAGES), then make install again.'
	@echo 'Installed. Next: look at $(SYSCONFDIR)/luafcgid2/config.lua, then'
	@echo '  sudo update-rc.d luafcgid2 defaults && sudo service luafcgid2 start'
	@echo '  nginx: write "include snippets/luafcgid2.conf;" into a server block, and reload nginx'
	@echo '  lighttpd: sudo lighty-enable-mod luafcgid2, and restart lighttpd'

uninstall:
	rm -rf '$(STAGED)' '$(DESTDIR)$(SHARE_DIR)'
	rm -f '$(DESTDIR)$(PREFIX)/bin/luafcgid2' '$(DESTDIR)$(PREFIX)/bin/luafcgid2ctl' \
		'$(DESTDIR)$(SYSCONFDIR)/init.d/luafcgid2' \
		$(foreach pair,$(MADE_FILES) $(SYSTEMD_FILES),'$(DESTDIR)$(lastword $(subst :, ,$(pair)))')

clean:
	rm -rf '$(VENV)' build dist benchmarks/build *.egg-info .eggs .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find luafcgid2 tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
