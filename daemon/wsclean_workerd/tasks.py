"""What background tasks have in common: how they wait, try again, and fail."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0


def pauses() -> Iterator[float]:
    """How long to pause before each further attempt, in seconds, without end."""
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)


async def wait(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for an event, but no longer than so many seconds, if that is not None."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def complain(task: asyncio.Task[None]) -> None:
    """Log what a task died of: a defect, since none of them raises."""
    if not task.cancelled() and (error := task.exception()):
        log.error("task %r failed", task.get_name(), exc_info=error)
