"""Who may take a slot: what the scheduler is told of jobs, slots and storage. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsclean_workerd import scheduler
from wsclean_workerd.model import JobState, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from wsclean_workerd.model import Job, JobId
    from wsclean_workerd.storage import Storage, Touched


class Admission:
    """The slots, and the line in front of them.

    Args:
        slots: How many jobs may run at once.
        storage: Tells which mounts a job touches.
        unproven: Returns those of some mounts that nothing can be started on yet.

    Attributes:
        slots: As above.
        on_slot: The jobs that take them.
    """

    def __init__(
        self,
        *,
        slots: int,
        storage: Storage,
        unproven: Callable[[Collection[str]], Touched],
    ) -> None:
        self.slots = slots
        self._storage = storage
        self._unproven = unproven
        self._line = scheduler.WaitingLine()
        self.on_slot: set[JobId] = set()
        self._barred: set[JobId] = set()

    @property
    def taken(self) -> int:
        """How many slots are taken."""
        return len(self.on_slot)

    def keep(self, job: Job) -> None:
        """Take note of how a job is now.

        It has its slot and holds its locks until its last process is gone.
        """
        if job.on_slot:
            self.on_slot.add(job.id)
            self._line.hold(job.id, job.order.locks)
        else:
            self.on_slot.discard(job.id)
            self._line.release(job.id, job.order.locks)
        if job.state is JobState.QUEUED and job.id not in self._barred:
            self._line.add(job.id, self._storage.touched(job.order), job.order.locks)
        else:
            self._line.discard(job.id)

    def forget(self, job: Job) -> None:
        """Forget a job, as if it had never been."""
        self.on_slot.discard(job.id)
        self._line.release(job.id, job.order.locks)
        self._line.discard(job.id)

    def bar(self, job_id: JobId) -> None:
        """Let no slot be given to a job, although it waits, until it is not barred."""
        self._barred.add(job_id)
        self._line.discard(job_id)

    def unbar(self, job_id: JobId, job: Job | None) -> None:
        """Let a job that was barred wait in its place again, if it is there and waits."""
        self._barred.discard(job_id)
        if job is not None:
            self.keep(job)

    def passes(self, job: Job) -> bool:
        """Whether a new job can start at once and takes nothing from one that waits."""
        if self.taken >= self.slots:
            return False
        touched, locks = self._storage.touched(job.order), job.order.locks
        unproven = self._unproven(touched | self._line.mounts())
        return (
            touched.isdisjoint(unproven)
            and self._line.first(unproven) is None
            and self._line.obstacle(job.id, touched, locks, unproven) is None
        )

    def first(self) -> JobId | None:
        """The job that is the next to get a slot if one is free and it can start, or None."""
        if self.taken >= self.slots:
            return None
        return self._line.first(self._unproven(self._line.mounts()))

    def choose(self) -> list[JobId]:
        """Give out the free slots; the jobs that get one wait no longer."""
        if self.taken >= self.slots:
            return []
        unproven = self._unproven(self._line.mounts())
        chosen = scheduler.admit(self._line, unproven, taken=self.taken, slots=self.slots)
        self.on_slot.update(chosen)
        return chosen

    def why(self, job: Job) -> Reason | None:
        """Why a job waits, or None if it is only for a slot."""
        touched = self._storage.touched(job.order)
        if reason := self._storage.why(touched):
            return reason
        hung = self._storage.hung()
        obstacle = self._line.obstacle(job.id, touched, job.order.locks, hung)
        if obstacle is None:
            return None
        if obstacle.held:
            message = f"waits for {obstacle.lock}, held by job {obstacle.job}"
            return Reason("LOCK_HELD", message)
        message = f"waits for {obstacle.lock}, which job {obstacle.job} is to have first"
        return Reason("LOCK_PROMISED", message)
