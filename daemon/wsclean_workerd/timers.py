"""The timers of all jobs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wsclean_workerd import clock
from wsclean_workerd.events import ArmTimer, DisarmTimer, Timer

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsclean_workerd.model import JobId, Patience


class Timers:
    """At most one timer of each kind for each job.

    Args:
        passed: Called with job and timer when one has run out.
        patience: The waits of the state machine.
    """

    def __init__(self, passed: Callable[[JobId, Timer], None], patience: Patience) -> None:
        self._passed = passed
        self.adopt(patience)
        self._handles: dict[tuple[JobId, Timer], asyncio.TimerHandle] = {}

    def adopt(self, patience: Patience) -> None:
        """Go by other waits from now on."""
        # From now, when job or TERM are handed over: they may have waited long to be
        # written.
        self._from_now = {Timer.START: patience.start, Timer.GRACE: patience.grace}

    def carry_out(self, job_id: JobId, instruction: ArmTimer | DisarmTimer) -> None:
        """Arm a timer of a job, anew if it is armed, or forget it."""
        timer = instruction.timer
        self._disarm(job_id, timer)
        if isinstance(instruction, DisarmTimer):
            return
        delay = self._from_now.get(timer, max(0.0, instruction.due - clock.now().boot))
        loop = asyncio.get_running_loop()
        self._handles[job_id, timer] = loop.call_later(delay, self._fire, job_id, timer)

    def close(self) -> None:
        """Forget all timers."""
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()

    def _fire(self, job_id: JobId, timer: Timer) -> None:
        del self._handles[job_id, timer]
        self._passed(job_id, timer)

    def _disarm(self, job_id: JobId, timer: Timer) -> None:
        if handle := self._handles.pop((job_id, timer), None):
            handle.cancel()
