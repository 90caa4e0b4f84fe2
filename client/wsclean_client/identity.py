"""Tells the daemon whose a call is, by a token from the socket beside its own.

The kernel tells the daemon who connects there, and the daemon makes a token of it for a minute.
One serves all calls until shortly before it is out of date.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

from wsclean_client.errors import NotAuthenticated

SOCKET_NAME = "identity.sock"

_SECONDS = 5.0
"""How long the daemon may take to answer."""

# A token is not used in the last part of its life, since it takes time to get there.
_USED = 0.8
_TIMEVAL = struct.pack("ll", int(_SECONDS), 0)
_ERROR = "error"
_NO_TOKEN = "NO_TOKEN"  # noqa: S105 - a reason
_READ_SIZE = 4096
_LONGEST = 65536

Metadata = tuple[tuple[str, str], ...]


def _whose() -> tuple[int, int, int]:
    return os.getpid(), os.geteuid(), os.getegid()


@dataclass(frozen=True)
class _Held:
    """A token.

    Attributes:
        metadata: What says it in a call; nothing if there is none.
        good_until: How long it is used, by the monotonic clock.
        owner: Whose it is.
    """

    metadata: Metadata = ()
    good_until: float = float("-inf")
    owner: tuple[int, int, int] | None = None

    def usable(self) -> bool:
        """Whether to use it."""
        return time.monotonic() < self.good_until and self.owner == _whose()


_NOTHING = _Held()


class Identity:
    """The token of this process, got when it is needed. Serves any number of threads.

    A process that was forked, or has become another user, gets one of its own.

    Args:
        daemon: The absolute path of the daemon's socket.
    """

    def __init__(self, daemon: str) -> None:
        self._path = str(Path(daemon).with_name(SOCKET_NAME))
        self._lock = threading.Lock()
        # Replaced as a whole, so that no lock is needed to look at it.
        self._held = _NOTHING
        _identities.add(self)

    def metadata(self) -> Metadata:
        """What to send with a call: a token, or nothing if there is none to be had.

        A daemon of before asks for none, so whether that matters is for the daemon to say.

        Raises:
            NotAuthenticated: If the daemon says why it gives none.
        """
        held = self._held
        if not held.usable():
            # Others wait: they need the same.
            with self._lock:
                held = self._held
                if not held.usable():
                    self._held = held = self._fetch()
        return held.metadata

    def forget(self, used: Metadata) -> None:
        """Get another token for the next call.

        Args:
            used: What was of no use. If another one is there by now, that stays.
        """
        with self._lock:
            if self._held.metadata == used:
                self._held = _NOTHING

    def unlock(self) -> None:
        """Be usable in a process that was forked while another thread had the lock."""
        self._lock = threading.Lock()

    def _fetch(self) -> _Held:
        asked, owner = time.monotonic(), _whose()
        try:
            word, _, rest = self._ask().partition(" ")
            seconds = 0.0 if word == _ERROR else float(rest)
        except (OSError, ValueError):
            # It is missing, or the daemon is away, which the call will tell better.
            return _NOTHING
        if word == _ERROR:
            raise NotAuthenticated(f"cannot call wsclean-workerd: {rest}", _NO_TOKEN)
        return _Held((("authorization", f"Bearer {word}"),), asked + seconds * _USED, owner)

    def _ask(self) -> str:
        deadline = time.monotonic() + _SECONDS
        said = b""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            # A socket with a timeout of Python's would not wait while others are in the queue.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL)
            connection.connect(self._path)
            while len(said) < _LONGEST:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                piece = connection.recv(_READ_SIZE)
                if not piece:
                    break
                said += piece
        if not said.endswith(b"\n"):
            raise ConnectionAbortedError(f"{self._path} says {said!r}")
        return said.decode("utf-8", "replace").strip()


_identities: weakref.WeakSet[Identity] = weakref.WeakSet()


def _unlock_all() -> None:
    for each in list(_identities):
        each.unlock()


os.register_at_fork(after_in_child=_unlock_all)
