"""What the log says of jobs. Every record carries the job's id (see `journald`)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from wsclean_workerd.model import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wsclean_workerd.model import Job

log = logging.getLogger(__name__)

_LEVELS = {
    # Its submission has just been told, and its end or RUNNING will be.
    JobState.STARTING: logging.DEBUG,
    # Nobody asked for it, unlike all other ends.
    JobState.LOST: logging.WARNING,
}


def found(counts: Mapping[JobState, int], number: int) -> None:
    """There are so many jobs of before, if any."""
    if not number:
        return
    states = ", ".join(f"{count} {state.name}" for state, count in counts.items()) or "none"
    log.info("%d jobs of before: %s", number, states)


def accepted(job: Job) -> None:
    """A job is on disk."""
    log.info("job %s: %s", job.id, " ".join(job.order.command), extra={"job": job.id})


def changed(job: Job) -> None:
    """A job is in another state, which is on disk."""
    why, level, again = job.reason, _LEVELS.get(job.state, logging.INFO), ""
    if job.state is JobState.QUEUED and job.loss:
        why, level = job.loss, logging.WARNING
        again = f" for attempt {job.attempt} of {job.attempts}"
    reason = f": {why.message}" if why else ""
    log.log(level, "job %s is %s%s%s", job.id, job.state.name, again, reason, extra={"job": job.id})
