"""The jobs as whoever calls may see them: his own, and all if he is an operator.

This stands between the service and those who know the jobs, so that no call can forget to ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsclean_workerd.authentication import CALLER

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection
    from contextlib import AbstractContextManager

    from wsclean_workerd.announcer import Announcer, Subscription
    from wsclean_workerd.model import Job, JobId, JobSpec, JobState, Reason
    from wsclean_workerd.supervisor import Supervisor


class CallersJobs:
    """What a supervisor does, for whoever calls.

    Args:
        supervisor: Who does it.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def submit(self, spec: JobSpec, request_id: str | None) -> Job:
        """Accept a job of the caller's; see `Supervisor.submit`."""
        return await self._supervisor.submit(spec, request_id, CALLER.get().user)

    async def get(self, job_id: JobId) -> Job:
        """Return a job as it is on disk.

        Raises:
            NoSuchJob: If there is none with this number.
            NotOwner: If the caller may not see it.
        """
        job = await self._supervisor.get(job_id)
        CALLER.get().check_owns(job)
        return job

    async def page(
        self, states: Collection[JobState], *, before: int | None, limit: int
    ) -> list[Job]:
        """Return some of the caller's jobs, newest first; see `JournalDb.page`."""
        caller = CALLER.get()
        owner = None if caller.operator else caller.user.uid
        return await self._supervisor.page(states, before=before, limit=limit, owner=owner)

    async def cancel(self, job_id: JobId, reason: Reason) -> Job:
        """Tell a job to end; see `get` and `Supervisor.cancel`."""
        await self.get(job_id)
        return await self._supervisor.cancel(job_id, reason)

    def live(self) -> list[Job]:
        """The caller's jobs that have not ended, oldest first."""
        return list(filter(CALLER.get().owns, self._supervisor.live()))

    def counts(self) -> Counter[JobState]:
        """How many jobs have not ended, by state: everybody's."""
        return self._supervisor.counts()

    @property
    def refusing(self) -> Reason | None:
        """Why no jobs are accepted at present, or None."""
        return self._supervisor.refusing


class CallersNews:
    """What an announcer tells, for whoever calls.

    Args:
        announcer: Who tells it.
    """

    def __init__(self, announcer: Announcer) -> None:
        self._announcer = announcer

    def subscribe(
        self, ids: Collection[JobId] | None = None
    ) -> AbstractContextManager[Subscription]:
        """Be told of changes of the caller's jobs; see `Announcer.subscribe`."""
        return self._announcer.subscribe(ids, CALLER.get().owns)
