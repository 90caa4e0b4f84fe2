"""Sees to it that no job fills the state disk with its output."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from wsclean_workerd import clock
from wsclean_workerd.events import OutputExceeded
from wsclean_workerd.tasks import wait

if TYPE_CHECKING:
    from wsclean_workerd.disk import Disk
    from wsclean_workerd.events import Tell
    from wsclean_workerd.growth import GrowthWatch
    from wsclean_workerd.model import Job
    from wsclean_workerd.spool import JobFolder, Spool

log = logging.getLogger(__name__)

FASTEST = 2 * 2**30
"""What a job can write in a second, in bytes: more than disks take."""

_LONGEST_PAUSE = 1.0
_SHORTEST_PAUSE = 0.05
_BLIND_PAUSE = 5.0


class OutputGuard:
    """Looks at the output of running jobs when it has grown.

    Attributes:
        limit: What holds for jobs that begin from now on.

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
        self.limit = limit
        self._spool = spool
        self._disk = disk
        self._growth = growth
        self._tell = tell

    async def watch(self, job: Job) -> None:
        """Look at a job's output until it is too much; cancel this when the job has ended."""
        limit = self.limit
        if limit is None:
            return
        folder = self._spool.job(job.id)
        grown = asyncio.Event()
        size, silent, told = 0, True, False
        try:
            while size <= limit:
                grown.clear()
                if silent:
                    # Before looking, so that nothing falls in between.
                    told = self._watch_growth(folder, grown)
                before, size = size, await self._disk.run(folder.output_size)
                if size != before:
                    silent = False
                    await asyncio.sleep(_pause(limit - size))
                elif silent:
                    await wait(grown, None if told else _BLIND_PAUSE)
                else:
                    silent = True
        finally:
            self._growth.forget(grown)
        self._tell(job.id, OutputExceeded(clock.now(), limit, launch=job.launch))

    def _watch_growth(self, folder: JobFolder, grown: asyncio.Event) -> bool:
        """Have an event set when an output grows next; return whether it will be."""
        try:
            for name in ("stdout", "stderr"):
                self._growth.once(str(folder.path / name), grown)
        except OSError as error:
            log.debug("the kernel does not tell when outputs grow: %s", error)
            return False
        return True


def _pause(room: int) -> float:
    """How long not to look at an output that grows, with so many bytes until the limit.

    As long as may be, so that one that grows all the time is looked at now and then only.
    """
    if room < 0:
        return 0.0
    return min(max(_SHORTEST_PAUSE, room / FASTEST), _LONGEST_PAUSE)
