"""What becomes of a job that has left no exit status, and when it may run again. Pure.

The rules:

* A command runs again only if the caller allowed it, only when every process of the attempt
  before is gone, and never after an exit status or an order to end.
* What is left of an attempt without a status is killed first. The job is STOPPING meanwhile,
  told to end LOST; any other order to end takes the place of that one.
* News of an attempt that is over, which may come late, mean nothing to the next one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from wsclean_workerd.events import ArmTimer, ForgetLaunch, News, Timer
from wsclean_workerd.model import JobState, Stop
from wsclean_workerd.steps import arm_queue, disarm, end, stop, terminate

if TYPE_CHECKING:
    from wsclean_workerd.events import CancelRequested, Event, Instruction, JobGone, StatusLost
    from wsclean_workerd.model import Instant, Job, Patience, Reason
    from wsclean_workerd.steps import Step


def outdated(job: Job, event: Event) -> bool:
    """Whether an event is news of a start that has been settled: another one follows, or has."""
    if not isinstance(event, News) or event.launch is None:
        return False
    settled = job.launch if job.state is JobState.QUEUED else job.launch - 1
    return event.launch <= settled


def vanish(job: Job, event: JobGone, _patience: Patience) -> Step:
    """All processes of a job are gone, and nobody told it to end: it runs again or is lost."""
    if job.retries_left:
        return _run_again(job, event.at, event.reason)
    ended = end(job, event.at, JobState.LOST, event.reason, lingering=False)
    return ended, disarm(*Timer)


def lose_status(job: Job, event: StatusLost, patience: Patience) -> Step:
    """Some processes are left of a job, and nobody told it to end before that."""
    if job.retries_left:
        stopping = stop(job, Stop(JobState.LOST, event.reason))
        return stopping, [
            *disarm(Timer.START, Timer.RUN),
            *terminate(stopping, event.at, patience),
        ]
    ended = end(job, event.at, JobState.LOST, event.reason, lingering=True)
    return ended, _linger(event.at, patience)


def vanish_stopping(job: Job, event: Event, _patience: Patience) -> Step:
    """All processes are gone of a job that was told to end, or there never were any."""
    if job.to_run_again:
        return _run_again(job, event.at, order_to_end(job).reason)
    return end_as_told(job, event.at, lingering=False), disarm(*Timer)


def lose_status_stopping(job: Job, event: StatusLost, patience: Patience) -> Step:
    """Some processes are left of a job that was told to end."""
    if job.to_run_again:
        return job, []
    return end_as_told(job, event.at, lingering=True), _linger(event.at, patience)


def cancel_stopping(job: Job, event: CancelRequested, _patience: Patience) -> Step:
    """Somebody wants a job to end that has been told to: if that was to run again, it is not."""
    if job.to_run_again:
        return stop(job, Stop(JobState.CANCELLED, event.reason)), []
    return job, []


def end_as_told(job: Job, at: Instant, *, lingering: bool) -> Job:
    """A job that ends now in the state that it was told to end in."""
    order = order_to_end(job)
    return end(job, at, order.state, order.reason, lingering=lingering)


def order_to_end(job: Job) -> Stop:
    """How a job was told to end.

    Raises:
        ValueError: If nobody did, which is a defect.
    """
    if job.stop is None:
        raise ValueError(f"job {job.id} is stopping and nobody told it to: {job!r}")
    return job.stop


def _linger(at: Instant, patience: Patience) -> list[Instruction]:
    return [*disarm(*Timer), ArmTimer(Timer.LINGER, at.boot + patience.grace)]


def _run_again(job: Job, at: Instant, reason: Reason) -> Step:
    queued = replace(
        job,
        state=JobState.QUEUED,
        attempt=job.attempt + 1,
        loss=reason,
        requeued=at,
        reason=None,
        stop=None,
        refusals=0,
        container=None,
        started=None,
    )
    return queued, [*disarm(*Timer), ForgetLaunch(), *arm_queue(queued)]
