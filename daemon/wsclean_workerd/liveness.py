"""Proof that the daemon works, for whoever starts it anew if it does not.

A daemon that is only there is of no use. So it counts as alive when, one after the other,

* both threads of the journal have answered in their turn,
* those that do work on the state disk for jobs have, too, and
* nothing that should have been done is overdue: no job waits that could start, none that
  takes a slot is left alone or in a state that is not written down, and the runtime is kept;

and all of that is asked by the event loop, which works if anything is asked at all.

What a new start would not mend is no sign of death: an engine that is down or silent, a disk
that is full, storage that hangs. Those are conditions, and the daemon stays up with them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from wsclean_workerd.model import Job, JobId

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 1.0


class _Journal(Protocol):
    failure: str | None

    async def prove_life(self) -> None: ...


class _Supervisor(Protocol):
    def startable(self) -> JobId | None: ...

    def on_slots(self) -> list[tuple[Job, Job | None]]: ...


class _Attendant(Protocol):
    def attends(self, job: Job) -> bool: ...

    async def prove_life(self) -> None: ...


class _Keeper(Protocol):
    @property
    def overdue(self) -> str | None: ...


class Liveness:
    """Sees whether the parts of the daemon do their work.

    Args:
        journal: Remembers the jobs.
        supervisor: Decides about them.
        attendant: Attends to their processes.
        keeper: Keeps the runtime ready.
        patience: Seconds after which it is told what there is no sign of life from.
        pause: Seconds between two looks at what has not been done yet.
    """

    def __init__(
        self,
        *,
        journal: _Journal,
        supervisor: _Supervisor,
        attendant: _Attendant,
        keeper: _Keeper,
        patience: float = _PATIENCE_SECONDS,
        pause: float = _LOOK_SECONDS,
    ) -> None:
        self._journal = journal
        self._supervisor = supervisor
        self._attendant = attendant
        self._keeper = keeper
        self._patience = patience
        self._pause = pause

    async def prove(self) -> None:
        """Return when all parts have been seen to work, and not before."""
        await self._seen("the journal", self._journal.prove_life())
        await self._seen("the state disk's threads", self._attendant.prove_life())
        await self._nothing_undone()

    async def _nothing_undone(self) -> None:
        """Return when nothing is left of what was to be done at first."""
        loop = asyncio.get_running_loop()
        began, told = loop.time(), False
        undone = set(self._undone())
        while undone:
            if not told and loop.time() - began > self._patience:
                log.error("what is to be done is not: %s", "; ".join(sorted(undone)))
                told = True
            await asyncio.sleep(self._pause)
            undone &= set(self._undone())

    async def _seen(self, part: str, proof: Awaitable[None]) -> None:
        loop = asyncio.get_running_loop()
        words = "there has been no sign of life from %s for %g s"
        silence = loop.call_later(self._patience, log.error, words, part, self._patience)
        try:
            await proof
        finally:
            silence.cancel()

    def _undone(self) -> Iterator[str]:
        """What should have been done by now, if the daemon is not just about to do it."""
        if overdue := self._keeper.overdue:
            yield overdue
        if self._journal.failure is not None:
            # Changes wait for the disk, and what follows from them waits for that.
            return
        if (job_id := self._supervisor.startable()) is not None:
            yield f"job {job_id} waits although it could start"
        for job, written in self._supervisor.on_slots():
            if written is not job:
                yield f"job {job.id} is {job.state.name}, which is not written down"
            elif not self._attendant.attends(job):
                yield f"job {job.id} is {job.state.name}, and nobody attends to it"
