"""Forgets old jobs, and removes what they have written."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from wsclean_workerd.errors import JournalUnavailable
from wsclean_workerd.tasks import wait

if TYPE_CHECKING:
    from wsclean_workerd.disk import Disk
    from wsclean_workerd.journal import Journal
    from wsclean_workerd.model import JobId
    from wsclean_workerd.spool import Spool

log = logging.getLogger(__name__)

_AT_ONCE = 100
_EVERY_SECONDS = 600.0


class Pruner:
    """Keeps the history of jobs from growing for ever.

    Args:
        journal: Where jobs are remembered.
        spool: Where their folders are.
        disk: Access to the state disk.
        keep: How many jobs that are over are kept.
        keep_seconds: For how long they are kept, in seconds.
    """

    def __init__(
        self, journal: Journal, spool: Spool, disk: Disk, *, keep: int, keep_seconds: float
    ) -> None:
        self._journal = journal
        self._spool = spool
        self._disk = disk
        self._keep = keep
        self._keep_seconds = keep_seconds
        self._wake = asyncio.Event()

    def adopt(self, *, keep: int, keep_seconds: float) -> None:
        """Keep other numbers of jobs from now on."""
        self._keep, self._keep_seconds = keep, keep_seconds
        self._wake.set()

    async def run(self) -> None:
        """Prune now and then until cancelled."""
        while True:
            self._wake.clear()
            try:
                if number := await self.prune():
                    log.info("forgot %d old jobs", number)
            except (JournalUnavailable, OSError) as error:
                log.warning("cannot forget old jobs at present: %s", error)
            await wait(self._wake, _EVERY_SECONDS)

    async def prune(self) -> int:
        """Forget the jobs that need not be kept.

        Returns:
            How many they were.

        Raises:
            JournalUnavailable: If the journal cannot be read or written.
        """
        number = 0
        while job_ids := await self._journal.outdated(
            before=time.time() - self._keep_seconds, keep=self._keep, limit=_AT_ONCE
        ):
            # The folders first: what is left of a job that is not known any more
            # would be left for ever.
            await self._disk.run(self._remove, job_ids)
            await self._journal.delete(job_ids)
            number += len(job_ids)
        return number

    def _remove(self, job_ids: list[JobId]) -> None:
        for job_id in job_ids:
            self._spool.job(job_id).remove()
