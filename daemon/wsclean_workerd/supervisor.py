"""The shell around the pure core: events in, journal, then instructions.

Every change of a job goes the same way: the state machine decides, the journal
writes it down, and only then are the instructions carried out and everybody told.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from wsclean_workerd import clock, job_log
from wsclean_workerd.errors import LockTaken, NoSuchJob, ShuttingDown
from wsclean_workerd.events import (
    ArmTimer,
    CancelRequested,
    DeadlinePassed,
    DisarmTimer,
    Event,
    Instruction,
    JobChosen,
    LaunchFailed,
)
from wsclean_workerd.model import Job, JobId, JobSpec, JobState, Patience, Reason
from wsclean_workerd.recovery import rebase, recover
from wsclean_workerd.state_machine import step
from wsclean_workerd.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine

    from wsclean_workerd.admission import Admission
    from wsclean_workerd.announcer import Announcer
    from wsclean_workerd.attendant import Attendant
    from wsclean_workerd.command import CommandRules
    from wsclean_workerd.events import Timer
    from wsclean_workerd.journal import Journal
    from wsclean_workerd.model import RuntimeCondition, User

log = logging.getLogger(__name__)

_BARRED_SECONDS = 5.0


class Supervisor:
    """All jobs that have not ended, and what happens to them.

    Args:
        rules: What commands may run, and how.
        admission: Who may take a slot.
        patience: The waits of the state machine.
        journal: Where jobs are remembered.
        announcer: Who wants to know of changes.
        condition: Returns the condition of the runtime.
        expect_holder: Called with each tied job that some call should hold.
        changed: Called when the number of jobs in some state may have changed.
    """

    def __init__(
        self,
        *,
        rules: CommandRules,
        admission: Admission,
        patience: Patience,
        journal: Journal,
        announcer: Announcer,
        condition: Callable[[], RuntimeCondition],
        expect_holder: Callable[[JobId], None],
        changed: Callable[[], None],
    ) -> None:
        self._rules = rules
        self._admission = admission
        self._patience = patience
        self._journal = journal
        self._announcer = announcer
        self._condition = condition
        self._expect_holder = expect_holder
        self._changed = changed
        self._timers = Timers(self._deadline, patience)
        self._attendant: Attendant | None = None
        self._last_id = 0
        self._closing = False
        # The jobs as events have left them, and as they are on disk.
        self._jobs: dict[JobId, Job] = {}
        self._written: dict[JobId, Job] = {}
        self._counts: Counter[JobState] = Counter()
        self._tasks: set[asyncio.Task[Job]] = set()

    async def start(self, attendant: Attendant, *, last_id: int = 0) -> None:
        """Load the journal and bring every job back to where it was.

        Args:
            attendant: Who attends to the processes of jobs.
            last_id: The highest number known to be taken, apart from the journal's.
        """
        self._attendant = attendant
        boot_id = clock.boot_id()
        jobs, journal_last_id, rebooted = await self._journal.load(boot_id)
        self._last_id = max(journal_last_id, last_id)
        now = clock.now()
        if rebooted:
            jobs = [rebase(job, now) for job in jobs]
            attendant.host_restarted(jobs)
            await asyncio.gather(*(self._journal.update(job) for job in jobs))
            await self._journal.remember_boot(boot_id)
        for job in jobs:
            self._keep(job)
            self._written[job.id] = job
            if job.spec.tied and not job.state.ended:
                self._expect_holder(job.id)
        for job in list(self._jobs.values()):
            for instruction in recover(job, now, self._patience):
                self._carry_out(job, instruction)
        job_log.found(self.counts(), len(jobs))

    async def close(self) -> None:
        """Accept nothing any more and let go of everything; whatever runs goes on."""
        self._closing = True
        self._timers.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- what callers want -------------------------------------------------------

    async def submit(self, spec: JobSpec, request_id: str | None, submitter: User) -> Job:
        """Accept a job.

        Args:
            spec: What to run.
            request_id: The submitter's name for this submission, or None.
            submitter: Whose job it is.

        Returns:
            The job, on disk; or the older one of this user with the same request id.

        Raises:
            InvalidRequest: If it cannot run.
            RootRefused, SubmitterRefused: If it cannot run as this user.
            JournalUnavailable: If it could not be written down.
            ShuttingDown: If the daemon is about to end.
        """
        if self._closing:
            raise ShuttingDown("cannot accept the job: the daemon is about to end")
        order = self._rules.order(spec, submitter)
        self._last_id += 1
        job = Job(
            id=JobId(self._last_id),
            request_id=request_id,
            spec=spec,
            order=order,
            owner=submitter.uid,
            submitted=clock.now(),
        )
        # A caller that goes away now must not leave a job that is only on disk.
        return await asyncio.shield(self._spawn(self._accept(job)))

    async def _accept(self, job: Job) -> Job:
        accepted, instructions = self._admitted(job)
        try:
            written = await self._insert(accepted)
        except LockTaken as refusal:
            self._bar(job.id, refusal)
            accepted, instructions = job, recover(job, job.submitted, self._patience)
            written = await self._insert(accepted)
        if written is not accepted:
            # The request was known: this is the older job, as it is now.
            return self._written.get(written.id, written)
        self._keep(accepted)
        job_log.accepted(job)
        if job.spec.tied:
            self._expect_holder(job.id)
        self._on_disk(accepted, job, instructions)
        return accepted

    def _admitted(self, job: Job) -> tuple[Job, list[Instruction]]:
        """Let a new job start at once if it can, so that it is written only once."""
        condition = self._condition()
        if condition.ready and self._admission.passes(job):
            return step(job, JobChosen(job.submitted, condition.container), self._patience)
        return job, recover(job, job.submitted, self._patience)

    async def _insert(self, job: Job) -> Job:
        """Write a new job; return it, or the older one with the same request id."""
        written: Job | None = None
        try:
            if job.on_slot:
                # Nobody else may take its slot and locks meanwhile. One that has to wait is
                # nobody's to start before it is known to be a new one, and on disk.
                self._keep(job)
                self._hands.prepare(job)
            written = await self._journal.insert(job)
            return written
        finally:
            if job.on_slot and written is not job:
                self._count(self._jobs.pop(job.id), -1)
                self._admission.forget(job)
                self._hands.discard(job, known=isinstance(sys.exception(), LockTaken))
                self.schedule()

    async def get(self, job_id: JobId) -> Job:
        """Return a job as it is on disk.

        Raises:
            NoSuchJob: If there is none with this number.
        """
        job = self._written.get(job_id) or await self._journal.get(job_id)
        if job is None:
            raise NoSuchJob(
                f"there is no job {job_id}: `wsclean-ctl list` shows those there are",
                id=str(job_id),
            )
        return job

    async def page(
        self, states: Collection[JobState], *, before: int | None, limit: int, owner: int | None
    ) -> list[Job]:
        """Return some jobs, newest first; see `JournalDb.page`."""
        return await self._journal.page(states, before=before, limit=limit, owner=owner)

    async def cancel(self, job_id: JobId, reason: Reason) -> Job:
        """Tell a job to end, if it has not.

        Returns:
            The job after it has been told.

        Raises:
            NoSuchJob: If there is none with this number.
        """
        written = self.stop(job_id, reason)
        if written is not None:
            # If the start was refused, so is what came after it: the job waits, or has ended.
            with suppress(LockTaken):
                await asyncio.shield(written)
        return await self.get(job_id)

    def stop(self, job_id: JobId, reason: Reason) -> asyncio.Future[Job] | None:
        """Tell a job to end, if it has not; see `handle`."""
        return self.handle(job_id, CancelRequested(clock.now(), reason))

    def live(self) -> list[Job]:
        """The jobs that have not ended, oldest first."""
        return [job for job in self._written.values() if not job.state.ended]

    def counts(self) -> Counter[JobState]:
        """How many jobs have not ended, by state."""
        return +self._counts

    def on_slots(self) -> list[tuple[Job, Job | None]]:
        """The jobs that take slots: each as events have left it, and as it is on disk."""
        found = [self._jobs[each] for each in self._admission.on_slot if each in self._jobs]
        return [(job, self._written.get(job.id)) for job in found]

    @property
    def refusing(self) -> Reason | None:
        """Why no jobs are accepted at present, or None."""
        if self._closing:
            return Reason("SHUTTING_DOWN", "the daemon is about to end")
        if self._journal.failure is not None:
            return Reason("JOURNAL_UNAVAILABLE", self._journal.failure)
        return None

    # -- what happens ------------------------------------------------------------

    def handle(self, job_id: JobId, *events: Event) -> asyncio.Future[Job] | None:
        """Let something happen to a job.

        Args:
            job_id: The job. News of one that is over and gone are ignored.
            events: What happened, in this order. It is written as one change.

        Returns:
            When the change is on disk, or None if nothing changed.
        """
        job = self._jobs.get(job_id)
        if job is None or self._closing:
            return None
        after, instructions = job, list[Instruction]()
        for event in events:
            after, further = step(after, event, self._patience)
            instructions += further
        if after is job:
            for instruction in instructions:
                self._carry_out(job, instruction)
            return None
        self._keep(after)
        for instruction in instructions:
            # At once, since it takes nothing from anybody: a timer of before must not
            # run out while the change is written.
            if isinstance(instruction, DisarmTimer):
                self._carry_out(job, instruction)
        written = self._journal.update(after)
        written.add_done_callback(lambda done: self._settled(done, after, job, instructions))
        if job.on_slot and not after.on_slot:
            # Whoever gets the slot is written together with this.
            self.schedule()
        return written

    def tell(self, job_id: JobId, *events: Event) -> None:
        """Let something happen to a job; see `handle`."""
        self.handle(job_id, *events)

    def adopt(self, rules: CommandRules, patience: Patience) -> None:
        """Go by other settings from now on; jobs keep the orders that they were accepted with."""
        self._rules, self._patience = rules, patience
        self._timers.adopt(patience)
        self.schedule()

    def _settled(
        self, done: asyncio.Future[Job], job: Job, before: Job, instructions: list[Instruction]
    ) -> None:
        refusal = done.exception()
        if isinstance(refusal, LockTaken):
            self._bar(job.id, refusal)
            self._hands.discard(job, known=True)
            # Nothing has been done for it yet.
            reason = Reason("LOCK_HELD", str(refusal))
            self.handle(job.id, LaunchFailed(clock.now(), reason, False, launch=job.launch))
        else:
            self._on_disk(done.result(), before, instructions)

    def _bar(self, job_id: JobId, refusal: LockTaken) -> None:
        """Let a job wait that was given a slot while somebody held its lock."""
        log.error("a defect let job %s start although %s", job_id, refusal, extra={"job": job_id})
        self._admission.bar(job_id)
        # Not at once, since whoever chose it may choose it again.
        asyncio.get_running_loop().call_later(_BARRED_SECONDS, self._unbar, job_id)

    def _unbar(self, job_id: JobId) -> None:
        self._admission.unbar(job_id, self._jobs.get(job_id))
        self.schedule()

    def _on_disk(self, job: Job, before: Job, instructions: list[Instruction]) -> None:
        self._written[job.id] = job
        if self._closing:
            return
        for instruction in instructions:
            self._carry_out(job, instruction)
        if job.state is not before.state:
            job_log.changed(job)
        self._announcer.announce(job)
        if job.state.ended and not job.lingering:
            self._drop(job)
        self.schedule()

    def _count(self, job: Job, number: int) -> None:
        if not job.state.ended:
            self._counts[job.state] += number

    def _keep(self, job: Job) -> None:
        if before := self._jobs.get(job.id):
            self._count(before, -1)
        self._count(job, 1)
        self._jobs[job.id] = job
        self._admission.keep(job)

    def _drop(self, job: Job) -> None:
        if self._jobs.get(job.id) is job:
            self._count(job, -1)
            del self._jobs[job.id], self._written[job.id]
            self._hands.forget(job)

    def startable(self) -> JobId | None:
        """A waiting job that can start now. There is none when anything has happened."""
        able = self._condition().ready and not self._closing
        return self._admission.first() if able else None

    def schedule(self) -> None:
        """Start what can start."""
        self._changed()
        condition = self._condition()
        if not condition.ready or self._closing:
            return
        for job_id in self._admission.choose():
            self.handle(job_id, JobChosen(clock.now(), condition.container))
            self._hands.prepare(self._jobs[job_id])

    def _deadline(self, job_id: JobId, timer: Timer) -> None:
        self.handle(job_id, DeadlinePassed(clock.now(), timer))

    def _carry_out(self, job: Job, instruction: Instruction) -> None:
        if isinstance(instruction, ArmTimer | DisarmTimer):
            self._timers.carry_out(job.id, instruction)
        else:
            self._hands.carry_out(job, instruction)

    @property
    def _hands(self) -> Attendant:
        if self._attendant is None:
            raise RuntimeError("the supervisor has not been started")
        return self._attendant

    def _spawn(self, work: Coroutine[None, None, Job]) -> asyncio.Task[Job]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
