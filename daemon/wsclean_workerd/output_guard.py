"""Sees to it that no job fills the state disk with its output."""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from wsclean_workerd import clock
from wsclean_workerd.events import OutputExceeded

if TYPE_CHECKING:
    from wsclean_workerd.disk import Disk
    from wsclean_workerd.events import Tell
    from wsclean_workerd.logs import GrowthWatch
    from wsclean_workerd.model import Job
    from wsclean_workerd.spool import Spool

log = logging.getLogger(__name__)

_FASTEST = 2 * 2**30
"""What a job can write in a second, in bytes: more than disks take."""

_LONGEST_PAUSE = 1.0
_SHORTEST_PAUSE = 0.05
_BLIND_PAUSE = 5.0


class OutputGuard:
    """Looks at the output of running jobs when it has grown.

    Args:
        limit: How much a job may write, in bytes, or None for no limit.
        spool: The job folders.
        disk: Access to the state disk.
        growth: What tells when outputs grow.
        tell: Called with what has happened to a job.
    """

    def __init__(
        self,
        limit: int | None,
        *,
        spool: Spool,
        disk: Disk,
        growth: GrowthWatch,
        tell: Tell,
    ) -> None:
        self._limit = limit
        self._spool = spool
        self._disk = disk
        self._growth = growth
        self._tell = tell

    async def watch(self, job: Job) -> None:
        """Look at a job's output until it is too much; cancel this when the job has ended."""
        if self._limit is None:
            return
        folder = self._spool.job(job.id)
        grown = asyncio.Event()
        with ExitStack() as stack:
            blind = False
            for name in ("stdout", "stderr"):
                try:
                    stack.callback(self._growth.watch(str(folder.path / name), grown))
                except OSError as error:
                    log.debug("the kernel does not tell when outputs grow: %s", error)
                    blind = True
            size = 0
            while size <= self._limit:
                grown.clear()
                size = await self._disk.run(folder.output_size)
                # As late as may be, so that one that writes all the time is looked at
                # now and then only.
                pause = max(_SHORTEST_PAUSE, (self._limit - size) / _FASTEST)
                await asyncio.sleep(min(pause, _LONGEST_PAUSE))
                with suppress(TimeoutError):
                    if size <= self._limit:
                        await asyncio.wait_for(grown.wait(), _BLIND_PAUSE if blind else None)
        self._tell(job.id, OutputExceeded(clock.now(), self._limit))
