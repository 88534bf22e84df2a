"""The files of etc/ say the same as the defaults of the options."""
from __future__ import annotations

import configparser
import os
import re

import pytest

from luafcgid2 import config, ctl

ETC = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "etc")
DEFAULTS = config.defaults()


def text(name):
    with open(os.path.join(ETC, name), encoding="utf-8") as file:
        return file.read()


def unit(name):
    """A unit's keys, sections put together; of a repeated key the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(text("systemd/" + name))
    return {key: value for section in parser.sections() for key, value in parser[section].items()}


def test_the_socket_unit_listens_where_the_server_would():
    keys = unit("luafcgid2.socket")
    assert keys["ListenStream"] == DEFAULTS.listen
    assert keys["SocketMode"] == DEFAULTS.listen_mode
    assert int(keys["Backlog"]) == DEFAULTS.listen_backlog


def test_the_service_runs_the_configuration_of_the_control_program():
    assert unit("luafcgid2.service")["Environment"] == "CONFIG=" + ctl.DEFAULT_CONFIG


def test_the_directories_are_those_of_log_and_sessions():
    keys = unit("luafcgid2.service")
    assert os.path.dirname(DEFAULTS.log_file_path) == "/var/log/" + keys["LogsDirectory"]
    state = os.path.dirname(DEFAULTS.session_store.partition("://")[2])
    assert state == "/var/lib/" + keys["StateDirectory"]
    made = re.findall(r"(?m)^d (\S+) (\S+) (\S+) (\S+)", text("tmpfiles.d/luafcgid2.conf"))
    assert sorted(row[0] for row in made) == sorted([state, os.path.dirname(DEFAULTS.log_file_path)])
    for _, mode, user, group in made:
        assert (mode, user, group) == (keys["StateDirectoryMode"], keys["User"], keys["Group"])
        assert mode == keys["LogsDirectoryMode"]


def test_cleaning_spares_the_socket_and_the_pid_file():
    spared = re.findall(r"(?m)^x (\S+)", text("tmpfiles.d/luafcgid2.conf"))
    assert sorted(spared) == sorted([DEFAULTS.listen, DEFAULTS.pid_file])


@pytest.mark.parametrize("key", ["PrivateTmp", "PrivateDevices", "ProtectHome", "ProtectClock", "DevicePolicy",
                                 "ProtectKernelTunables", "MemoryDenyWriteExecute", "PrivateNetwork"])
def test_hardening_leaves_scripts_what_they_use(key):
    # The socket in /var/tmp, cameras and vcgencmd, sites in /home, LEDs in /sys, LuaJIT.
    assert key not in unit("luafcgid2.service")
