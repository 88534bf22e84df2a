"""User and group of the server: look the names up, act as them for a moment, become them for good.

In: the `User` and `Group` of the configuration, names or numbers.  Out: an `Identity`, and the process's ids
changed.  Called by the master, by the listener (owner of the socket) and by the log (who opens the file).
This module decides nothing about when to drop; only root can, for anybody else `resolve` gives None.
"""

from __future__ import annotations

import contextlib
import grp
import logging
import os
import pwd
from typing import Iterator, List, NamedTuple, Optional

from .errors import ConfigError


class Identity(NamedTuple):
    """A user to become: `name` is "" for a bare number that no user has."""

    uid: int
    gid: int
    name: str


def user_id(user: str) -> int:
    """The uid of a user name or of a number written as text; ConfigError for an unknown name."""
    if user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ConfigError(f"User = {user!r}: there is no such user on this system") from None


def group_id(group: str) -> int:
    """The gid of a group name or of a number written as text; ConfigError for an unknown name."""
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"Group = {group!r}: there is no such group on this system") from None


def resolve(user: str, group: str) -> Optional[Identity]:
    """Who the server shall become: None when it stays who it is.

    None: not root (nobody else may change ids), or neither name is given.  `Group` alone keeps the user;
    `User` alone takes that user's login group.  ConfigError for names that do not exist.
    """
    if os.geteuid() != 0 or not (user or group):
        return None
    uid = user_id(user) if user else 0
    try:
        entry = pwd.getpwuid(uid)
        name, login_group = entry.pw_name, entry.pw_gid
    except KeyError:
        name, login_group = "", uid
    return Identity(uid, group_id(group) if group else login_group, name)


def _groups(identity: Identity) -> List[int]:
    return os.getgrouplist(identity.name, identity.gid) if identity.name else [identity.gid]


def become(identity: Optional[Identity]) -> None:
    """Give up root for good: groups first, the user last, then nothing leads back."""
    if identity is None:
        return
    os.setgroups(_groups(identity))
    os.setgid(identity.gid)
    os.setuid(identity.uid)


@contextlib.contextmanager
def acting_as(identity: Optional[Identity]) -> Iterator[None]:
    """Within the `with`, files are opened with this identity's rights; None changes nothing.

    Root must not open a file by name in a directory that the user may write to: the user could have put a
    symbolic link there.
    """
    if identity is None:
        yield
        return
    groups, gid, uid = os.getgroups(), os.getegid(), os.geteuid()
    os.setgroups(_groups(identity))
    os.setegid(identity.gid)
    os.seteuid(identity.uid)
    try:
        yield
    finally:
        os.seteuid(uid)
        os.setegid(gid)
        os.setgroups(groups)


def warn(identity: Optional[Identity], user: str, logger: logging.Logger) -> None:
    """Tell what is probably not meant: scripts of root, or a User that we cannot become."""
    if identity is None and os.geteuid() == 0:
        logger.warning("scripts run as root: set User")
    elif identity is None and user and user_id(user) != os.geteuid():
        logger.warning("User = %r has no effect: only root can change the user", user)
