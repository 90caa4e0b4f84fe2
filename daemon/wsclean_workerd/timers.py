"""The timers of all jobs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wsclean_workerd import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsclean_workerd.events import Timer
    from wsclean_workerd.model import JobId


class Timers:
    """At most one timer of each kind for each job.

    Args:
        passed: Called with job and timer when one has run out.
    """

    def __init__(self, passed: Callable[[JobId, Timer], None]) -> None:
        self._passed = passed
        self._handles: dict[tuple[JobId, Timer], asyncio.TimerHandle] = {}

    def arm(self, job_id: JobId, timer: Timer, due: float) -> None:
        """Let a timer run out at a time of the boot clock, in seconds."""
        self.disarm(job_id, timer)
        delay = max(0.0, due - clock.now().boot)
        loop = asyncio.get_running_loop()
        self._handles[job_id, timer] = loop.call_later(delay, self._fire, job_id, timer)

    def disarm(self, job_id: JobId, timer: Timer) -> None:
        """Forget a timer, if it is armed."""
        if handle := self._handles.pop((job_id, timer), None):
            handle.cancel()

    def close(self) -> None:
        """Forget all timers."""
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()

    def _fire(self, job_id: JobId, timer: Timer) -> None:
        del self._handles[job_id, timer]
        self._passed(job_id, timer)
