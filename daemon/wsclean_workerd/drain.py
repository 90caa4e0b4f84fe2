"""Starting no further jobs, for a while or for good.

Drained, the daemon goes on to accept jobs, which wait. To shut it down is to drain it, to remove
what jobs ran in, and to end. Until it comes to the second of these, all can be taken back.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from wsclean_workerd.errors import Resumed, ShuttingDown
from wsclean_workerd.model import Reason
from wsclean_workerd.tasks import complain

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from wsclean_workerd.admission import Admission
    from wsclean_workerd.model import JobId
    from wsclean_workerd.supervisor import Supervisor

log = logging.getLogger(__name__)

DRAINING = Reason(
    "DRAINING",
    "no jobs are started until `wsclean-ctl resume` or a restart of the daemon: they are accepted "
    "and wait",
)
SHUTTING_DOWN = Reason(
    "SHUTTING_DOWN",
    "no jobs are started, since the daemon is about to shut down: they are accepted and wait for "
    "its next start. Before it ends, `wsclean-ctl resume` calls that off",
)
SHUTDOWN = Reason("SHUTDOWN", "the daemon was told to shut down at once")


class Drain:
    """Whether jobs are started, and what follows when the last one has ended.

    Args:
        supervisor: Knows the jobs.
        admission: Knows the slots.
        patience: Returns for how many seconds jobs that were told to end are waited for.
        remove: Removes what jobs run in.
        leave: Has the daemon end.
        changed: Called when jobs are started no longer, or again.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        admission: Admission,
        *,
        patience: Callable[[], float],
        remove: Callable[[], Awaitable[None]],
        leave: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self._supervisor = supervisor
        self._admission = admission
        self._patience = patience
        self._remove = remove
        self._leave = leave
        self._changed = changed
        self._news = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._leaving = False
        self._gone = False
        self.reason: Reason | None = None

    def look(self) -> None:
        """Take note that jobs may have ended."""
        if self.reason is not None:
            news, self._news = self._news, asyncio.Event()
            news.set()

    def begin(self) -> None:
        """Start no jobs from now on; those that run go on."""
        if self.reason is None:
            self._set(DRAINING)

    def resume(self) -> None:
        """Start jobs again.

        Raises:
            ShuttingDown: If what they run in is being removed.
        """
        if self._leaving:
            raise ShuttingDown(
                "cannot resume: the daemon is about to end. Start it again when it has, by "
                "`systemctl start wsclean-workerd`"
            )
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if self.reason is not None:
            self._set(None)

    def shut_down(self, *, now: bool) -> None:
        """End when no job runs any more, with what they ran in removed.

        Args:
            now: Whether those that run are told to end.
        """
        if self._leaving:
            return
        self._set(SHUTTING_DOWN)
        if self._ending is not None:
            self._ending.cancel()
        self._ending = asyncio.create_task(self._end(now=now), name="shutdown")
        self._ending.add_done_callback(complain)

    async def follow(self) -> AsyncGenerator[int, None]:
        """Tell how many slots are taken, again whenever that changes, until none is.

        Raises:
            Resumed: If jobs are started again.
        """
        told: int | None = None
        while told != 0:
            if self.reason is None:
                raise Resumed(
                    "jobs are started again, as somebody else has asked: the daemon was not drained"
                )
            news, used = self._news, self._admission.taken
            if used != told:
                told = used
                yield used
            else:
                await news.wait()

    async def follow_to_the_end(self) -> AsyncGenerator[int, None]:
        """Tell the same, and end when all is done that is to be done before the daemon ends.

        Raises:
            Resumed: If jobs are started again.
        """
        async for used in self.follow():
            yield used
        while not self._gone:
            if self.reason is None:
                raise Resumed("jobs are started again, as somebody else has asked")
            await self._news.wait()

    async def close(self) -> None:
        """End no more than the daemon does anyhow."""
        if self._ending is not None and not self._leaving:
            self._ending.cancel()
            await asyncio.gather(self._ending, return_exceptions=True)

    async def _end(self, *, now: bool) -> None:
        try:
            async with asyncio.timeout(self._patience() if now else None):
                while self._admission.taken:
                    news = self._news
                    if now:
                        self._stop_all()
                    await news.wait()
        except TimeoutError:
            log.error(
                "%d slots are still taken by what cannot be ended; shutting down all the same",
                self._admission.taken,
            )
        self._leaving = True
        await self._remove()
        self._gone = True
        self.look()
        self._leave()

    def _stop_all(self) -> None:
        stopped: list[JobId] = [
            # One that is not on disk may turn out to be none.
            job.id
            for job, written in self._supervisor.on_slots()
            if written is not None and not job.state.ended
        ]
        for job_id in stopped:
            self._supervisor.stop(job_id, SHUTDOWN)

    def _set(self, reason: Reason | None) -> None:
        self.look()
        self.reason = reason
        log.info("%s", "jobs are started again" if reason is None else reason.message)
        self._changed()
