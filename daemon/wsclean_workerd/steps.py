"""What the steps of a job are made of. Pure; see `wsclean_workerd.state_machine`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from wsclean_workerd.events import ArmTimer, DisarmTimer, Signal, SignalJob, Timer
from wsclean_workerd.model import JobState

if TYPE_CHECKING:
    from wsclean_workerd.events import Instruction
    from wsclean_workerd.model import Instant, Job, Patience, Reason, Stop

    Step = tuple[Job, list[Instruction]]


def arm_queue(job: Job) -> list[Instruction]:
    """What lets a job wait no longer than it may."""
    if job.order.queue_timeout is None:
        return []
    return [ArmTimer(Timer.QUEUE, job.queued.boot + job.order.queue_timeout)]


def arm_run(job: Job) -> list[Instruction]:
    """What lets a job run no longer than it may."""
    if job.order.run_timeout is None or job.started is None:
        return []
    return [ArmTimer(Timer.RUN, job.started.boot + job.order.run_timeout)]


def disarm(*timers: Timer) -> list[Instruction]:
    """What forgets some timers."""
    return [DisarmTimer(timer) for timer in timers]


def end(job: Job, at: Instant, state: JobState, reason: Reason, *, lingering: bool) -> Job:
    """A job that ends now."""
    return replace(job, state=state, reason=reason, ended=at, lingering=lingering)


def stop(job: Job, order: Stop) -> Job:
    """A job that is told to end now."""
    return replace(job, state=JobState.STOPPING, stop=order, reason=order.reason)


def terminate(job: Job, now: Instant, patience: Patience) -> list[Instruction]:
    """What ends a job that was told to: TERM, and KILL after a while.

    One that was lost has nothing that could end well.
    """
    if job.to_run_again:
        return [SignalJob(Signal.KILL)]
    return [SignalJob(Signal.TERM), ArmTimer(Timer.GRACE, now.boot + patience.grace)]
