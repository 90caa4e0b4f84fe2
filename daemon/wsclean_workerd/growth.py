"""Tells when files grow next."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from asyncinotify import Inotify, Mask

if TYPE_CHECKING:
    from asyncinotify import Event, Watch

log = logging.getLogger(__name__)


class GrowthWatch:
    """Tells once when files grow: one inotify instance for all who want to know.

    While a file is watched the kernel makes an event of every single write to it, which
    makes a writer of small pieces half as slow again. So a watch ends with the first
    event, and who has been told asks again when nothing more comes: a file that is
    written to all the time is hardly ever watched.

    A host allows few inotify instances for each user (fs.inotify.max_user_instances),
    so this is made when it is first needed, and without it the daemon goes on.
    """

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._wakes: dict[int, tuple[Watch, set[asyncio.Event]]] = {}
        self._task: asyncio.Task[None] | None = None

    def once(self, path: str, wake: asyncio.Event) -> None:
        """Set an event when a file grows, the first time only.

        Args:
            path: The file.
            wake: The event.

        Raises:
            OSError: If the kernel cannot watch more files.
        """
        if self._inotify is None:
            # Without waiting it gives what has gathered.
            self._inotify = Inotify(sync_timeout=0, cache_size=256)
            self._task = asyncio.create_task(
                self._dispatch(self._inotify),
                name="growth of outputs",
            )
        watch = self._inotify.add_watch(path, Mask.MODIFY | Mask.ONESHOT)
        # The kernel gives one number to all watches on one file.
        self._wakes.setdefault(watch.wd, (watch, set()))[1].add(wake)

    def forget(self, wake: asyncio.Event) -> None:
        """Watch nothing any more for the sake of this event."""
        for number, (watch, wakes) in list(self._wakes.items()):
            wakes.discard(wake)
            if not wakes:
                del self._wakes[number]
                if self._inotify is not None:
                    with suppress(OSError):  # the file, and with it the watch, may be gone
                        self._inotify.rm_watch(watch)

    async def close(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._inotify is not None:
            self._inotify.close()

    async def _dispatch(self, inotify: Inotify) -> None:
        while True:
            self._take(await inotify.get())

    def _take(self, event: Event) -> None:
        if Mask.Q_OVERFLOW in event.mask:
            # The kernel's queue was full: anything may have grown.
            for _, wakes in self._wakes.values():
                _set_all(wakes)
        elif event.watch is not None:
            _, wakes = self._wakes.pop(event.watch.wd, (None, set[asyncio.Event]()))
            _set_all(wakes)


def _set_all(events: set[asyncio.Event]) -> None:
    for event in events:
        event.set()
