"""Where the daemon's socket is, and why it may not answer there."""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from pathlib import Path
from urllib.parse import quote

from wsclean_client.errors import DaemonNotReachable

DEFAULT_SOCKET = "/run/wsclean-workerd/workerd.sock"
"""Where the daemon listens unless it is told otherwise."""

SOCKET_VARIABLE = "WSCLEAN_WORKERD_SOCKET"
"""The environment variable that tells clients of another place."""

_LONGEST = 107
"""How many bytes the kernel takes for the name of a Unix socket."""

_PROBE_SECONDS = 1.0


def find_socket(given: str | os.PathLike[str] | None) -> str:
    """Decide which socket to use.

    Args:
        given: What the caller says, or None.

    Returns:
        The absolute path of the socket: the one given, else the one that
        $WSCLEAN_WORKERD_SOCKET names, else the default.
    """
    path = os.fspath(given) if given is not None else os.environ.get(SOCKET_VARIABLE)
    # Absolute, because the process may change its working directory later.
    return str(Path(path).absolute()) if path else DEFAULT_SOCKET


def target(path: str) -> str:
    """Write the path of a socket the way gRPC wants it.

    Args:
        path: The absolute path of the socket.

    Returns:
        The target of a gRPC channel.

    Raises:
        DaemonNotReachable: If no socket can have such a path.
    """
    length = len(os.fsencode(path))
    if length > _LONGEST:
        raise DaemonNotReachable(
            f"cannot reach wsclean-workerd at {path}: the path has {length} bytes and that of a "
            f"Unix socket can have {_LONGEST}. Use a shorter one",
        )
    return "unix:" + quote(os.fsencode(path))


def diagnose(path: str) -> str:
    """Find out why a socket does not answer.

    Args:
        path: The absolute path of the socket.

    Returns:
        The words for it, with the way out.
    """
    why, way_out = cause(path)
    return f"cannot reach wsclean-workerd at {path}: {why}. {way_out}"


def cause(path: str) -> tuple[str, str]:
    """Find out why a socket does not answer.

    Args:
        path: The absolute path of the socket.

    Returns:
        Why, and the way out.
    """
    start = (
        "Start the daemon with `systemctl start wsclean-workerd`, or set "
        f"{SOCKET_VARIABLE} if its socket is elsewhere"
    )
    match _probe(path):
        case 0:
            return "it listens but does not answer", "Its log may say why"
        case errno.ENOENT | errno.ENOTDIR:
            return "there is no such socket", start
        case errno.ECONNREFUSED | errno.ENOTSOCK:
            return "nobody listens there", start
        case errno.EACCES | errno.EPERM:
            return "this user may not connect", _who_may(path)
        case error:
            return os.strerror(error), "Look at `systemctl status wsclean-workerd`"


def _probe(path: str) -> int:
    """Connect once and return the errno, 0 if that worked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(path)
        except OSError as error:
            return error.errno or errno.ETIMEDOUT
    return 0


def _who_may(path: str) -> str:
    """Name the group that may connect, from whatever bars the way."""
    barrier = path
    while True:
        try:
            found = Path(barrier).stat()
            break
        except OSError:
            barrier = str(Path(barrier).parent)
    group_may = stat.S_IWGRP if stat.S_ISSOCK(found.st_mode) else stat.S_IXGRP
    if not found.st_mode & group_may:
        return f"The permissions of {barrier} let only its owner in"
    try:
        group = grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        group = f"with the number {found.st_gid}"
    return (
        f"The group {group} may: have this user added to it "
        f"(`usermod -aG {group} USER`) and log in again"
    )
