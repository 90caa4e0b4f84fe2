"""What becomes of jobs that a starting daemon finds in its journal. Pure."""

from __future__ import annotations

from dataclasses import replace

from wsclean_workerd.events import ArmTimer, AttachJob, Instruction, ResolveLaunch, Timer
from wsclean_workerd.model import Instant, Job, JobState, Patience
from wsclean_workerd.steps import arm_queue, terminate


def recover(job: Job, now: Instant, patience: Patience) -> list[Instruction]:
    """Say what is to be done for a job found in the journal at the start.

    Args:
        job: The job as it was last written, its times on this boot's clock.
        now: The present.
        patience: The waits that hold for it.

    Returns:
        The instructions that bring the daemon back to where it was.
    """
    found: list[Instruction] = []
    match job.state:
        case JobState.QUEUED:
            found = arm_queue(job)
        case JobState.STARTING:
            found = [ResolveLaunch(), ArmTimer(Timer.START, now.boot + patience.start)]
        case JobState.RUNNING:
            # How long it may run is asked when it is known that it does.
            found = [AttachJob()]
        case JobState.STOPPING:
            # Nobody knows whether TERM was sent. So it is now, and its grace period is whole.
            found = [_look(job), *terminate(job, now, patience)]
        case _ if job.lingering and job.ended is not None:
            # However often the daemon starts, what outlives a command has one grace period.
            found = [_look(job), ArmTimer(Timer.LINGER, job.ended.boot + patience.grace)]
    return found


def rebase(job: Job, now: Instant) -> Job:
    """Put the times of a job from an earlier boot on this boot's clock.

    Args:
        job: A job whose boot times were taken before the machine started.
        now: The present.

    Returns:
        The job with boot times as far back as its wall times are.
    """

    def moved(instant: Instant | None) -> Instant | None:
        if instant is None:
            return None
        return Instant(instant.wall, now.boot - (now.wall - instant.wall))

    return replace(
        job,
        submitted=Instant(job.submitted.wall, now.boot - (now.wall - job.submitted.wall)),
        requeued=moved(job.requeued),
        started=moved(job.started),
        ended=moved(job.ended),
    )


def _look(job: Job) -> Instruction:
    # Whether one that was told to end while it started had begun shows in its folder.
    return ResolveLaunch() if job.started is None else AttachJob()
