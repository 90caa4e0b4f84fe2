"""Which jobs are to start next, in the plainest words: what the scheduler has to come to."""

from __future__ import annotations

from dataclasses import dataclass

from wsclean_workerd.model import Job, JobId


@dataclass(frozen=True, slots=True)
class Queue:
    """Those that wait, and whom they wait for.

    Attributes:
        waiting: The jobs that wait, in any order.
        on_slots: Those that take slots.
        hung: The folders in which none can start.
        slots: How many jobs may run at once.
    """

    waiting: list[Job]
    on_slots: list[Job]
    hung: frozenset[str]
    slots: int

    def next(self) -> list[JobId]:
        """The jobs that are to start now, in this order."""
        taken = {lock for job in self.on_slots for lock in job.order.locks}
        chosen: list[JobId] = []
        for job in sorted(self.waiting, key=lambda each: each.id):
            if len(self.on_slots) + len(chosen) >= self.slots:
                break
            if not self.hung.isdisjoint([job.order.working_directory, *job.order.command]):
                continue
            if taken.isdisjoint(job.order.locks):
                chosen.append(job.id)
            # Whether they are its own now or kept for it: no younger one may have them.
            taken.update(job.order.locks)
        return chosen
