"""What background tasks have in common: how often they try again, and how they fail."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
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


def complain(task: asyncio.Task[None]) -> None:
    """Log what a task died of: a defect, since none of them raises."""
    if not task.cancelled() and (error := task.exception()):
        log.error("task %r failed", task.get_name(), exc_info=error)
