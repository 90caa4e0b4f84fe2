"""Calls on the state disk, which may block, from the event loop, which must not."""

from __future__ import annotations

import asyncio
import functools
import os
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

T = TypeVar("T")


class Disk:
    """A few threads for the state disk.

    Args:
        executor: The threads.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Run something in a thread and return what it returns."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)

    async def open(self, work: Callable[..., int], *args: object) -> int:
        """Run something that returns a descriptor, which is closed if nobody waits any more."""
        return await self.acquire(os.close, work, *args)

    async def acquire(
        self, release: Callable[[T], object], work: Callable[..., T], *args: object
    ) -> T:
        """Run something whose result has to be released if nobody waits any more.

        Args:
            release: Releases it, without blocking.
            work: What to run in a thread.
            args: What it is called with.
        """
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._executor, work, *args)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(functools.partial(_release, release))
            raise


def _release(release: Callable[[T], object], running: asyncio.Future[T]) -> None:
    if not running.cancelled() and running.exception() is None:
        release(running.result())
