"""The socket that tells whoever connects who he is, as the kernel says.

gRPC hands nobody the credentials of its peers. So a caller connects here first, gets a line and
is disconnected:

    TOKEN SECONDS        a token (see `tokens`), and for how many seconds it counts; or
    error MESSAGE        why there is none

He sends nothing. What he gets is short enough for the buffer of a fresh socket, so it is never
waited for that he reads it: no connection outlives the moment in which it is accepted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from wsclean_workerd import clock
from wsclean_workerd.model import User

if TYPE_CHECKING:
    from pathlib import Path

    from wsclean_workerd.tokens import Tokens

log = logging.getLogger(__name__)

_BACKLOG = 1024
_PAUSE_SECONDS = 0.5
_CREDENTIALS = struct.Struct("=iII")
# Of asm-generic/socket.h; Python has no name for it.
_SO_PEERGROUPS = getattr(socket, "SO_PEERGROUPS", 59)
# The most that Python asks the kernel for: 256 groups.
_GROUPS_BYTES = 1024
_GROUP_BYTES = 4


class IdentitySocket:
    """Serves tokens until it is closed.

    Args:
        path: The socket.
        tokens: What makes them.
    """

    def __init__(self, path: Path, tokens: Tokens) -> None:
        self._path = path
        self._tokens = tokens
        self._loop = asyncio.get_running_loop()
        self._listener: socket.socket | None = None
        self._resume: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Bind the socket and serve.

        Raises:
            OSError: If it cannot be bound.
        """
        # What a daemon left that was killed; that there is no other is known by its lock.
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(os.fspath(self._path))
            listener.setblocking(False)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        self._listener = listener
        self._loop.add_reader(listener, self._accept, listener)

    def close(self) -> None:
        """Serve no longer; doing it again does nothing."""
        if self._resume is not None:
            self._resume.cancel()
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
            self._path.unlink(missing_ok=True)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            # No descriptors or no memory: whoever waits is as ready to be accepted as before, so
            # this would be called again and again.
            log.error("cannot tell callers who they are: %s", error)
            self._loop.remove_reader(listener)
            self._resume = self._loop.call_later(
                _PAUSE_SECONDS, self._loop.add_reader, listener, self._accept, listener
            )
            return
        with connection:
            connection.setblocking(False)
            # One that has gone away again wants nothing.
            with suppress(OSError):
                connection.send(self._answer(connection))

    def _answer(self, connection: socket.socket) -> bytes:
        try:
            user = peer(connection)
        except OSError as error:
            return f"error cannot find out who you are: {error.strerror}\n".encode()
        token = self._tokens.issue(user, clock.now().boot)
        return f"{token.text} {token.seconds:g}\n".encode()


def peer(connection: socket.socket) -> User:
    """Tell who is at the other end of a connection, as he was when he connected.

    Raises:
        OSError: If the kernel does not say, or he has more groups than Python can be told of.
    """
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, gid = _CREDENTIALS.unpack(told)
    packed = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    groups = set(struct.unpack(f"={len(packed) // _GROUP_BYTES}I", packed)) - {gid}
    return User(uid=uid, gid=gid, groups=tuple(sorted(groups)))
