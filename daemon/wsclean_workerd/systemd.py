"""Tells systemd that the daemon is ready, how it is, that it lives, and that it ends."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

import sdnotify

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


class Systemd:
    """The service manager, or nobody if the daemon was not started by it."""

    def __init__(self) -> None:
        self._there = "NOTIFY_SOCKET" in os.environ
        # With debug the library raises what it would otherwise swallow.
        self._notifier = sdnotify.SystemdNotifier(debug=self._there) if self._there else None
        self._complained = False
        self._status = ""

    def ready(self) -> None:
        """The socket serves."""
        self._notify("READY=1")

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
        if self._notifier is None:
            return
        try:
            self._notifier.notify(message)
        except OSError as error:
            if not self._complained:
                log.warning("cannot tell systemd %s: %s", message, error)
            self._complained = True
