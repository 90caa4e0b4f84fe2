"""Tells systemd that the daemon is ready, how it is, that it lives, and that it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from typing import TYPE_CHECKING

import sdnotify

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


class Systemd:
    """The service manager, or nobody if the daemon was not started by it."""

    def __init__(self) -> None:
        self._there = "NOTIFY_SOCKET" in os.environ
        # With debug the library raises what it would otherwise swallow.
        self._notifier = sdnotify.SystemdNotifier(debug=self._there) if self._there else None
        self._socket: socket.socket | None = self._notifier.socket if self._notifier else None
        if self._socket is not None:
            # It takes a few messages only while systemd does not read them.
            self._socket.setblocking(False)
        # Each once, in the place of the last time it was said.
        self._unsent: deque[str] = deque()
        self._complained = False
        self._status = ""

    def ready(self) -> None:
        """The socket serves, with the configuration that was read last."""
        self._notify("READY=1")

    def reloading(self) -> None:
        """The configuration is read again, until `ready`."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={microseconds}")

    def status(self, text: str) -> None:
        """The line that `systemctl status` shows, sent when it has changed."""
        if text != self._status:
            self._status = text
            self._notify(f"STATUS={text}")

    def stopping(self) -> None:
        """The daemon ends."""
        self._notify("STOPPING=1")

    @property
    def watchdog_seconds(self) -> float | None:
        """How often systemd wants to hear that the daemon lives, or None."""
        if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            return None
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        return int(microseconds) / 1e6 if microseconds.isdecimal() else None

    async def feed_watchdog(self, alive: Callable[[], Awaitable[None]]) -> None:
        """Tell again and again that the daemon lives, each time after proof of it.

        Args:
            alive: Returns when the daemon has been seen to work, and not before.
        """
        interval = self.watchdog_seconds
        if interval is None:
            return
        while True:
            await alive()
            self._notify("WATCHDOG=1")
            await asyncio.sleep(interval / 3)

    def _notify(self, message: str) -> None:
        """Send a message, now or when there is room for it; nothing waits for that."""
        if message in self._unsent:
            self._unsent.remove(message)
        self._unsent.append(message)
        if self._socket is not None and not self._send():
            asyncio.get_running_loop().add_writer(self._socket, self._send_rest, self._socket)

    def _send_rest(self, where: socket.socket) -> None:
        if self._send():
            asyncio.get_running_loop().remove_writer(where)

    def _send(self) -> bool:
        """Send what there is; return whether there was room for all."""
        while self._notifier is not None and self._unsent:
            try:
                self._notifier.notify(self._unsent[0])
            except BlockingIOError:
                return False
            except OSError as error:
                if not self._complained:
                    log.warning("cannot tell systemd %s: %s", self._unsent[0], error)
                self._complained = True
            self._unsent.popleft()
        return True
