"""Users and groups of the host, by name or number."""

from __future__ import annotations

import grp
import os
import pwd

from wsclean_workerd.model import User

MAX_ID = 2**32 - 2
"""The highest number a user or group can have; the next one means "none" (chown(2))."""


NOBODY = 65534
"""The user and the group that own nothing, by their numbers on every Linux."""


def own_user() -> User:
    """The user of this process."""
    return User(uid=os.geteuid(), gid=os.getegid(), groups=tuple(os.getgroups()))


def find_user(account: str) -> User:
    """Look up an account.

    Args:
        account: "user", "user:group" or "uid:gid".

    Returns:
        Its numbers, with the supplementary groups that the host knows of.

    Raises:
        ValueError: If there is no such account.
    """
    name, _, group = account.partition(":")
    if name.isdecimal():
        uid = _number(name)
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            if not group:
                raise ValueError(
                    f"expected a group too, as in {name}:GID, for a user this host does not know",
                ) from None
            return User(uid=uid, gid=find_group(group))
    else:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise ValueError("expected an account of this host") from None
    gid = find_group(group) if group else entry.pw_gid
    groups = set(os.getgrouplist(entry.pw_name, gid)) - {gid}
    return User(uid=entry.pw_uid, gid=gid, groups=tuple(sorted(groups)))


def find_group(group: str) -> int:
    """Look up a group.

    Args:
        group: Its name or number.

    Returns:
        Its number.

    Raises:
        ValueError: If there is no such group.
    """
    if group.isdecimal():
        return _number(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ValueError("expected a group of this host") from None


def _number(text: str) -> int:
    number = int(text)
    if number > MAX_ID:
        raise ValueError(f"expected a number of at most {MAX_ID}")
    return number


def is_another(user: User) -> bool:
    """Whether a user is another than that of this process."""
    return (user.uid, user.gid) != (os.geteuid(), os.getegid())
