"""Jobs that are to end with the call that submitted them."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wsclean_workerd.model import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wsclean_workerd.model import Job, JobId

_PATIENCE_SECONDS = 30.0

CLIENT_GONE = Reason("CLIENT_GONE", "the client that it was tied to has gone")


class Ties:
    """Who holds which tied job.

    A job is told to end when the last call that holds it ends. One that nobody holds
    yet, since the daemon has just accepted it or was restarted, is waited for.

    Args:
        cancel: Tells a job to end.
    """

    def __init__(self, cancel: Callable[[JobId, Reason], object]) -> None:
        self._cancel = cancel
        self._holders: Counter[JobId] = Counter()
        self._awaited: dict[JobId, asyncio.TimerHandle] = {}
        self._closed = False

    def expect(self, job_id: JobId) -> None:
        """Wait some time for a call that holds a job."""
        loop = asyncio.get_running_loop()
        self._awaited[job_id] = loop.call_later(_PATIENCE_SECONDS, self._let_go, job_id)

    @contextmanager
    def hold(self, job: Job) -> Iterator[None]:
        """Hold a job for as long as a call lasts."""
        self._holders[job.id] += 1
        if timer := self._awaited.pop(job.id, None):
            timer.cancel()
        try:
            yield
        finally:
            self._holders[job.id] -= 1
            if not self._holders[job.id]:
                del self._holders[job.id]
                self._let_go(job.id)

    def close(self) -> None:
        """Let no job end any more: it is the daemon that goes, and not the clients."""
        self._closed = True
        for timer in self._awaited.values():
            timer.cancel()

    def _let_go(self, job_id: JobId) -> None:
        self._awaited.pop(job_id, None)
        if not self._closed:
            self._cancel(job_id, CLIENT_GONE)
