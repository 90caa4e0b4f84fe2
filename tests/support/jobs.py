"""Jobs and instants for tests that only need some."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from wsclean_workerd.model import Instant, Job, JobId, JobSpec, Order, User


def at(seconds: float) -> Instant:
    """A point in time, so many seconds after the beginning of all tests."""
    return Instant(wall=1_700_000_000.0 + seconds, boot=1000.0 + seconds)


def make_job(job_id: int = 1, **changes: Any) -> Job:
    """A queued job that may run for 100 s and wait for 50 s."""
    command = ("wsclean", "-name", "/stage/im", "/stage/a.ms")
    job = Job(
        id=JobId(job_id),
        spec=JobSpec(command=command, working_directory="/stage"),
        order=Order(
            command=command,
            working_directory="/stage",
            user=User(uid=1000, gid=1000, groups=(20, 44)),
            umask=0o022,
            run_timeout=100.0,
            queue_timeout=50.0,
        ),
        owner=1000,
        submitted=at(0),
    )
    return replace(job, **changes)
