"""Calls on the state disk, which may block, from the event loop, which must not."""

from __future__ import annotations

import asyncio
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
        opening = asyncio.ensure_future(self.run(work, *args))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise


def _close(opening: asyncio.Future[int]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result())
