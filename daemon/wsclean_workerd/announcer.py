"""Tells subscribers of changes, at the pace at which they read."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from wsclean_workerd.model import Job, JobId


def _everything(_job: Job) -> bool:
    return True


class Subscription:
    """The news for one subscriber: for each job only the latest.

    However slow a subscriber is, what waits for it is never more than one entry for
    each job.

    Args:
        ids: The jobs to be told of, or None for all.
        sees: Whether it may be told of a job.
    """

    def __init__(self, ids: Collection[JobId] | None, sees: Callable[[Job], bool]) -> None:
        self._ids = ids
        self._sees = sees
        self._news: dict[JobId, Job] = {}
        self.changed = asyncio.Event()

    def offer(self, job: Job) -> None:
        """Take note of a change if it is of interest."""
        if (self._ids is None or job.id in self._ids) and self._sees(job):
            self._news[job.id] = job
            self.changed.set()

    def latest(self, job_id: JobId) -> Job | None:
        """The last news of a job, which stay there for `next`; None if there are none."""
        return self._news.get(job_id)

    def current(self, job: Job) -> Job:
        """A job as the last news have it, or as it is given."""
        return self._news.get(job.id, job)

    def ended(self, job: Job) -> bool:
        """Whether a job has ended, by the last news or as it is given."""
        return self.current(job).state.ended

    async def end(self, job: Job) -> None:
        """Wait for the end of a job."""
        while not self.ended(job):
            await self.changed.wait()
            self.changed.clear()

    async def next(self) -> list[Job]:
        """Wait for news and take all there is, oldest first."""
        await self.changed.wait()
        self.changed.clear()
        news, self._news = list(self._news.values()), {}
        return news


async def wait_for_end(subscription: Subscription, job: Job, seconds: float) -> None:
    """Wait for the end of a job, but no longer than so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await subscription.end(job)


class Announcer:
    """Everybody who wants to know of changes."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()

    def announce(self, job: Job) -> None:
        """Tell everybody how a job is now."""
        for subscription in self._subscriptions:
            subscription.offer(job)

    @contextmanager
    def subscribe(
        self, ids: Collection[JobId] | None = None, sees: Callable[[Job], bool] = _everything
    ) -> Iterator[Subscription]:
        """Be told of changes from now on.

        Args:
            ids: The jobs to be told of, or None for all.
            sees: Whether the subscriber may be told of a job.
        """
        subscription = Subscription(ids, sees)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
